"""threads.py [N]: N threads that wait, each with a small stack."""

import sys
import threading

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 100

forever = threading.Lock()
forever.acquire()
threading.stack_size(256 * 1024)
threads = [threading.Thread(target=forever.acquire, daemon=True) for _ in range(COUNT)]
for thread in threads:
    thread.start()

serve.serve()
