# First on PYTHONPATH of a process that runs tests: undoes its own traces, loads the agent where there is one, and
# writes at the very end what the agent has done. The processes that a test starts know nothing of it.


def hook():
    import os
    import sys

    folder = os.path.dirname(__file__)
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path_importer_cache.pop(folder, None)
    rest = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [entry for entry in rest if entry not in ("", folder)]
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)
    library = os.environ.pop("PYDEFRAG_SUITES_AGENT", "")
    status = os.environ.pop("PYDEFRAG_SUITES_STATUS", "")
    if not library:
        return

    # What `import` itself stands on: no module that a program would not have is loaded for this.
    import _frozen_importlib
    import _frozen_importlib_external
    import atexit

    def end(pid=os.getpid(), getpid=os.getpid, open=open):
        if getpid() == pid:
            with open(status, "w") as file:
                file.write(call('{"do": "status"}'))

    # Before the agent's own, and so after it.
    atexit.register(end)
    loader = _frozen_importlib_external.ExtensionFileLoader("_agent", library)
    spec = _frozen_importlib.ModuleSpec("_agent", loader, origin=library)
    agent = _frozen_importlib.module_from_spec(spec)
    loader.exec_module(agent)
    call = agent.call
    # A line on stderr would be in the way of tests that read it.
    answer = call('{"do": "auto", "every_ms": 50, "always": true}')
    if '"done"' not in answer:
        raise ImportError(answer)


hook()
del hook

import sys

del sys.modules["sitecustomize"]
del sys
# Where there is none, site expects just this ImportError.
import sitecustomize
