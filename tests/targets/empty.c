// A shared library with one function, to have a file of that name mapped.
int empty_library(void) { return 7; }
