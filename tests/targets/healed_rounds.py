"""healed_rounds.py AGENT: keeps a few of many objects, and purges when it is told to.

    churn SEED   makes 60000 objects and drops most of them, old ones too
    purge        pydefrag's agent, the library AGENT, purges; its answer
"""

import importlib.machinery
import importlib.util
import os
import random
import sys

import serve


def load(path):
    loader = importlib.machinery.ExtensionFileLoader("_agent", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("_agent", loader))
    loader.exec_module(module)
    return module


AGENT = load(sys.argv[1])
KEPT = []


def make(i, share):
    k = int(share * 40)
    if k < 20:
        return "k%d:%s" % (i, "x" * (k * 20))
    return (i, k, str(i)) if k < 30 else [i] * (k - 29)


def churn(seed):
    draw = random.Random(int(seed))
    new = [make(i, draw.random()) for i in range(60000)]
    # Of half of the rounds a part survives that lies together.
    whole = new[1000:3000] if int(seed) % 2 else []
    KEPT[:] = [one for one in KEPT + new if draw.random() < 0.02] + whole


def purge():
    os.write(1, AGENT.call('{"do":"purge"}').encode() + b"\n")


serve.serve({"churn": churn, "purge": purge}, also=["churn 0", "churn 1"])
