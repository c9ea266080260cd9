/*
 * The allocator that is handed down.
 *
 * Decides: nothing; it lets the owner of a component say where its memory comes from, count it, cap it, or fail the N-th
 * request in a test. Frees carry the size, so that an allocator can keep exact accounts without headers of its own.
 * An allocator belongs to one thread.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>

struct alloc {
    /* `size` 0 frees; `ptr` NULL allocates; otherwise resizes. `old` is the size given before. NULL: no memory, and the
     * old block is untouched. */
    void *(*fn)(void *arg, void *ptr, size_t old, size_t size);
    void *arg;
};

/* The C library's allocator. */
extern const struct alloc alloc_libc;

/* Returns zeroed memory, owned by the caller, or NULL. */
void *alloc_get(const struct alloc *a, size_t size);
/* Resizes; bytes above `old` are not cleared. NULL leaves `ptr` as it was. */
void *alloc_resize(const struct alloc *a, void *ptr, size_t old, size_t size);
/* `ptr` may be NULL. */
void alloc_put(const struct alloc *a, void *ptr, size_t size);
/* A copy of a NUL-terminated string; free with alloc_put_str(). */
char *alloc_str(const struct alloc *a, const char *s);
void alloc_put_str(const struct alloc *a, char *s);

/* Counts and caps what another allocator gives: a room's memory budget, and the tests' way to fail the N-th request. */
struct alloc_budget {
    struct alloc alloc;         /* hand this one down */
    const struct alloc *parent; /* borrowed for the budget's life */
    size_t used_bytes;
    size_t max_bytes; /* SIZE_MAX: no cap */
    long fail_after;  /* requests that still succeed; negative: all */
};

/* `parent` is borrowed until the last byte has been given back. */
void alloc_budget_init(struct alloc_budget *b, const struct alloc *parent, size_t max_bytes);

#endif
