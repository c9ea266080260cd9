/*
 * A hash table from a number to a pointer, on uthash. Walking visits entries in the order they were added. Values are the
 * caller's; memory comes only from the allocator given.
 */
#ifndef BASE_UMAP_H
#define BASE_UMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

struct umap_entry;

struct umap {
    struct umap_entry *head;
    size_t count;
    const struct alloc *alloc;
};

void umap_init(struct umap *m, const struct alloc *alloc);
/* Frees the table, not the values. */
void umap_deinit(struct umap *m);
void *umap_get(const struct umap *m, uint64_t key);
/* Adds or replaces. False: no memory, the table is as it was. */
bool umap_put(struct umap *m, uint64_t key, void *value);
/* Removes the key; returns its value, or NULL if it was not there. */
void *umap_del(struct umap *m, uint64_t key);
/* The oldest entry's value, or NULL. */
void *umap_oldest(const struct umap *m);

/* Walking. The entry handed out may be deleted before the next step; others may not. */
struct umap_iter {
    uint64_t key;
    void *value; /* NULL at the end */
    struct umap_entry *next;
};

struct umap_iter umap_first(const struct umap *m);
void umap_next(struct umap_iter *it);

#endif
