"""docs/outputs.py: runs the commands whose output stands in the documents, and puts it there afresh.

Between a line `<!-- output: COMMAND -->` and the next line `<!-- /output -->` stands what COMMAND prints.
It is run in the repository with `python3` and `python3.8` being CPython 3.13 and 3.8 and `pydefrag` the
release build, in a pid namespace of its own (which takes root), so that pids are small and other
people's processes stay out of the documents. Pieces for COMMAND:

    look EXAMPLE…      what examples/see does, quietly
    look-json KEY …    the same, but only that key of --json, in one line each
    three              `pydefrag ps` beside all three examples

Run it as: python3 docs/outputs.py [FILE…]
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- output: (.+?) -->\n).*?(<!-- /output -->\n)", re.S)

SHELL = r"""
start() {
    mkfifo "$TMP/in$1" "$TMP/out$1"
    number=$1 program=$2
    shift 2
    ${PYTHON:-python3} "$program" --hold "$@" <"$TMP/in$number" >"$TMP/out$number" &
    eval "exec $number>\"$TMP/in$number\""
    read -r word pid <"$TMP/out$number"
    [ "$word" = READY ]
    rm "$TMP/in$number" "$TMP/out$number"
}
look() {
    program=$1
    shift
    start 5 "examples/$program" "$@"
    pydefrag snapshot "$pid"
}
look_json() {
    key=$1 program=$2
    shift 2
    start 5 "examples/$program" "$@"
    pydefrag snapshot "$pid" --json | python3 -c '
import json, sys
for one in json.load(sys.stdin)["pymalloc"]["'$key'"]:
    print(json.dumps(one))'
}
three() {
    start 5 examples/session_cache.py
    start 6 examples/json_document.py
    start 7 examples/healthy.py
    pydefrag ps
}
"""


def interpreters(folder):
    """Puts python3 and python3.8 into the folder."""
    listed = subprocess.run(
        ["cargo", "xtask", "interpreters", "--list"], cwd=TOP, stdout=subprocess.PIPE, check=True
    )
    found = dict(line.split("\t")[0::3] for line in listed.stdout.decode().splitlines())
    for name, minor in (("python3", "3.13"), ("python3.8", "3.8")):
        (folder / name).symlink_to(found[minor])
    (folder / "pydefrag").symlink_to(TOP / "target/release/pydefrag")


def run(command, folder):
    command = re.sub(r"^look-json", "look_json", command)
    script = SHELL + 'export PATH="%s:$PATH" TMP=%s\n%s\n' % (folder, folder, command)
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-e", "-c", script],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONHASHSEED="0", LC_ALL="C.UTF-8"),
    )
    text = done.stdout.decode()
    if str(TOP) in text:
        sys.exit("a path of this machine in the output of: %s\n%s" % (command, text))
    return text


def main(files):
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=TOP, check=True)
    folder = pathlib.Path(tempfile.mkdtemp())
    interpreters(folder)

    def block(match):
        text = run(match.group(2), folder)
        print("%s: %d lines" % (match.group(2), text.count("\n")))
        return "%s```text\n%s```\n%s" % (match.group(1), text, match.group(3))

    for file in files or [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]:
        old = pathlib.Path(file).read_text()
        pathlib.Path(file).write_text(BLOCK.sub(block, old))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
