# What CPython runs for `pydefrag fix`, once, in the main thread: it claims the token, loads the agent and has it start.
# Nothing is left behind but the agent; nothing is said but into a file. The lines before these define FOLDER,
# LIBRARY and DEADLINE (seconds of time.monotonic()).


def start():
    import sys

    known = set(sys.modules)
    said = "refused: it was not loaded"
    try:
        import posix
        import time

        try:
            # Who takes the token away decides: we, or whoever does not want this any more.
            posix.unlink(FOLDER + "/token")
        except OSError:
            return
        if time.monotonic() > DEADLINE:
            return
        try:
            import _imp
            from _frozen_importlib import ModuleSpec
            from _frozen_importlib_external import ExtensionFileLoader

            loader = ExtensionFileLoader("_agent", LIBRARY)
            spec = ModuleSpec("_agent", loader, origin=LIBRARY)
            agent = _imp.create_dynamic(spec)
            _imp.exec_dynamic(agent)
            said = agent.call('{"do":"start"}')
        except Exception as e:
            said = "refused: %s: %s" % (type(e).__name__, e)
        try:
            fd = posix.open(FOLDER + "/said", posix.O_WRONLY | posix.O_TRUNC | posix.O_CLOEXEC)
            try:
                posix.write(fd, said.encode("utf-8", "replace") + b"\n")
            finally:
                posix.close(fd)
        except OSError:
            pass
    except KeyboardInterrupt:
        # Ctrl-C is the program's. It gets it again, when this is over.
        import _thread

        _thread.start_new_thread(_thread.interrupt_main, ())
    except Exception:
        pass
    finally:
        for name in set(sys.modules) - known:
            sys.modules.pop(name, None)


start()
