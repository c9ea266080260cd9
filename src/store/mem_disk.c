/* See mem_disk.h, and store_mem.h for what a simulator does to a disk. */
#include "store/mem_disk.h"

#include <string.h>

static void copy_free(const struct alloc *alloc, struct copy *c)
{
    alloc_put(alloc, c->data, c->len);
    alloc_put(alloc, c, sizeof *c);
}

static void clear_room(struct store_disk *d, struct disk_room *r)
{
    for (struct copy *c; (c = r->newest);) {
        r->newest = c->next;
        copy_free(d->alloc, c);
    }
    r->waits = false;
}

struct store_disk *store_disk_create(const struct alloc *alloc)
{
    struct store_disk *d = alloc_get(alloc, sizeof *d);
    if (d) {
        d->alloc = alloc;
        map_init(&d->rooms, alloc);
    }
    return d;
}

void store_disk_wipe(struct store_disk *d)
{
    for (struct map_iter it = map_first(&d->rooms); it.value; map_next(&it)) {
        struct disk_room *r = it.value;
        clear_room(d, r);
        map_del(&d->rooms, r->id.s);
        alloc_put(d->alloc, r, sizeof *r);
    }
}

void store_disk_destroy(struct store_disk *d)
{
    if (!d)
        return;
    store_disk_wipe(d);
    map_deinit(&d->rooms);
    alloc_put(d->alloc, d, sizeof *d);
}

void store_disk_full(struct store_disk *d, bool full)
{
    d->full = full;
}

bool store_disk_damage(struct store_disk *d, const char *room, size_t back)
{
    struct disk_room *r = map_get(&d->rooms, room);
    struct copy *c = r ? r->newest : NULL;
    while (c && back-- > 0)
        c = c->next;
    if (c)
        c->damaged = true;
    return c != NULL;
}

static struct disk_room *room_make(struct store_disk *d, const char *id)
{
    struct disk_room *r = map_get(&d->rooms, id);
    if (r)
        return r;
    r = alloc_get(d->alloc, sizeof *r);
    if (r && id_set(&r->id, id) && map_put_borrowed(&d->rooms, r->id.s, r))
        return r;
    alloc_put(d->alloc, r, sizeof *r);
    return NULL;
}

/* The two newest whole ones stay; one that is not whole stays as long as there are not two. */
static void prune(struct store_disk *d, struct disk_room *r)
{
    size_t whole = 0, all = 0;
    for (struct copy *c = r->newest; c; c = c->next)
        all += !c->damaged;
    for (struct copy **at = &r->newest; *at;) {
        struct copy *c = *at;
        bool keep = c->damaged ? all < 2 : whole < 2;
        whole += !c->damaged;
        if (keep) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        r->waits = r->waits && store_mark_cmp(&r->waiting, &c->mark) != 0;
        copy_free(d->alloc, c);
    }
}

/* Takes the data of `op`; `c` is zeroed memory for it. */
static void put_copy(struct store_disk *d, struct disk_room *r, struct op *op, struct copy *c)
{
    struct copy **at = &r->newest;
    bool newest = true;
    *c = (struct copy){NULL, op->type, op->mark, op->saved, op->codec, false, op->data, op->len};
    while (*at && store_mark_cmp(&(*at)->mark, &op->mark) > 0) {
        newest = newest && (*at)->damaged;
        at = &(*at)->next;
    }
    if (*at && store_mark_cmp(&(*at)->mark, &op->mark) == 0) {
        struct copy *old = *at;
        *at = old->next;
        copy_free(d->alloc, old);
    }
    c->next = *at;
    *at = c;
    if (newest) {
        r->waits = true;
        r->waiting = op->mark;
    }
    prune(d, r);
}

static void apply(struct store_disk *d, struct op *op, struct copy *spare)
{
    struct disk_room *r = map_get(&d->rooms, op->room.s);
    if (!r)
        return;
    if (op->kind == OP_FORGET || op->clear_first)
        clear_room(d, r);
    if (op->kind == OP_SAVE)
        put_copy(d, r, op, spare);
    else if (op->kind == OP_SENT && r->waits && r->waiting.epoch <= op->mark.epoch &&
             (r->waiting.epoch < op->mark.epoch || r->waiting.version <= op->mark.version))
        r->waits = false;
}

bool disk_commit(struct store_disk *d, struct op *ops, struct pending *p)
{
    struct copy *spares = NULL;
    bool ok = true;
    for (struct op *op = ops; ok && op; op = op->next) {
        struct copy *c = op->kind == OP_SAVE ? alloc_get(d->alloc, sizeof *c) : NULL;
        ok = op->kind != OP_SAVE || (c && room_make(d, op->room.s));
        if (c) {
            c->next = spares;
            spares = c;
        }
    }
    for (struct op *op = ops; ok && op; op = op->next) {
        struct copy *c = spares;
        if (op->kind == OP_SAVE)
            spares = c->next;
        apply(d, op, c);
        if (op->kind == OP_SAVE) {
            p->bytes -= op->len;
            op->data = NULL;
            op->len = 0;
        }
    }
    for (struct copy *c; (c = spares);) {
        spares = c->next;
        copy_free(d->alloc, c);
    }
    return ok;
}

void disk_totals(const struct store_disk *d, struct store_stats *out)
{
    out->rooms = out->bytes = out->outbox = out->outbox_bytes = 0;
    for (struct map_iter it = map_first(&d->rooms); it.value; map_next(&it)) {
        const struct disk_room *r = it.value;
        out->rooms += r->newest != NULL;
        out->outbox += r->waits;
        for (const struct copy *c = r->newest; c; c = c->next) {
            out->bytes += c->len;
            if (r->waits && store_mark_cmp(&c->mark, &r->waiting) == 0)
                out->outbox_bytes += c->len;
        }
    }
}
