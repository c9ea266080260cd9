/* See umap.h. uthash is given the map's allocator through a variable of the function it is expanded in. */
#include "base/umap.h"

#include <xxhash.h>

#include "base/err.h"

#define uthash_malloc(size) alloc_resize(map_alloc, NULL, 0, (size))
#define uthash_free(ptr, size) alloc_put(map_alloc, (ptr), (size))
#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, len, out) ((out) = (unsigned)XXH3_64bits((key), (len)))
#include <uthash.h>

struct umap_entry {
    UT_hash_handle hh;
    void *value;
    uint64_t key;
};

void umap_init(struct umap *m, const struct alloc *alloc)
{
    *m = (struct umap){.alloc = alloc};
}

void umap_deinit(struct umap *m)
{
    const struct alloc *map_alloc = m->alloc;
    struct umap_entry *head = m->head, *e, *next;
    HASH_ITER(hh, head, e, next)
    {
        HASH_DEL(head, e);
        alloc_put(map_alloc, e, sizeof(*e));
    }
    *m = (struct umap){0};
}

static struct umap_entry *find(const struct umap *m, uint64_t key)
{
    struct umap_entry *e;
    HASH_FIND(hh, m->head, &key, sizeof(key), e);
    return e;
}

void *umap_get(const struct umap *m, uint64_t key)
{
    struct umap_entry *e = find(m, key);
    return e ? e->value : NULL;
}

bool umap_put(struct umap *m, uint64_t key, void *value)
{
    ASSERT(value);
    const struct alloc *map_alloc = m->alloc;
    struct umap_entry *e = find(m, key);
    if (e) {
        e->value = value;
        return true;
    }
    e = alloc_get(m->alloc, sizeof(*e));
    if (!e)
        return false;
    e->key = key;
    e->value = value;
    HASH_ADD(hh, m->head, key, sizeof(e->key), e);
    if (!e->hh.tbl) {
        alloc_put(m->alloc, e, sizeof(*e));
        return false;
    }
    m->count++;
    return true;
}

void *umap_del(struct umap *m, uint64_t key)
{
    const struct alloc *map_alloc = m->alloc;
    struct umap_entry *e = find(m, key);
    if (!e)
        return NULL;
    void *value = e->value;
    HASH_DEL(m->head, e);
    m->count--;
    alloc_put(m->alloc, e, sizeof(*e));
    return value;
}

void *umap_oldest(const struct umap *m)
{
    return m->head ? m->head->value : NULL;
}

struct umap_iter umap_first(const struct umap *m)
{
    struct umap_iter it = {0, NULL, m->head};
    umap_next(&it);
    return it;
}

void umap_next(struct umap_iter *it)
{
    struct umap_entry *e = it->next;
    *it = e ? (struct umap_iter){e->key, e->value, e->hh.next} : (struct umap_iter){0, NULL, NULL};
}
