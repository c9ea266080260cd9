/*
 * The registries of the simulated cluster: buckets with one revision sequence each, as JetStream keeps them.
 *
 * Decides: the outcome of each operation, as sim_lead.c lets it be done, which reads are stale, and when a watcher hears of
 * a change. Must not know what is in the values. Invariant: a bucket's accepted writes are one sequence; a compare-and-set
 * is decided against the last one, or the leader says nothing.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 160 }; /* a room's id and three numbers */
enum kv_kind { KV_BUCKET, KV_GET, KV_PUT, KV_DELETE };

struct kv_op {
    struct sim_op op;
    enum kv_kind kind;
    uint64_t expected;
    int64_t ttl_us;
    size_t len;
    char bucket[32], key[KEY_SIZE];
    uint8_t data[];
};

struct kv_listing {
    unsigned owner;
    uint64_t life, connection, number;
    char bucket[32];
};

struct sim_bucket *sim_kv_find(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->bucket_count; i++)
        if (strcmp(w->buckets[i].name, name) == 0)
            return &w->buckets[i];
    ASSERT(w->bucket_count < SIM_BUCKETS_MAX);
    struct sim_bucket *b = &w->buckets[w->bucket_count++];
    snprintf(b->name, sizeof(b->name), "%s", name);
    map_init(&b->entries, &alloc_libc);
    return b;
}

/* What the stream still has of a key, delete markers too; an entry past its ttl is gone, and nobody was told. */
static struct sim_kv_entry *last_of(const struct world *w, const struct sim_bucket *b, const char *key)
{
    struct sim_kv_entry *e = map_get(&b->entries, key);
    return e && b->ttl_us && w->now_us - e->written_us >= b->ttl_us ? NULL : e;
}

const struct sim_kv_entry *sim_kv_look(const struct world *w, const struct sim_bucket *b, const char *key)
{
    const struct sim_kv_entry *e = last_of(w, b, key);
    return e && !e->deleted ? e : NULL;
}

/* ---- watching ---- */

struct change { /* of one key, on its way to a watcher */
    uint64_t revision;
    bool deleted;
    size_t len;
    char bucket[32], key[KEY_SIZE];
    uint8_t data[];
};

static struct sim_watch *watch_of(struct sim_bus *b, const char *bucket)
{
    for (size_t i = 0; i < b->watch_count; i++)
        if (strcmp(b->watches[i].bucket, bucket) == 0)
            return &b->watches[i];
    return NULL;
}

static void tell(struct sim_bus *b, const struct change *c)
{
    struct sim_watch *watch = watch_of(b, c->bucket);
    if (watch && c->deleted)
        map_del(&watch->told, c->key);
    else if (watch)
        map_put(&watch->told, c->key, (void *)(uintptr_t)c->revision);
    sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_ENTRY, .bucket = c->bucket, .key = c->key,
                                         .revision = c->revision, .data = c->deleted ? NULL : c->data, .len = c->len});
}

static void land_change(struct sim_bus *b, const void *body, size_t len)
{
    tell(b, body);
}

static struct change *change_of(const struct sim_bucket *bucket, const char *key, const struct sim_kv_entry *e)
{
    struct change *c = world_alloc(sizeof(*c) + e->len);
    c->revision = e->revision;
    c->deleted = e->deleted;
    c->len = e->len;
    snprintf(c->bucket, sizeof(c->bucket), "%s", bucket->name);
    snprintf(c->key, sizeof(c->key), "%s", key);
    if (e->len)
        memcpy(c->data, e->data, e->len);
    return c;
}

static int64_t lag(struct world *w)
{
    uint64_t dice = rng_below(&w->rng, 1000);
    if (dice < 6 && !w->healing)
        return world_between(w, 50, 3000) * SIM_MS;
    return dice < 100 ? world_between(w, 1, 50) * SIM_MS : world_between(w, 200, 3000);
}

