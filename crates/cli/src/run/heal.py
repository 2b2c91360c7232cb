# With `--fix`, before the hook itself: loads pydefrag's agent and has it start. Nothing else is left behind. The
# lines before these define AGENT (its file, beside this one) and ASK (what it is asked for).


def heal():
    import os
    import sys

    known = set(sys.modules)
    try:
        import _imp
        from _frozen_importlib import ModuleSpec
        from _frozen_importlib_external import ExtensionFileLoader

        path = os.path.join(os.path.dirname(__file__), AGENT)
        loader = ExtensionFileLoader("_agent", path)
        spec = ModuleSpec("_agent", loader, origin=path)
        agent = _imp.create_dynamic(spec)
        _imp.exec_dynamic(agent)
        agent.call(ASK)
    except Exception:
        pass
    finally:
        for name in set(sys.modules) - known:
            sys.modules.pop(name, None)


heal()
del heal, AGENT, ASK

