"""A program that fills free lists. Question beside those of serve.py:

    free   makes floats, tuples, lists and dicts and drops them; answers with a line per kind: its name, then the
           addresses of what was dropped
"""

import os

import serve

LENGTHS = (1, 2, 5, 9, 15)


def make():
    kinds = {"float": [i + 0.5 for i in range(50)], "list": [[i] for i in range(40)]}
    kinds["dict"] = [{i: i} for i in range(40)]
    for n in LENGTHS:
        kinds["tuple%d" % n] = [tuple([i] * n) for i in range(30)]
    return kinds


def free():
    kinds = make()
    lines = ["%s %s\n" % (kind, " ".join(str(id(one)) for one in all)) for kind, all in kinds.items()]
    text = "".join(lines).encode()
    del lines
    kinds.clear()
    os.write(1, text)


serve.serve({"free": free}, also=["free"])