static void republish(struct world *w, const struct sim_bucket *bucket, const char *key, const struct sim_kv_entry *e)
{
    struct change *c = change_of(bucket, key, e);
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct sim_bus *b = w->procs[i].bus;
        struct sim_watch *watch = b ? watch_of(b, bucket->name) : NULL;
        if (!watch || !watch->live || !b->attached)
            continue;
        int64_t at = w->now_us + lag(w);
        watch->last_us = at > watch->last_us ? at : watch->last_us;
        sim_bus_inward(b, watch->last_us, land_change, c, sizeof(*c) + c->len);
    }
    free(c);
}

static void ask_listing(struct sim_bus *b, struct sim_watch *watch, int64_t at_us);

/* The body is the bucket's name and one `struct change` after the other, each at a multiple of 8. */
static void land_listing(struct sim_bus *b, const void *body, size_t len)
{
    const char *at = body, *end = at + len;
    struct sim_watch *watch = watch_of(b, body);
    sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_SYNC, .bucket = watch->bucket});
    for (at += 32; at < end;) {
        const struct change *c = (const void *)at;
        if (!watch->full && (uintptr_t)map_get(&watch->told, c->key) == c->revision)
            sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_KEPT, .bucket = c->bucket, .key = c->key, .revision = c->revision});
        else
            tell(b, c);
        at += (sizeof(*c) + c->len + 7) / 8 * 8;
    }
    sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_SYNCED, .bucket = watch->bucket});
    watch->full = false;
    ask_listing(b, watch, b->w->now_us + 60 * (int64_t)SIM_S);
}

static void list(struct world *w, void *arg)
{
    const struct kv_listing *l = arg;
    struct sim_bus *b = sim_bus_find(w, l->owner, l->life, l->connection);
    struct sim_watch *watch = b ? watch_of(b, l->bucket) : NULL;
    struct sim_bucket *bucket = sim_kv_find(w, l->bucket);
    if (!watch || watch->listing != l->number || !b->attached)
        return;
    if (!bucket->made || w->now_us < bucket->leaderless_until_us || b->cut_out || w->procs[l->owner].frozen) {
        ask_listing(b, watch, w->now_us + world_between(w, 100, 400) * SIM_MS);
        return;
    }
    struct buf body;
    buf_init(&body, &alloc_libc, SIZE_MAX / 2);
    char name[32] = {0}, pad[8] = {0};
    snprintf(name, sizeof(name), "%s", bucket->name);
    buf_write(&body, name, sizeof(name));
    for (struct map_iter it = map_first(&bucket->entries); it.value; map_next(&it)) {
        const struct sim_kv_entry *e = sim_kv_look(w, bucket, it.key);
        if (!e)
            continue;
        struct change *c = change_of(bucket, it.key, e);
        size_t size = sizeof(*c) + c->len;
        buf_write(&body, c, size);
        buf_write(&body, pad, (8 - size % 8) % 8);
        free(c);
    }
    int64_t at = w->now_us + world_between(w, 1, 20) * SIM_MS;
    watch->last_us = at > watch->last_us ? at : watch->last_us;
    watch->live = true;
    sim_bus_inward(b, watch->last_us, land_listing, body.data, body.len);
    buf_deinit(&body);
}

static void ask_listing(struct sim_bus *b, struct sim_watch *watch, int64_t at_us)
{
    struct kv_listing *l = world_alloc(sizeof(*l));
    *l = (struct kv_listing){.owner = b->owner, .life = b->life, .connection = b->connection, .number = ++b->w->numbers};
    memcpy(l->bucket, watch->bucket, sizeof(l->bucket));
    watch->listing = l->number;
    world_at(b->w, at_us, list, l);
}

void sim_kv_resync(struct sim_bus *b)
{
    for (size_t i = 0; i < b->watch_count; i++) {
        b->watches[i].live = false;
        ask_listing(b, &b->watches[i], b->w->now_us + world_between(b->w, 1, 20) * SIM_MS);
    }
}

