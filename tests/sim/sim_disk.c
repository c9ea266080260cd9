/*
 * The disk of a simulated process, and the store that its node has on it.
 *
 * Decides: how fast the disk is in each life of the process, and what a kill leaves on it (what was committed). Must not know
 * what is saved, but lets one image be caught on its way: the only words of a live room that can be compared with others.
 * Invariant: a disk outlives its processes and has one store at a time.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_mem.h"

struct sim_store {
    struct store base;
    struct sim_proc *p;
    struct store *inner;
    char catch_room[ID_SIZE];
    struct buf *caught; /* NULL: nothing is waited for */
    struct map saved;   /* room -> struct store_mark of its newest image */
};

static struct sim_store *of(struct store *s)
{
    return (struct sim_store *)(void *)s;
}

static int save(struct store *base, uint64_t token, const struct store_snapshot *snapshot)
{
    struct sim_store *s = of(base);
    if (s->caught && strcmp(s->catch_room, snapshot->room) == 0)
        buf_write(s->caught, snapshot->data, snapshot->len);
    struct store_mark *mark = map_get(&s->saved, snapshot->room);
    if (!mark) {
        mark = world_alloc(sizeof(*mark));
        map_put(&s->saved, snapshot->room, mark);
    }
    *mark = snapshot->mark;
    return store_save(s->inner, token, snapshot);
}

static int load(struct store *base, uint64_t token, enum store_which which, const char *room)
{
    return store_load(of(base)->inner, token, which, room);
}

static int list(struct store *base, uint64_t token, enum store_which which, const char *after, size_t max)
{
    return store_list(of(base)->inner, token, which, after, max);
}

static int sent(struct store *base, uint64_t token, const char *room, uint64_t epoch, uint64_t version)
{
    return store_sent(of(base)->inner, token, room, epoch, version);
}

static int forget(struct store *base, uint64_t token, const char *room)
{
    world_note(of(base)->p->w, "%s forgets %s", of(base)->p->id, room);
    return store_forget(of(base)->inner, token, room);
}

static size_t drain(struct store *base, store_handler *handler, void *arg, size_t max_events)
{
    struct sim_store *s = of(base);
    store_mem_tick(s->inner, proc_mono(s->p));
    return store_drain(s->inner, handler, arg, max_events);
}

static void stats(struct store *base, struct store_stats *out)
{
    store_stats(of(base)->inner, out);
}

static void close_store(struct store *base)
{
    store_close(of(base)->inner);
}

static const struct store_ops ops = {.save = save, .load = load, .list = list, .sent = sent, .forget = forget,
                                     .drain = drain, .stats = stats, .close = close_store};

struct store *sim_disk_open(struct sim_proc *p)
{
    struct world *w = p->w;
    if (!p->disk)
        p->disk = store_disk_create(&alloc_libc);
    bool slow = (w->faults & (1u << SIM_SLOW_DISKS)) && !w->healing && world_chance(w, 30);
    struct store_mem_config config = {.alloc = &alloc_libc, .disk = p->disk, .seed = rng_next(&w->rng),
                                      .min_us = slow ? 20 * SIM_MS : 200, .max_us = slow ? 800 * SIM_MS : 5 * SIM_MS, .fail_per_mille = slow ? 30 : 0};
    struct sim_store *s = world_alloc(sizeof(*s));
    s->base.ops = &ops;
    s->p = p;
    map_init(&s->saved, &alloc_libc);
    s->inner = p->disk ? store_mem_create(&config) : NULL;
    ASSERT(s->inner);
    return &s->base;
}

void sim_disk_close(struct store *store, bool orderly)
{
    if (orderly)
        store_mem_destroy(of(store)->inner);
    else
        store_mem_crash(of(store)->inner);
    for (struct map_iter it = map_first(&of(store)->saved); it.value; map_next(&it))
        free(it.value);
    map_deinit(&of(store)->saved);
    free(store);
}

void sim_disk_catch(struct store *store, const char *room, struct buf *out)
{
    struct sim_store *s = of(store);
    s->caught = out;
    if (room)
        memcpy(s->catch_room, room, strlen(room) + 1);
}

const struct store_mark *sim_disk_saved(const struct store *store, const char *room)
{
    return map_get(&((const struct sim_store *)(const void *)store)->saved, room);
}

bool sim_disk_due(const struct store *store, struct mono *at)
{
    return store_mem_due(((const struct sim_store *)(const void *)store)->inner, at);
}

bool sim_disk_is_full(const struct store *store)
{
    return ((const struct sim_store *)(const void *)store)->p->disk_full;
}
