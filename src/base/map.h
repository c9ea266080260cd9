/*
 * A hash table from a string to a pointer, on uthash.
 *
 * Walking it visits entries in the order they were added, on every machine: simulated runs must be repeatable. Keys are
 * copied unless said otherwise, values are the caller's. Memory comes only from the allocator given.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/alloc.h"

struct map_entry;

struct map {
    struct map_entry *head;
    size_t count;
    const struct alloc *alloc;
};

void map_init(struct map *m, const struct alloc *alloc);
/* Frees the table, not the values. */
void map_deinit(struct map *m);
void *map_get(const struct map *m, const char *key);
/* Adds or replaces. False: no memory, the table is as it was. */
bool map_put(struct map *m, const char *key, void *value);
/* The same, but the key is borrowed until its entry is removed or gets another value (and with it another key): for tables
 * of many values that hold their own name. */
bool map_put_borrowed(struct map *m, const char *key, void *value);
/* Removes the key; returns its value, or NULL if it was not there. */
void *map_del(struct map *m, const char *key);

/* Walking. The entry handed out may be deleted before the next step; others may not.
 *   for (struct map_iter it = map_first(m); it.value; map_next(&it)) ... */
struct map_iter {
    const char *key; /* borrowed from the table */
    void *value;     /* NULL at the end */
    struct map_entry *next;
};

struct map_iter map_first(const struct map *m);
/* From the entry after `key` on; from the first if there is no such key. */
struct map_iter map_after(const struct map *m, const char *key);
void map_next(struct map_iter *it);

#endif