void sim_kv_forget(struct sim_bus *b)
{
    for (size_t i = 0; i < b->watch_count; i++)
        map_deinit(&b->watches[i].told);
}

int sim_kv_watch(struct bus *base, const char *bucket)
{
    struct sim_bus *b = (struct sim_bus *)base;
    struct sim_watch *watch = watch_of(b, bucket);
    if (!watch && b->watch_count == SIM_BUCKETS_MAX)
        return ROOM_E_FULL;
    if (!watch) {
        watch = &b->watches[b->watch_count++];
        snprintf(watch->bucket, sizeof(watch->bucket), "%s", bucket);
        map_init(&watch->told, &alloc_libc);
    }
    watch->full = true;
    if (b->attached)
        ask_listing(b, watch, b->w->now_us + world_between(b->w, 1, 20) * SIM_MS);
    return 0;
}

/* ---- operations ---- */

static void forget(struct sim_kv_entry *e)
{
    if (e)
        free(e->data);
    free(e);
}

/* Takes the value out of `e`, which gets another. */
static void keep_before(struct world *w, const struct sim_bucket *b, struct sim_kv_entry *e)
{
    if (e->revision == 0 || w->now_us >= b->stale_until_us || e->revision > b->stale_sequence) {
        free(e->data);
        return;
    }
    struct sim_kv_entry *before = world_alloc(sizeof(*before));
    *before = *e;
    before->before = NULL;
    forget(e->before);
    e->before = before;
}

/* What is read: the one who led before the election is back, believes that he leads yet, and may be the first to answer. */
static const struct sim_kv_entry *read_entry(struct world *w, const struct sim_bucket *b, const char *key)
{
    const struct sim_kv_entry *e = last_of(w, b, key);
    if (!e || w->now_us >= b->stale_until_us || !world_chance(w, 50) || e->revision <= b->stale_sequence)
        return e;
    return e->before && e->before->revision <= b->stale_sequence ? e->before : NULL;
}

static enum bus_result write_entry(struct world *w, struct sim_bucket *b, const struct kv_op *op, uint64_t *revision)
{
    struct sim_kv_entry *last = last_of(w, b, op->key), *e = map_get(&b->entries, op->key);
    uint64_t now = last ? last->revision : 0;
    bool fits = op->expected == BUS_ANY_REVISION || op->expected == now ||
                (op->kind == KV_PUT && op->expected == 0 && last && last->deleted && !op->op.late);
    if (!fits && w->mutation == SIM_MUTATE_STALE_CAS && strcmp(b->name, "rooms") == 0)
        fits = true;
    if (!fits)
        return BUS_CONFLICT;
    if (!e) {
        e = world_alloc(sizeof(*e));
        if (!map_put(&b->entries, op->key, e))
            exit(2);
    }
    keep_before(w, b, e);
    *e = (struct sim_kv_entry){.revision = ++b->sequence, .deleted = op->kind == KV_DELETE, .written_us = w->now_us,
                               .len = op->len, .before = e->before};
    e->data = world_alloc(op->len);
    memcpy(e->data, op->data, op->len);
    *revision = e->revision;
    world_note(w, "%s.%s rev=%llu %s by %s %.*s", b->name, op->key, (unsigned long long)e->revision,
               e->deleted ? "deleted" : "put", w->procs[op->op.owner].id, (int)op->len, (const char *)op->data);
    invariants_written(w, op->op.owner, b->name, op->key, op->data, op->len, e->deleted);
    republish(w, b, op->key, e);
    return BUS_OK;
}

