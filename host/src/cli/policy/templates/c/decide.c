#include "decide.h"

int is(text left, const char *right)
{
    size_t i = 0;
    while (i < left.length && right[i] != '\0' && left.bytes[i] == right[i])
        i++;
    return i == left.length && right[i] == '\0';
}

const char *decide(text rule, text process)
{
    if (is(rule, "File in memory") && is(process, "node"))
        return "Node.js compiles while it runs, in memory";
    return "";
}
