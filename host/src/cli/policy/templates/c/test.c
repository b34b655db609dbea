/* The logic without WebAssembly: cc -Wall -o test test.c decide.c && ./test */
#include <stdio.h>
#include <string.h>

#include "decide.h"

static int failed;

static text of(const char *bytes)
{
    return (text){bytes, strlen(bytes)};
}

static void expect(const char *rule, const char *process, int suppressed)
{
    if ((decide(of(rule), of(process))[0] != '\0') != suppressed) {
        printf("wrong: %s by %s\n", rule, process);
        failed = 1;
    }
}

int main(void)
{
    expect("File in memory", "node", 1);
    expect("File in memory", "sh", 0);
    expect("File in memory", "nodejs", 0);
    expect("Read credentials", "node", 0);
    puts(failed ? "failed" : "ok");
    return failed;
}
