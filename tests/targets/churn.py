"""churn.py [bursts]: allocates and frees small objects at full speed, for ever.

With `bursts`, whole arenas come and go as well: many objects are made and dropped at once, over and
over. It ends with its stdin.
"""

import os
import sys
import threading

import serve


def end_with_stdin():
    while os.read(0, 4096):
        pass
    os._exit(0)


def churn():
    window = [None] * 50000
    i = 0
    while True:
        window[i * 7919 % 50000] = b"x" * (i * 31 % 500)
        window[i * 104729 % 50000] = None
        i += 1


def churn_in_bursts():
    i = 0
    while True:
        burst = [b"x" * ((i + k) * 31 % 500) for k in range(60000)]
        survivors = burst[:: 997]
        del burst
        i += len(survivors)


threading.Thread(target=end_with_stdin, daemon=True).start()
serve.ready()
churn_in_bursts() if "bursts" in sys.argv[1:] else churn()
