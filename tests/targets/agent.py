"""Loads the agent that PYDEFRAG_AGENT names into this process, and talks to it."""

import importlib.machinery
import importlib.util
import json
import os

PATH = os.environ["PYDEFRAG_AGENT"]


def load():
    loader = importlib.machinery.ExtensionFileLoader("_agent", PATH)
    spec = importlib.util.spec_from_file_location("_agent", PATH, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


MODULE = load()


def call(do, **more):
    """What was done. Raises where it was refused."""
    answer = json.loads(MODULE.call(json.dumps(dict(more, do=do))))
    if "refused" in answer:
        raise RuntimeError(answer["refused"])
    return answer["done"]


def purge(**more):
    """A purge of which nothing may be invalid."""
    done = call("purge", **more)
    assert done["invalid"] == 0, done
    return done


def field(name):
    """A field of /proc/self/smaps_rollup, in bytes."""
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith(name + ":"))


def weight():
    """Resident bytes of the agent's library in this process."""
    its, total = False, 0
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            words = line.split()
            if not words[0].endswith(":"):
                its = line.rstrip().endswith(os.path.basename(PATH))
            elif its and words[0] == "Rss:":
                total += int(words[1]) * 1024
    return total
