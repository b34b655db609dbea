/* Memory that is handed out and never taken back: each call of a filter meets a fresh instance, which is then gone. */
#include <stdint.h>

#include "stdlib.h"
#include "string.h"

#define PAGE ((size_t)65536)
#define ALIGNMENT ((size_t)16)

/* Where the linker's own data ends. */
extern unsigned char __heap_base;

static size_t next;

_Noreturn void abort(void)
{
    __builtin_trap();
}

/* Each block is preceded by its size, for realloc. */
void *malloc(size_t size)
{
    if (next == 0)
        next = (size_t)&__heap_base;
    size_t start = (next + sizeof(size_t) + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    size_t end;
    if (start < next || __builtin_add_overflow(start, size, &end))
        return NULL;
    size_t pages = (end + PAGE - 1) / PAGE;
    size_t have = __builtin_wasm_memory_size(0);
    if (pages > have && __builtin_wasm_memory_grow(0, pages - have) == (size_t)-1)
        return NULL;
    ((size_t *)start)[-1] = size;
    next = end;
    return (void *)start;
}

void *realloc(void *old, size_t size)
{
    void *block = malloc(size);
    if (old != NULL && block != NULL) {
        size_t before = ((size_t *)old)[-1];
        memcpy(block, old, before < size ? before : size);
    }
    return block;
}

void free(void *block)
{
    (void)block;
}

void *memcpy(void *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

void *memset(void *to, int byte, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((unsigned char *)to)[i] = (unsigned char)byte;
    return to;
}

size_t strlen(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}
