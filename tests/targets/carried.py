"""carried.py LIBRARY: loads an allocator as a library of its own and has 40 MiB from it."""

import ctypes
import sys

import serve

library = ctypes.CDLL(sys.argv[1])
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
pieces = [library.malloc(64 << 10) for _ in range(640)]
for piece in pieces:
    ctypes.memset(piece, 1, 64 << 10)

serve.serve()
