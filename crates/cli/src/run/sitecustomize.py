# pydefrag's hook, first on PYTHONPATH while a program starts under `pydefrag run`. It undoes its own
# traces, says hello, and has Python wait at the very end until pydefrag has looked. It then gives way to
# the sitecustomize that it hides, if there is one.
#
# The lines before these define FD, DEVICE, INODE (the socket), FORMER (PYTHONPATH was "unset", "empty" or
# "set") and PATIENCE (seconds).


def hook():
    import atexit
    import os
    import sys
    import time

    folder = os.path.dirname(__file__)
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path_importer_cache.pop(folder, None)
    if getattr(sys, "pycache_prefix", None):
        # This file's bytecode was kept in a place that is not ours.
        try:
            kept = __spec__.cached
            os.unlink(kept)
            while True:
                kept = os.path.dirname(kept)
                if kept == sys.pycache_prefix:
                    break
                os.rmdir(kept)
        except (OSError, AttributeError, TypeError):
            pass

    value = os.environ.get("PYTHONPATH", "")
    if folder not in value:
        # An interpreter inside a process that has been here already.
        return
    # With one separator: a launcher may have put folders before or after it, and an empty entry is the
    # working directory.
    for ours in (folder + os.pathsep, os.pathsep + folder, folder):
        if ours in value:
            value = value.replace(ours, "", 1)
            break
    if value or FORMER != "unset":
        os.environ["PYTHONPATH"] = value
    else:
        del os.environ["PYTHONPATH"]

    # Whatever the program does to names and modules, these stay what they are.
    def end(
        fd=FD,
        place=(DEVICE, INODE),
        pid=os.getpid(),
        me=b"%d" % os.getpid(),
        patience=PATIENCE,
        getpid=os.getpid,
        fstat=os.fstat,
        read=os.read,
        write=os.write,
        sleep=time.sleep,
        clock=time.monotonic,
        full=BlockingIOError,
        anything=BaseException,
    ):
        try:
            # A fork has nothing to wait for; another number's descriptor is not ours.
            if getpid() != pid:
                return
            status = fstat(fd)
            if (status.st_dev, status.st_ino) != place:
                return
            until = clock() + patience
            pause = 0.0001
            told = False
            while clock() < until:
                message = None
                try:
                    # Before anything is written: nobody there is no reason for a SIGPIPE.
                    message = read(fd, 64)
                    if message == me or not message:
                        return
                    # For another process that waits here too.
                    write(fd, b"pass " + message)
                except full:
                    pass
                if not told:
                    try:
                        write(fd, b"end " + me)
                        told = True
                    except full:
                        pass
                sleep(pause)
                pause = 0.0001 if message else pause * 1.3 if pause < 0.004 else 0.005
        except anything:
            pass

    status = os.fstat(FD)
    if (status.st_dev, status.st_ino) != (DEVICE, INODE):
        return
    os.set_inheritable(FD, False)
    os.set_blocking(FD, False)
    os.write(FD, b"hello %d" % os.getpid())
    atexit.register(end)


try:
    hook()
except Exception:
    pass
del hook

import sys

del sys.modules["sitecustomize"]
del sys
# Where there is none, site expects just this ImportError.
import sitecustomize
