"""Prints all that a program can easily see of how it was started, then exits with the code in its argument.

Whether it runs under something or not, it should print the same. Two things are left out: `atexit` among the
modules, and descriptors of high numbers.
"""

import sys

MODULES = sorted(set(sys.modules) - {"atexit"})
CACHED = sorted(sys.path_importer_cache)
DEPTH = 0
FRAME = sys._getframe()
while FRAME:
    DEPTH, FRAME = DEPTH + 1, FRAME.f_back
MAIN = sys.modules["__main__"]

import os


def show(name, value):
    print("%s: %r" % (name, value), flush=True)


show("argv", sys.argv)
show("orig_argv", getattr(sys, "orig_argv", None))
show("executable", (sys.executable, sys.prefix, sys.exec_prefix))
show("main", sorted(vars(MAIN)))
show("main file", getattr(MAIN, "__file__", None))
show("main spec", getattr(MAIN.__spec__, "name", None))
show("main loader", type(getattr(MAIN, "__loader__", None)).__name__)
show("path", sys.path)
show("importers", CACHED)
show("flags", sys.flags)
show("xoptions", sys._xoptions)
show("depth", DEPTH)
show("modules", MODULES)
show("sitecustomize", getattr(sys.modules.get("sitecustomize"), "__file__", None))
for pair in os.environ.items():
    show("environment", pair)
show("descriptors", sorted(int(n) for n in os.listdir("/proc/self/fd") if int(n) < 100))
with open(os.devnull) as opened:
    show("next descriptor", opened.fileno())
with open("/proc/self/status") as status:
    for line in status:
        if line.startswith(("Sig", "ShdPnd", "NoNewPrivs", "Threads", "Groups")) and "SigQ" not in line:
            show("status", line)
with open("/proc/self/limits") as limits:
    show("limits", limits.read())
show("cwd", os.getcwd())
umask = os.umask(0)
os.umask(umask)
show("umask", umask)
show("nice", os.nice(0))
show("group of its parent", os.getpgid(0) == os.getpgid(os.getppid()))
show("session of its parent", os.getsid(0) == os.getsid(os.getppid()))
show("stdin", sys.stdin.read() if not sys.stdin.isatty() else None)

import subprocess

CHILD = "import os, sys; print(sorted(set(sys.modules) - {'atexit'}), sys.path, sys.argv, dict(os.environ))"
CHILD += "; print(sorted(os.listdir('/proc/self/fd')))"
show("child", subprocess.check_output([sys.executable, "-c", CHILD]))
show("child by sh", subprocess.check_output("%s -c \"%s\"" % (sys.executable, CHILD), shell=True))
show("plain child", subprocess.check_output(["cat", "/proc/self/environ"]))
os.system("ls /proc/self/fd | tr '\\n' ' '")
pid = os.fork()
if pid == 0:
    show("fork", sorted(os.environ))
    sys.stdout.flush()
    os._exit(3)
show("fork's code", os.waitpid(pid, 0)[1])

import atexit
import threading

for number in range(3):
    atexit.register(show, "at exit", number)
show("threads", threading.active_count())
sys.stderr.write("to stderr\n")
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
