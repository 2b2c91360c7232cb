"""healed_workers.py N: a master with a heap full of holes, and N workers that share it; each heals when told.

    workers     their pids
    check WHO   the agent of the master (0) or a worker (1...) checks its preconditions
    heal WHO    it purges; answers with what was done
    churn       every worker allocates and frees, and writes to a part of what it shares
    fill WHO    it allocates for itself, and keeps every twentieth
"""

import gc
import json
import os
import sys

import agent
import serve

COUNT = int(sys.argv[1])
kept = [("k%d" % i) for i in range(300000)]
kept = kept[::20]
catalogue = [(i, str(i)) for i in range(50000)]
own = []


def churn():
    extra = [str(i) * 2 for i in range(30000)]
    own.append(extra[::100])
    for one in catalogue[: 1000 * len(own)]:
        one[1]


def fill():
    # One kind, of which some last: pools of others beside them are free, and pages in theirs.
    made = [("own-%d" % i) if i % 20 == 0 else [i, (i,)] for i in range(300000)]
    own.append(made[::20])


def act(words):
    if words[0] == "check":
        return agent.call("check")
    if words[0] == "heal":
        return agent.call("purge")
    {"churn": churn, "fill": fill}[words[0]]()
    return None


def work(questions, answers):
    while True:
        line = os.read(questions, 4096)
        if not line:
            os._exit(0)
        os.write(answers, json.dumps(act(line.decode().split())).encode() + b"\n")


gc.collect()
gc.freeze()
gc.disable()
workers = []
for _ in range(COUNT):
    theirs, ours = os.pipe()
    answers, ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        for fd in (0, 1, ours, answers) + tuple(fd for worker in workers for fd in worker[1:]):
            os.close(fd)
        work(theirs, ends)
    os.close(theirs)
    os.close(ends)
    workers.append((pid, ours, answers))


def tell(who, words):
    if who == 0:
        return json.dumps(act(words))
    _, ours, answers = workers[who - 1]
    os.write(ours, " ".join(words).encode())
    answer = b""
    while not answer.endswith(b"\n"):
        answer += os.read(answers, 4096)
    return answer.decode().strip()


def one(name):
    def ask(who):
        os.write(1, (tell(int(who), [name]) + "\n").encode())

    return ask


def churn_all():
    for who in range(1, COUNT + 1):
        tell(who, ["churn"])
    os.write(1, b"done\n")


def pids():
    os.write(1, (" ".join(str(worker[0]) for worker in workers) + "\n").encode())


serve.serve({"workers": pids, "check": one("check"), "heal": one("heal"), "fill": one("fill"), "churn": churn_all})
