/* See alloc.h. */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void *libc_fn(void *arg, void *ptr, size_t old, size_t size)
{
    (void)arg;
    (void)old;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, size);
}

const struct alloc alloc_libc = {libc_fn, NULL};

void *alloc_get(const struct alloc *a, size_t size)
{
    void *p = a->fn(a->arg, NULL, 0, size);
    if (p)
        memset(p, 0, size);
    return p;
}

void *alloc_resize(const struct alloc *a, void *ptr, size_t old, size_t size)
{
    return a->fn(a->arg, ptr, old, size);
}

void alloc_put(const struct alloc *a, void *ptr, size_t size)
{
    if (ptr)
        a->fn(a->arg, ptr, size, 0);
}

char *alloc_str(const struct alloc *a, const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = a->fn(a->arg, NULL, 0, size);
    if (copy)
        memcpy(copy, s, size);
    return copy;
}

void alloc_put_str(const struct alloc *a, char *s)
{
    if (s)
        a->fn(a->arg, s, strlen(s) + 1, 0);
}

static void *budget_fn(void *arg, void *ptr, size_t old, size_t size)
{
    struct alloc_budget *b = arg;
    if (size == 0) {
        b->used_bytes -= old;
        return b->parent->fn(b->parent->arg, ptr, old, 0);
    }
    if (b->fail_after == 0)
        return NULL;
    if (b->fail_after > 0)
        b->fail_after--;
    size_t others = b->used_bytes - (ptr ? old : 0);
    if (size > b->max_bytes - others)
        return NULL;
    void *p = b->parent->fn(b->parent->arg, ptr, ptr ? old : 0, size);
    if (p)
        b->used_bytes = others + size;
    return p;
}

void alloc_budget_init(struct alloc_budget *b, const struct alloc *parent, size_t max_bytes)
{
    *b = (struct alloc_budget){{budget_fn, b}, parent, 0, max_bytes, -1};
}
