// A program that looks like CPython and is none. strange HOW: what `_PyRuntime` holds.
//
//   garbage    nothing that makes sense
//   huge       _Py_DebugOffsets of 3.14 with offsets that reach nowhere
//   unmapped   the head of the list of interpreters is no address
//   top        ... is the last address there is
//   cycle      interpreters in a ring
//   long       5,000 interpreters of 1 MiB that overlap, full of pointers to more of the same
//   future     3.99, with nothing in it
//   gilless    3.14 without the GIL, whose list of interpreters is a ring
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t _PyRuntime[512] = {1};
#ifdef PY_VERSION
unsigned long Py_Version = PY_VERSION;
#endif
static uint64_t ring[2][2048];

enum { VERSION = 1, FREE_THREADED, HEAD = 5, SIZE, ID, NEXT };

static void offsets(uint64_t version) {
    memcpy(_PyRuntime, "xdebugpy", 8);
    _PyRuntime[VERSION] = version;
    _PyRuntime[HEAD] = 808;
    _PyRuntime[SIZE] = 16 << 10;
    _PyRuntime[ID] = 16;
    _PyRuntime[NEXT] = 8;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    offsets(0x030e04f0);
    uint64_t *head = &_PyRuntime[808 / 8];
    if (!strcmp(how, "garbage")) {
        memset(_PyRuntime, 0xa5, sizeof _PyRuntime);
    } else if (!strcmp(how, "huge")) {
        _PyRuntime[HEAD] = _PyRuntime[ID] = _PyRuntime[NEXT] = UINT64_MAX - 7;
    } else if (!strcmp(how, "unmapped")) {
        *head = 0x123456789a8;
    } else if (!strcmp(how, "top")) {
        *head = UINT64_MAX - 7;
    } else if (!strcmp(how, "cycle") || !strcmp(how, "gilless")) {
        _PyRuntime[FREE_THREADED] = how[0] == 'g';
        *head = (uint64_t)ring[0];
        ring[0][1] = (uint64_t)ring[1];
        ring[1][1] = (uint64_t)ring[0];
    } else if (!strcmp(how, "long")) {
        uint64_t size = 1 << 20, count = 5000, step = 4096;
        char *at = mmap(0, size + count * step, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (uint64_t i = 0; i < (size + count * step) / 8; i++)
            ((uint64_t *)at)[i] = (uint64_t)at + i * 16 % (size / 2);
        for (uint64_t i = 0; i + 1 < count; i++)
            *(uint64_t *)(at + i * step + 8) = (uint64_t)at + (i + 1) * step;
        *(uint64_t *)(at + (count - 1) * step + 8) = 0;
        _PyRuntime[SIZE] = size - 8;
        *head = (uint64_t)at;
    } else if (!strcmp(how, "future")) {
        _PyRuntime[VERSION] = 0x036300f0;
    }
    write(1, "READY\n", 6);
    for (;;) pause();
}