static void perform(struct world *w, const struct sim_op *base, bool answer)
{
    const struct kv_op *op = (const void *)base;
    struct sim_bucket *b = sim_kv_find(w, op->bucket);
    enum bus_result result = BUS_OK;
    uint64_t revision = 0;
    const uint8_t *data = NULL;
    size_t len = 0;
    if (op->kind == KV_BUCKET) {
        b->made = true;
        b->ttl_us = op->ttl_us;
    } else if (!b->made) {
        result = BUS_UNKNOWN;
    } else if (op->kind == KV_GET) {
        const struct sim_kv_entry *e = read_entry(w, b, op->key);
        revision = e ? e->revision : 0;
        result = e && !e->deleted ? BUS_OK : BUS_NOT_FOUND;
        if (result == BUS_OK) {
            data = e->data;
            len = e->len;
        }
    } else {
        result = write_entry(w, b, op, &revision);
    }
    if (answer)
        sim_bus_answer(w, base->owner, base->life, base->number, w->now_us + sim_bus_delay(w), result, revision, data, len);
}

static int64_t leaderless_until(struct world *w, const struct sim_op *base)
{
    return sim_kv_find(w, ((const struct kv_op *)(const void *)base)->bucket)->leaderless_until_us;
}

/* A create over a deletion is two writes of the bus: one that expects nothing, refused, then one that expects the deletion
 * it was shown. What comes late is one or the other. */
static void put_off(struct world *w, struct sim_op *base)
{
    struct kv_op *op = (void *)base;
    const struct sim_kv_entry *last = last_of(w, sim_kv_find(w, op->bucket), op->key);
    if (op->kind == KV_PUT && op->expected == 0 && last && last->deleted)
        op->expected = last->revision;
}

static const struct sim_op_kind operation = {perform, leaderless_until, put_off};

static int start(struct bus *base, enum kv_kind kind, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                 const void *data, size_t len, int64_t ttl_us, int timeout_ms)
{
    struct sim_bus *b = (struct sim_bus *)base;
    if (!b->up)
        return ROOM_E_DISCONNECTED;
    if (len > SIM_MESSAGE_MAX - SIM_HEADERS_MAX)
        return ROOM_E_TOO_BIG;
    ASSERT(!key || strlen(key) < KEY_SIZE);
    struct kv_op *op = world_alloc(sizeof(*op) + len);
    *op = (struct kv_op){.op = {.kind = &operation, .size = sizeof(*op) + len}, .kind = kind, .expected = expected,
                         .ttl_us = ttl_us, .len = len};
    snprintf(op->bucket, sizeof(op->bucket), "%s", bucket);
    if (key)
        snprintf(op->key, sizeof(op->key), "%s", key);
    if (len)
        memcpy(op->data, data, len);
    return sim_lead_begin(b, token, &op->op, timeout_ms);
}

int sim_kv_bucket(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms)
{
    return start(b, KV_BUCKET, token, bucket->name, NULL, 0, NULL, 0, bucket->ttl_ms * SIM_MS, timeout_ms);
}

int sim_kv_get(struct bus *b, uint64_t token, const char *bucket, const char *key, int timeout_ms)
{
    return start(b, KV_GET, token, bucket, key, 0, NULL, 0, 0, timeout_ms);
}

int sim_kv_put(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected, const void *data,
               size_t len, int timeout_ms)
{
    return start(b, KV_PUT, token, bucket, key, expected, data, len, 0, timeout_ms);
}

int sim_kv_delete(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected, int timeout_ms)
{
    return start(b, KV_DELETE, token, bucket, key, expected, NULL, 0, 0, timeout_ms);
}

void sim_kv_election(struct world *w, struct sim_bucket *b, int64_t us)
{
    b->leaderless_until_us = b->stale_until_us = w->now_us + us;
    b->stale_sequence = b->sequence;
    if (world_chance(w, 50))
        b->stale_until_us += world_between(w, 1, 2000) * SIM_MS;
}

void sim_kv_deinit(struct world *w)
{
    for (size_t i = 0; i < w->bucket_count; i++) {
        struct map *entries = &w->buckets[i].entries;
        for (struct map_iter it = map_first(entries); it.value; map_next(&it)) {
            struct sim_kv_entry *e = it.value;
            forget(e->before);
            forget(e);
        }
        map_deinit(entries);
    }
}
