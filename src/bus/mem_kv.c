/*
 * Key-value buckets in memory.
 *
 * Must not read a clock. Invariant: a bucket's accepted writes are one sequence; a change that did not fit the list of
 * events makes the bucket stale, and a listing follows.
 */
#include "bus/mem_state.h"

#include <stdio.h>
#include <string.h>

enum { MINUTE_MS = 60000 };

struct mem_entry {
    size_t size;
    uint64_t revision;
    struct mono written;
    bool deleted;
    size_t len;
    uint8_t data[];
};

struct mem_bucket {
    struct mem_bucket *next;
    char name[SUBJECT_BUCKET_MAX + 1];
    bool made; /* false: only watched so far */
    bool watched;
    bool stale; /* an event did not fit: list again */
    int64_t ttl_ms;
    uint64_t revision;
    struct mono next_list;
    struct map entries;
};

static struct mem_bucket *find_bucket(struct bus_mem *m, const char *name)
{
    struct mem_bucket *k = m->buckets;
    while (k && strcmp(k->name, name) != 0)
        k = k->next;
    return k;
}

static int want_bucket(struct bus_mem *m, const char *name, struct mem_bucket **out)
{
    if (m->closed)
        return ROOM_E_DISCONNECTED;
    if (!subject_bucket_valid(name))
        return ROOM_E_INVALID;
    struct mem_bucket *k = find_bucket(m, name);
    if (!k) {
        k = alloc_get(m->alloc, sizeof *k);
        if (!k)
            return ROOM_E_NO_MEMORY;
        snprintf(k->name, sizeof k->name, "%s", name);
        map_init(&k->entries, m->alloc);
        k->next = m->buckets;
        m->buckets = k;
    }
    *out = k;
    return 0;
}

static bool emit_entry(struct bus_mem *m, struct mem_bucket *k, const char *key, const struct mem_entry *e)
{
    struct bus_event ev = {.kind = BUS_EV_ENTRY, .bucket = k->name, .key = key, .revision = e->revision,
                           .data = e->deleted ? NULL : e->data, .len = e->len};
    return mem_emit(m, &ev, false);
}

static void forget_deleted(struct bus_mem *m, struct mem_bucket *k)
{
    for (struct map_iter it = map_first(&k->entries); it.value; map_next(&it)) {
        struct mem_entry *e = it.value;
        if (!e->deleted || !mono_reached(m->now, mono_add_ms(e->written, BUS_KEEP_DELETED_MS)))
            continue;
        (void)map_del(&k->entries, it.key);
        alloc_put(m->alloc, e, e->size);
    }
}

static void list(struct bus_mem *m, struct mem_bucket *k)
{
    forget_deleted(m, k);
    bool fits = mem_emit(m, &(struct bus_event){.kind = BUS_EV_SYNC, .bucket = k->name}, false);
    for (struct map_iter it = map_first(&k->entries); fits && it.value; map_next(&it))
        fits = emit_entry(m, k, it.key, it.value);
    fits = fits && mem_emit(m, &(struct bus_event){.kind = BUS_EV_SYNCED, .bucket = k->name}, false);
    k->stale = !fits;
    k->next_list = mono_add_ms(m->now, MINUTE_MS);
}

int mem_kv_bucket(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    struct mem_bucket *k;
    int err = mem_check(m, 0, timeout_ms);
    if (err == 0)
        err = bucket->ttl_ms < 0 ? ROOM_E_INVALID : want_bucket(m, bucket->name, &k);
    if (err)
        return err;
    if (!k->made)
        k->ttl_ms = bucket->ttl_ms;
    k->made = true;
    return mem_done(m, token, BUS_OK, 0, NULL, 0);
}

int mem_kv_watch(struct bus *b, const char *name)
{
    struct bus_mem *m = mem_self(b);
    struct mem_bucket *k;
    int err = want_bucket(m, name, &k);
    if (err)
        return err;
    k->watched = true;
    list(m, k);
    return 0;
}

static int find_key(struct bus_mem *m, const char *name, const char *key, int timeout_ms, size_t len,
                    struct mem_bucket **bucket, struct mem_entry **entry)
{
    int err = mem_check(m, len + MEM_HEADERS_MAX, timeout_ms);
    if (err)
        return err;
    if (!subject_bucket_valid(name) || !subject_key_valid(key))
        return ROOM_E_INVALID;
    struct mem_bucket *k = find_bucket(m, name);
    *bucket = k && k->made ? k : NULL;
    *entry = *bucket ? map_get(&k->entries, key) : NULL;
    return 0;
}

