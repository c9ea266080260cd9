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
    char key[];
};

static size_t entry_size(const char *key)
{
    return sizeof(struct map_entry) + strlen(key) + 1;
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
        alloc_put(map_alloc, e, entry_size(e->key));
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

bool map_put(struct map *m, const char *key, void *value)
{
    ASSERT(value);
    const struct alloc *map_alloc = m->alloc;
    struct map_entry *e = find(m, key);
    if (e) {
        e->value = value;
        return true;
    }
    size_t size = entry_size(key);
    e = alloc_get(m->alloc, size);
    if (!e)
        return false;
    memcpy(e->key, key, strlen(key) + 1);
    e->value = value;
    HASH_ADD_KEYPTR(hh, m->head, e->key, strlen(e->key), e);
    if (!e->hh.tbl) {
        alloc_put(m->alloc, e, size);
        return false;
    }
    m->count++;
    return true;
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
    alloc_put(m->alloc, e, entry_size(e->key));
    return value;
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
    *it = e ? (struct map_iter){e->key, e->value, e->hh.next} : (struct map_iter){NULL, NULL, NULL};
}
