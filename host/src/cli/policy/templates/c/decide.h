/* The logic, in plain values: what filter.c binds to WebAssembly, and what test.c tests. */
#ifndef DECIDE_H
#define DECIDE_H

#include <stddef.h>

/* A text that need not end in a zero byte. */
typedef struct {
    const char *bytes;
    size_t length;
} text;

/* Why an alert is suppressed; an empty text keeps it. */
const char *decide(text rule, text process);

int is(text left, const char *right);

#endif
