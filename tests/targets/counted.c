/* Counts what passes through Python's allocators, and marks the trace with the counts of that very moment.

   Preloaded behind pydefrag's library, whose constructor runs after this one: its hooks lie over these. A call that comes from
   within another one is not counted, as there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void *ctx;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
} Allocator;

static Allocator before[3];
static __thread int depth;
static unsigned long allocated, freed, bytes;

static void *count(void *block, size_t size) {
    if (block && depth == 0) {
        allocated++;
        bytes += size;
    }
    return block;
}

static void *counted_malloc(void *ctx, size_t size) {
    Allocator *a = ctx;
    depth++;
    void *block = a->malloc(a->ctx, size);
    depth--;
    return count(block, size);
}

static void *counted_calloc(void *ctx, size_t n, size_t size) {
    Allocator *a = ctx;
    depth++;
    void *block = a->calloc(a->ctx, n, size);
    depth--;
    return count(block, n * size);
}

static void *counted_realloc(void *ctx, void *block, size_t size) {
    Allocator *a = ctx;
    depth++;
    void *to = a->realloc(a->ctx, block, size);
    depth--;
    if (to && block && depth == 0)
        freed++;
    return count(to, size);
}

static void counted_free(void *ctx, void *block) {
    Allocator *a = ctx;
    if (block && depth == 0)
        freed++;
    depth++;
    a->free(a->ctx, block);
    depth--;
}

__attribute__((constructor)) static void install(void) {
    void (*get)(int, Allocator *) = dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
    void (*set)(int, Allocator *) = dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
    if (!get || !set)
        return;
    for (int domain = 1; domain < 3; domain++) {
        get(domain, &before[domain]);
        Allocator ours = {&before[domain], counted_malloc, counted_calloc, counted_realloc, counted_free};
        set(domain, &ours);
    }
}

/* Marks the trace: `counts ALLOCATED FREED BYTES BLOCKS`; BLOCKS is what sys.getallocatedblocks() says. */
int counted_mark(long blocks) {
    int (*mark)(const char *, size_t) = dlsym(RTLD_DEFAULT, "pydefrag_mark");
    char text[200];
    int n = snprintf(text, sizeof text, "counts %lu %lu %lu %ld", allocated, freed, bytes, blocks);
    return mark ? mark(text, n) : -1;
}

/* The same, with the blocks asked for here: the int is gone again when the mark is written. */
int counted_mark_blocks(void) {
    void *(*get)(const char *) = dlsym(RTLD_DEFAULT, "PySys_GetObject");
    void *(*call)(void *, void *) = dlsym(RTLD_DEFAULT, "PyObject_CallObject");
    long (*as_long)(void *) = dlsym(RTLD_DEFAULT, "PyLong_AsLong");
    void (*decref)(void *) = dlsym(RTLD_DEFAULT, "Py_DecRef");
    void *number = call(get("getallocatedblocks"), NULL);
    long blocks = as_long(number);
    decref(number);
    return counted_mark(blocks);
}

#include <malloc.h>
#include <unistd.h>

/* Marks the trace with what malloc says is in use, says READY, and waits for a byte on stdin; allocates nothing meanwhile. */
int counted_wait(void) {
    int (*mark)(const char *, size_t) = dlsym(RTLD_DEFAULT, "pydefrag_mark");
    size_t used = 0;
#if __GLIBC_PREREQ(2, 33)
    used = mallinfo2().uordblks;
#else
    used = (unsigned)mallinfo().uordblks;
#endif
    char text[64], byte;
    int n = snprintf(text, sizeof text, "waits %zu", used);
    int marked = mark ? mark(text, n) : -1;
    n = snprintf(text, sizeof text, "READY %d\n", getpid());
    if (write(1, text, n) != n || read(0, &byte, 1) != 1)
        return -1;
    return marked;
}
