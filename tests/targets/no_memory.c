// Preloaded into pydefrag: forbids it all ways to another process's memory, as a security module may.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

static int is_memory(const char *path) {
    size_t n = strlen(path);
    return n > 4 && !strncmp(path, "/proc/", 6) && !strcmp(path + n - 4, "/mem");
}

static int refuse(void) {
    errno = EPERM;
    return -1;
}

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        static int (*real)(const char *, int, ...);                           \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        int mode = va_arg(rest, int);                                         \
        va_end(rest);                                                         \
        if (is_memory(path)) return refuse();                                 \
        if (!real) real = dlsym(RTLD_NEXT, #name);                            \
        return real(path, flags, mode);                                       \
    }
OPEN(open)
OPEN(open64)

ssize_t process_vm_readv(pid_t pid, const struct iovec *to, unsigned long n, const struct iovec *from,
                         unsigned long m, unsigned long flags) {
    return refuse();
}
