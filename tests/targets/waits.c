// A program that waits for ever, whatever it is linked with.
#include <unistd.h>
extern int empty_library(void) __attribute__((weak));

int main(void) {
    if (empty_library) empty_library();
    write(1, "READY\n", 6);
    for (;;) pause();
}
