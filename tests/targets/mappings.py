"""mappings.py [N]: about N lines in /proc/PID/maps.

One mapping of N pages, of which every second is made read-only: the kernel may not merge them.
"""

import ctypes
import mmap
import sys

import serve

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 10000

pages = mmap.mmap(-1, COUNT * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
for i in range(0, COUNT, 2):
    pages[i * mmap.PAGESIZE] = 1
    if libc.mprotect(address + i * mmap.PAGESIZE, mmap.PAGESIZE, mmap.PROT_READ) != 0:
        raise OSError(ctypes.get_errno(), "mprotect failed at page %d" % i)

serve.serve()
