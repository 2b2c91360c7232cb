/* A console inside a target: what glibc says of its own malloc, and allocations that are known exactly.
 *
 * `console` reads a line from descriptor 0, does what it says, answers, writes END, and waits for the next
 * one, in memory that is static throughout: between an answer and our look nothing is allocated. Built
 * without a C library, so that it binds to whichever the interpreter has (mallinfo2 is absent up to 2.32).
 *
 *   i              mallinfo2: arena ordblks hblks hblkhd fsmblks uordblks fordblks keepcost
 *   t              malloc_trim(0), and what it returned
 *   a COUNT SIZE   malloc, all bytes written; the chunks are planted: numbered from 0 on
 *   c COUNT SIZE   calloc, never written; planted
 *   m ALIGN SIZE   posix_memalign, written; planted
 *   f FIRST STEP COUNT   free each STEPth planted chunk from number FIRST on, COUNT of them
 *   l              each planted chunk: address, malloc_usable_size (0: freed)
 *   s BYTES        sbrk behind malloc's back, written
 *   w              start a worker thread named worker-N; prints its tid
 *   @N LINE        the worker N does LINE
 *   p ADDRESS WORD overwrites a word; prints what it was
 *   P ADDRESS WORD COUNT   overwrites COUNT words with the same
 *   r ADDRESS      prints a word
 *   q              back to Python
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma weak mallinfo2
#pragma weak mallinfo

enum { MOST = 1 << 17, WORKERS = 64 };

static char *planted[MOST];
static unsigned long count;
static char out[1 << 22], line[4096];
static unsigned long length;

static void put(const char *text) {
    while (*text) out[length++] = *text++;
}

static void number(unsigned long n) {
    char digits[24], *at = digits + 23;
    *at = 0;
    do *--at = '0' + n % 10; while (n /= 10);
    put(at);
    put(" ");
}

static void flush(void) {
    unsigned long done = 0;
    while (done < length) done += write(1, out + done, length - done);
    length = 0;
}

static unsigned long parse(char **at) {
    while (**at == ' ') ++*at;
    return strtoul(*at, at, 0);
}

static void plant(char *chunk, unsigned long size, int touch) {
    if (touch) memset(chunk, 0x55, size);
    planted[count++] = chunk;
}

static void tell(void) {
    static struct mallinfo2 m;
    if (mallinfo2) {
        m = mallinfo2();
    } else {
        struct mallinfo old = mallinfo();
        m = (struct mallinfo2){(unsigned)old.arena, (unsigned)old.ordblks, (unsigned)old.smblks,
            (unsigned)old.hblks, (unsigned)old.hblkhd, (unsigned)old.usmblks, (unsigned)old.fsmblks,
            (unsigned)old.uordblks, (unsigned)old.fordblks, (unsigned)old.keepcost};
    }
    number(m.arena), number(m.ordblks), number(m.hblks), number(m.hblkhd);
    number(m.fsmblks), number(m.uordblks), number(m.fordblks), number(m.keepcost);
}

/* Workers wait in a read of their pipe: condition variables bind to an old version that allocates. */
static struct worker {
    pthread_t thread;
    int todo[2], done[2];
    long tid;
    char name[16];
} workers[WORKERS];
static int started;
static char *words_of_worker;

static void run(char *words);

static void *work(void *of) {
    struct worker *me = of;
    char byte;
    prctl(PR_SET_NAME, me->name);
    me->tid = syscall(SYS_gettid);
    for (;;) {
        write(me->done[1], "x", 1);
        if (read(me->todo[0], &byte, 1) != 1) return 0;
        run(words_of_worker);
    }
}

static void start(void) {
    struct worker *one = &workers[started];
    char byte;
    pipe(one->todo), pipe(one->done);
    memcpy(one->name, "worker-", 8);
    one->name[7] = '0' + started / 10, one->name[8] = '0' + started % 10;
    started++;
    pthread_create(&one->thread, 0, work, one);
    read(one->done[0], &byte, 1);
    number(one->tid);
}

static void hand_over(struct worker *to, char *words) {
    char byte;
    words_of_worker = words;
    write(to->todo[1], "x", 1);
    read(to->done[0], &byte, 1);
}

static void run(char *words) {
    char what = *words++;
    unsigned long a, b, c, i;
    void *chunk;
    switch (what) {
    case 'i': tell(); break;
    case 't': number(malloc_trim(0)); break;
    case 'a': case 'c':
        a = parse(&words), b = parse(&words);
        for (i = 0; i < a; i++) plant(what == 'a' ? malloc(b) : calloc(1, b), b, what == 'a');
        break;
    case 'm':
        a = parse(&words), b = parse(&words);
        if (posix_memalign(&chunk, a, b) == 0) plant(chunk, b, 1);
        break;
    case 'f':
        a = parse(&words), b = parse(&words), c = parse(&words);
        for (i = a; c-- && i < count; i += b) free(planted[i]), planted[i] = 0;
        break;
    case 'l':
        for (i = 0; i < count && length < sizeof out - 100; i++) {
            number((uintptr_t)planted[i]);
            number(planted[i] ? malloc_usable_size(planted[i]) : 0);
        }
        break;
    case 's':
        a = parse(&words);
        chunk = sbrk(a);
        if (chunk != (void *)-1) memset(chunk, 0x77, a), number((uintptr_t)chunk);
        break;
    case 'w': start(); break;
    case '@': a = parse(&words); hand_over(&workers[a], words + 1); break;
    case 'p':
        a = parse(&words), b = parse(&words);
        number(*(unsigned long *)a);
        *(unsigned long *)a = b;
        break;
    case 'P':
        a = parse(&words), b = parse(&words), c = parse(&words);
        for (i = 0; i < c; i++) ((unsigned long *)a)[i] = b;
        break;
    case 'r': number(*(unsigned long *)parse(&words)); break;
    }
}

void console(void) {
    long got = 1;
    do {
        if (length) put("\n");
        put("END\n");
        flush();
        got = read(0, line, sizeof line - 1);
        if (got <= 0 || line[0] == 'q') return;
        line[got] = 0;
        run(line);
    } while (1);
}
