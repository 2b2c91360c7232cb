"""docs/outputs.py: runs the commands whose output stands in the documents, and puts it there afresh.

Between a line `<!-- output: COMMAND -->` and the next line `<!-- /output -->` stands what COMMAND prints.
It is run in the repository with `python3` and `python3.8` being CPython 3.13 and 3.8 and `pydefrag` the
release build, in a pid namespace of its own (which takes root), so that pids are small and other
people's processes stay out of the documents. Pieces for COMMAND:

    pydefrag run …     the report comes last: it goes to stderr, which is shown too
    look EXAMPLE…      starts an example, takes a snapshot of it, and ends it
    tree EXAMPLE…      the same, but of it and all its descendants
    look-json KEY …    as look, but only that key of --json, in one line each
    three              `pydefrag ps` beside three examples
    … | only PART…     of a report only: `head` (RSS and verdict), `bar`, `table`, `table:NAME,NAME…` (these rows
                       and the sum), or any paragraph by the word that it begins with; in the report's order
    start N PROGRAM…   starts a program with --hold: its stdin is descriptor N, its pid $pid
    $TMP               a folder for this command alone

Run it as: python3 docs/outputs.py [FILE…]. It needs root, cargo, CPython 3.13 and 3.8 where
`cargo xtask interpreters --list` finds them, and an idle machine: some outputs are of programs over time.
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
tree() {
    program=$1
    shift
    start 5 "examples/$program" "$@"
    pydefrag snapshot --tree "$pid"
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

ONLY = r"""#!/usr/bin/env python3
import re
import sys

wanted = sys.argv[1:]
head, bar, table, rest = sys.stdin.read().split("\n\n", 3)
said = []
if "head" in wanted:
    said.append(re.search(r"^RSS.*", head, re.M | re.S).group())
if "bar" in wanted:
    said.append(bar)
for part in wanted:
    if part == "table":
        said.append(table)
    elif part.startswith("table:"):
        rows = table.split("\n")
        start = next(i for i, row in enumerate(rows) if row.startswith("MiB")) + 1
        names = (*part[len("table:"):].split(","), "total")
        said.append("\n".join(rows[:start] + [row for row in rows[start:] if row.startswith(names)]))
paragraphs = re.findall(r"^\S.*\n(?: .*\n)*", rest, re.M)
said.append("".join(p for p in paragraphs if p.startswith(tuple(w + " " for w in wanted))).rstrip("\n"))
print("\n\n".join(one for one in said if one))
"""


def interpreters(folder):
    """Puts python3, python3.8, pydefrag and only into the folder."""
    listed = subprocess.run(
        ["cargo", "xtask", "interpreters", "--list"], cwd=TOP, stdout=subprocess.PIPE, check=True
    )
    found = dict(line.split("\t")[0::3] for line in listed.stdout.decode().splitlines())
    for name, minor in (("python3", "3.13"), ("python3.8", "3.8")):
        if minor not in found:
            sys.exit("CPython %s was not found: cargo xtask interpreters" % minor)
        (folder / name).symlink_to(found[minor])
    (folder / "pydefrag").symlink_to(TOP / "target/release/pydefrag")
    (folder / "only").write_text(ONLY)
    (folder / "only").chmod(0o755)


def run(command, folder):
    """What a command prints. It runs beside nothing that an earlier one left."""
    command = re.sub(r"^look-json", "look_json", command)
    with tempfile.TemporaryDirectory() as own:
        script = SHELL + 'export PATH="%s:$PATH" TMP=%s\n%s\n' % (folder, own, command)
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-e", "-c", script],
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONHASHSEED="0", LC_ALL="C.UTF-8"),
        )
        text = done.stdout.decode()
        for path in (TOP, folder, own, pathlib.Path.home()):
            if "%s/" % path in text:
                sys.exit("a path of this machine in the output of: %s\n%s" % (command, text))
        if done.returncode != 0:
            sys.exit("exit code %d of: %s\n%s" % (done.returncode, command, text))
        return text


def main(files):
    if os.geteuid() != 0:
        sys.exit("run it as root: each command gets a pid namespace of its own")
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=TOP, check=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        interpreters(folder)

        def block(match):
            text = run(match.group(2), folder)
            print("%s: %d lines" % (match.group(2), text.count("\n")), flush=True)
            return "%s```text\n%s```\n%s" % (match.group(1), text, match.group(3))

        for file in files or [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]:
            old = pathlib.Path(file).read_text()
            pathlib.Path(file).write_text(BLOCK.sub(block, old))


if __name__ == "__main__":
    main(sys.argv[1:])
