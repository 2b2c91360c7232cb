"""Blocks that the C library's strdup makes, each where glibc's own backtrace(3) is asked too, from the same line.

Prints a line of JSON per place: the size of the block, and the C functions that called strdup, innermost first, as
[file, address that the file states for the call, exported symbol that this belongs to or null].
"""
import ctypes
import json
import struct
import threading


class Where(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


# PyDLL keeps the GIL: whoever runs without it has no stack in a recording.
libc = ctypes.PyDLL(None)
libc.strdup.restype = ctypes.c_void_p
libc.strdup.argtypes = [ctypes.c_void_p, ctypes.c_int]
libc.backtrace.argtypes = [ctypes.c_void_p, ctypes.c_int]
libc.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Where)]
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


def is_fixed(file):
    """Whether a file states the addresses that it has in a process (ET_EXEC)."""
    with open(file, "rb") as f:
        return struct.unpack("<H", f.read(18)[16:18])[0] == 2


def frames(addresses):
    """The first address is of who called backtrace."""
    told = []
    for address in addresses:
        where = Where()
        # The call comes before where it returns to.
        assert libc.dladdr(address - 1, ctypes.byref(where))
        file = where.file.decode()
        symbol = where.symbol.decode() if where.symbol else None
        told.append([file, address - 1 - (0 if is_fixed(file) else where.base), symbol])
    return told


def plant(size):
    buffer = (ctypes.c_void_p * 300)()
    text = ctypes.create_string_buffer(b"x" * (size - 1))
    for call, at in ((libc.backtrace, buffer), (libc.strdup, text)):
        came = call(ctypes.addressof(at), 300)
        if at is buffer:
            addresses = buffer[:came]
    print(json.dumps([size, frames(addresses)]), flush=True)


def through_python(size, depth):
    plant(size) if depth == 0 else through_python(size, depth - 1)


def through_c(size):
    """C calls Python calls C: the loop that runs is not the first of this thread."""
    sorted([size], key=plant)
    CALLBACK(lambda size: plant(size) or 0)(size + 1)


# It loads what it needs when it is first called.
libc.backtrace((ctypes.c_void_p * 300)(), 300)
plant(700_001)
through_python(700_101, 150)
through_c(700_201)
thread = threading.Thread(target=plant, args=(700_301,))
thread.start()
thread.join()
thread = threading.Thread(target=through_c, args=(700_401,))
thread.start()
thread.join()
print("done")
