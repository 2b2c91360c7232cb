"""malloc_churn.py: four threads make and drop bytes objects of 600 bytes to 125 kB at full speed, for ever.

They are too large for pymalloc: malloc's arenas, one per thread, change all the time. With
PYTHONMALLOC=malloc every object does. It ends with its stdin.
"""

import os
import random
import threading

import serve


def end_with_stdin():
    while os.read(0, 4096):
        pass
    os._exit(0)


def work(seed):
    draw = random.Random(seed)
    window = []
    while True:
        share = draw.random()
        if share < 0.55:
            size = draw.randrange(600, 3000)
        elif share < 0.9:
            size = draw.randrange(4096, 40000)
        else:
            size = draw.randrange(60000, 125000)
        window.append(b"\x01" * size)
        if len(window) > 2000:
            start = draw.randrange(1500)
            del window[start : start + 400]


threading.Thread(target=end_with_stdin, daemon=True).start()
for number in range(4):
    threading.Thread(target=work, args=(number,), daemon=True).start()
serve.ready()
threading.Event().wait()