int mem_kv_get(struct bus *b, uint64_t token, const char *name, const char *key, int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    struct mem_bucket *k;
    struct mem_entry *e;
    int err = find_key(m, name, key, timeout_ms, 0, &k, &e);
    if (err)
        return err;
    if (!k)
        return mem_done(m, token, BUS_REFUSED, 0, "no such bucket", 14);
    if (!e || e->deleted)
        return mem_done(m, token, BUS_NOT_FOUND, e ? e->revision : 0, NULL, 0);
    return mem_done(m, token, BUS_OK, e->revision, e->data, e->len);
}

static int store(struct bus_mem *m, uint64_t token, struct mem_bucket *k, const char *key, struct mem_entry *old,
                 const void *data, size_t len)
{
    size_t size = sizeof(struct mem_entry) + len + 1;
    struct mem_entry *e = alloc_get(m->alloc, size);
    if (!e)
        return ROOM_E_NO_MEMORY;
    e->size = size;
    e->revision = k->revision + 1;
    e->written = m->now;
    e->deleted = data == NULL;
    e->len = len;
    if (len)
        memcpy(e->data, data, len);
    int err = map_put(&k->entries, key, e) ? mem_done(m, token, BUS_OK, e->revision, NULL, 0) : ROOM_E_NO_MEMORY;
    if (err) {
        if (old)
            (void)map_put(&k->entries, key, old); /* replaces a value: needs no memory */
        else
            (void)map_del(&k->entries, key);
        alloc_put(m->alloc, e, size);
        return err;
    }
    k->revision++;
    if (old)
        alloc_put(m->alloc, old, old->size);
    if (k->watched && !emit_entry(m, k, key, e))
        k->stale = true;
    return 0;
}

static int write_key(struct bus_mem *m, uint64_t token, const char *name, const char *key, uint64_t expected,
                     const void *data, size_t len, int timeout_ms)
{
    struct mem_bucket *k;
    struct mem_entry *e;
    int err = find_key(m, name, key, timeout_ms, len, &k, &e);
    if (err)
        return err;
    if (!k)
        return mem_done(m, token, BUS_NO_RESPONDERS, 0, NULL, 0);
    uint64_t last = e ? e->revision : 0;
    bool creates = expected == 0 && (!e || (e->deleted && data));
    if (expected != BUS_ANY_REVISION && expected != last && !creates)
        return mem_done(m, token, BUS_CONFLICT, last, NULL, 0);
    return store(m, token, k, key, e, data, len);
}

int mem_kv_put(struct bus *b, uint64_t token, const char *name, const char *key, uint64_t expected,
                      const void *data, size_t len, int timeout_ms)
{
    return write_key(mem_self(b), token, name, key, expected, len ? data : "", len, timeout_ms);
}

int mem_kv_delete(struct bus *b, uint64_t token, const char *name, const char *key, uint64_t expected,
                         int timeout_ms)
{
    return write_key(mem_self(b), token, name, key, expected, NULL, 0, timeout_ms);
}

static void expire(struct bus_mem *m, struct mem_bucket *k)
{
    for (struct map_iter it = map_first(&k->entries); it.value; map_next(&it)) {
        struct mem_entry *e = it.value;
        if (!mono_reached(m->now, mono_add_ms(e->written, k->ttl_ms)))
            continue;
        (void)map_del(&k->entries, it.key);
        alloc_put(m->alloc, e, e->size);
    }
}

static void destroy_bucket(struct bus_mem *m, struct mem_bucket *k)
{
    for (struct map_iter it = map_first(&k->entries); it.value; map_next(&it))
        alloc_put(m->alloc, it.value, ((struct mem_entry *)it.value)->size);
    map_deinit(&k->entries);
    alloc_put(m->alloc, k, sizeof *k);
}

void mem_kv_tick(struct bus_mem *m)
{
    for (struct mem_bucket *k = m->buckets; k; k = k->next) {
        if (k->ttl_ms > 0)
            expire(m, k);
        if (k->watched && ((k->stale && m->count < m->max_events / 2) || mono_reached(m->now, k->next_list)))
            list(m, k);
    }
}

void mem_kv_destroy(struct bus_mem *m)
{
    for (struct mem_bucket *k = m->buckets, *next; k; k = next) {
        next = k->next;
        destroy_bucket(m, k);
    }
}
