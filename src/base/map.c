/* See map.h. uthash is given the map's allocator through a variable of the function it is expanded in. */
#include "base/map.h"

#include <string.h>
#include <xxhash.h>

#include "base/err.h"

#define uthash_malloc(size) alloc_resize(map_alloc, NULL, 0, (size))
#define uthash_free(ptr, size) alloc_put(map_alloc, (ptr), (size))
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, len, out) ((out) = (unsigned)XXH3_64bits((key), (len)))
#include <uthash.h>

struct map_entry {
    UT_hash_handle hh;
    void *value;
    char copy[]; /* of the key; hh.key points here, or to what was borrowed */
};

static size_t entry_size(const struct map_entry *e)
{
    return sizeof(*e) + (e->hh.key == e->copy ? e->hh.keylen + 1 : 0);
}

void map_init(struct map *m, const struct alloc *alloc)
{
    *m = (struct map){.alloc = alloc};
}

void map_deinit(struct map *m)
{
    const struct alloc *map_alloc = m->alloc;
    struct map_entry *head = m->head, *e, *next;
    HASH_ITER(hh, head, e, next)
    {
        HASH_DEL(head, e);
        alloc_put(map_alloc, e, entry_size(e));
    }
    *m = (struct map){0};
}

static struct map_entry *find(const struct map *m, const char *key)
{
    struct map_entry *e;
    HASH_FIND(hh, m->head, key, strlen(key), e);
    return e;
}

void *map_get(const struct map *m, const char *key)
{
    struct map_entry *e = find(m, key);
    return e ? e->value : NULL;
}

static bool put(struct map *m, const char *key, void *value, bool borrowed)
{
    ASSERT(value);
    const struct alloc *map_alloc = m->alloc;
    size_t len = strlen(key);
    struct map_entry *e = find(m, key);
    if (e) {
        e->value = value;
        if (e->hh.key != e->copy)
            e->hh.key = key; /* the old one may go with the old value */
        return true;
    }
    size_t size = sizeof(*e) + (borrowed ? 0 : len + 1);
    e = alloc_get(m->alloc, size);
    if (!e)
        return false;
    if (!borrowed)
        key = memcpy(e->copy, key, len + 1);
    e->value = value;
    HASH_ADD_KEYPTR(hh, m->head, key, len, e);
    if (!e->hh.tbl) {
        alloc_put(m->alloc, e, size);
        return false;
    }
    m->count++;
    return true;
}

bool map_put(struct map *m, const char *key, void *value)
{
    return put(m, key, value, false);
}

bool map_put_borrowed(struct map *m, const char *key, void *value)
{
    return put(m, key, value, true);
}

void *map_del(struct map *m, const char *key)
{
    const struct alloc *map_alloc = m->alloc;
    struct map_entry *e = find(m, key);
    if (!e)
        return NULL;
    void *value = e->value;
    HASH_DEL(m->head, e);
    m->count--;
    alloc_put(m->alloc, e, entry_size(e));
    return value;
}

struct map_iter map_after(const struct map *m, const char *key)
{
    struct map_entry *e = find(m, key);
    struct map_iter it = {NULL, NULL, e ? e->hh.next : m->head};
    map_next(&it);
    return it;
}

struct map_iter map_first(const struct map *m)
{
    struct map_iter it = {NULL, NULL, m->head};
    map_next(&it);
    return it;
}

void map_next(struct map_iter *it)
{
    struct map_entry *e = it->next;
    *it = e ? (struct map_iter){e->hh.key, e->value, e->hh.next} : (struct map_iter){NULL, NULL, NULL};
}
