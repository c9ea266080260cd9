/*
 * What goes wrong in the simulated cluster, and how it is mended.
 *
 * Decides: from the seed, which kinds of faults this run knows and when they strike. Must not look at what nodes decide.
 * Invariant: after faults_heal() nothing new goes wrong, and what was wrong is mended within seconds.
 */
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/store_mem.h"

struct stop_arg {
    unsigned index;
    uint64_t life;
};

static struct sim_proc *victim(struct world *w)
{
    struct sim_proc *p = &w->procs[rng_below(&w->rng, w->proc_count)];
    return proc_active(p) ? p : NULL;
}

static unsigned running(const struct world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->proc_count; i++)
        n += w->procs[i].node != NULL;
    return n;
}

static void restart_at(struct world *w, unsigned index, int64_t us);

/* Not before a stop in good order has come to its end. */
static void restart(struct world *w, void *arg)
{
    const unsigned *index = arg;
    struct sim_proc *p = &w->procs[*index];
    if (!p->node)
        proc_start(p);
    else if (p->stopping)
        restart_at(w, *index, world_between(w, 100, 1000) * SIM_MS);
}

static void restart_at(struct world *w, unsigned index, int64_t us)
{
    unsigned *arg = world_alloc(sizeof(*arg));
    *arg = index;
    world_at(w, w->now_us + us, restart, arg);
}

/* Somebody has no patience. */
static void stop_again(struct world *w, void *arg)
{
    const struct stop_arg *a = arg;
    struct sim_proc *p = &w->procs[a->index];
    if (p->life == a->life)
        proc_stop(p);
}

static void stop_and_restart(struct world *w, struct sim_proc *p)
{
    if (running(w) <= 1 || p->stopping)
        return;
    proc_stop(p);
    for (int signals = 1; signals < 3 && world_chance(w, 20); signals++) {
        struct stop_arg *a = world_alloc(sizeof(*a));
        *a = (struct stop_arg){p->index, p->life};
        world_at(w, w->now_us + world_between(w, 50, 3000) * SIM_MS, stop_again, a);
    }
    restart_at(w, p->index, world_between(w, 500, 8000) * SIM_MS);
}

/* Mostly short, sometimes long. */
static int64_t duration(struct world *w, int64_t low_ms, int64_t high_ms)
{
    int64_t ms = world_between(w, low_ms, high_ms);
    return (world_chance(w, 50) ? low_ms + (ms - low_ms) / 5 : ms) * SIM_MS;
}

struct close_arg {
    unsigned owner;
    uint64_t life, connection;
};

/* The server has waited long enough for a process that does not read. */
static void give_up(struct world *w, void *arg)
{
    const struct close_arg *a = arg;
    struct sim_bus *b = sim_bus_find(w, a->owner, a->life, a->connection);
    if (b && w->procs[a->owner].frozen)
        sim_bus_drop(b, 5 * SIM_MS);
}

static void freeze(struct world *w, struct sim_proc *p)
{
    proc_freeze(p, duration(w, 500, 15000));
    if (world_chance(w, 60)) {
        struct close_arg *a = world_alloc(sizeof(*a));
        *a = (struct close_arg){p->index, p->life, p->bus->connection};
        world_at(w, w->now_us + world_between(w, 2000, 3500) * SIM_MS, give_up, a);
    }
}

static void election(struct world *w)
{
    int64_t us = world_between(w, 4000, 7000) * SIM_MS;
    bool all = world_chance(w, 40);
    world_note(w, "leader election for %lld ms", (long long)(us / SIM_MS));
    for (size_t i = 0; i < w->bucket_count; i++)
        if (all || world_chance(w, 50))
            sim_kv_election(w, &w->buckets[i], us);
    for (size_t i = 0; i < w->stream_count; i++)
        if (all || world_chance(w, 50))
            sim_log_election(w, &w->streams[i], us);
    /* The server that died had clients of its own. */
    for (unsigned i = 0; i < w->proc_count; i++)
        if (w->procs[i].bus && world_chance(w, 30))
            sim_bus_drop(w->procs[i].bus, world_between(w, 3, 50) * SIM_MS);
}

static void kill_and_restart(struct world *w, struct sim_proc *p)
{
    if (running(w) <= 1)
        return;
    proc_kill(p, "fault");
    if ((w->faults & (1u << SIM_WIPE)) && world_chance(w, 10)) {
        world_note(w, "%s loses its disk", p->id);
        store_disk_wipe(p->disk);
    }
    if (world_chance(w, 80))
        restart_at(w, p->index, duration(w, 100, 20000));
}

static void kill_all(struct world *w)
{
    if (!world_chance(w, 25))
        return;
    for (unsigned i = 0; i < w->proc_count; i++) {
        if (!w->procs[i].node)
            continue;
        proc_kill(&w->procs[i], "fault, with all others");
        restart_at(w, i, world_between(w, 50, 6000) * SIM_MS);
    }
}

static void disk_well(struct world *w, void *arg)
{
    const unsigned *index = arg;
    world_note(w, "%s has space on its disk", w->procs[*index].id);
    w->procs[*index].disk_full = false;
    store_disk_full(w->procs[*index].disk, false);
}

static void fill_disk(struct world *w, struct sim_proc *p)
{
    unsigned *arg = world_alloc(sizeof(*arg));
    world_note(w, "%s has a full disk", p->id);
    p->disk_full = true;
    store_disk_full(p->disk, true);
    *arg = p->index;
    world_at(w, w->now_us + duration(w, 500, 12000), disk_well, arg);
}

/* A snapshot of a room that runs here, or did. */
static void damage(struct world *w, struct sim_proc *p)
{
    const struct sim_bucket *b = sim_kv_find(w, "rooms");
    size_t at = b->entries.count ? rng_below(&w->rng, b->entries.count) : 0;
    for (struct map_iter it = map_first(&b->entries); it.value; map_next(&it)) {
        if (at-- > 0)
            continue;
        if (store_disk_damage(p->disk, it.key, world_chance(w, 30))) {
            world_note(w, "%s: a snapshot of %s is damaged", p->id, it.key);
            ledger_damaged(w, it.key);
        }
        return;
    }
}

static void strike(struct world *w, unsigned kind)
{
    struct sim_proc *p = victim(w);
    if (!p)
        return;
    switch (kind) {
    case SIM_KILL:
        kill_and_restart(w, p);
        return;
    case SIM_FREEZE:
        freeze(w, p);
        return;
    case SIM_CUT:
        sim_bus_cut(p->bus, true, true, duration(w, 200, 15000));
        return;
    case SIM_ONE_WAY: {
        bool in = world_chance(w, 50);
        sim_bus_cut(p->bus, in, !in, duration(w, 200, 10000));
        return;
    }
    case SIM_DROP:
        sim_bus_drop(p->bus, world_chance(w, 70) ? world_between(w, 3, 50) * SIM_MS : world_between(w, 500, 6000) * SIM_MS);
        return;
    case SIM_ELECTION:
        election(w);
        return;
    case SIM_LOSS:
        world_note(w, "loss");
        w->loss_until_us = w->now_us + world_between(w, 50, 1500) * SIM_MS;
        return;
    case SIM_KILL_ALL:
        kill_all(w);
        return;
    case SIM_FULL_DISK:
        fill_disk(w, p);
        return;
    case SIM_DAMAGE:
        damage(w, p);
        return;
    case SIM_STOP:
        stop_and_restart(w, p);
        return;
    }
}

static void next_fault(struct world *w, void *arg)
{
    if (w->healing)
        return;
    unsigned kind = (unsigned)rng_below(&w->rng, SIM_FAULTS);
    if (w->faults & (1u << kind))
        strike(w, kind);
    world_at(w, w->now_us + world_between(w, 100, 4000) * SIM_MS, next_fault, NULL);
}

void faults_init(struct world *w)
{
    w->faults = (unsigned)rng_below(&w->rng, 1u << SIM_FAULTS); /* a seed that knows few kinds goes deeper into them */
    for (unsigned i = 0; i < w->proc_count; i++)
        restart_at(w, i, world_chance(w, 70) ? world_between(w, 0, 300) * SIM_MS : world_between(w, 0, 5000) * SIM_MS);
    world_at(w, world_between(w, 1000, 8000) * SIM_MS, next_fault, NULL);
}

void faults_heal(struct world *w)
{
    world_note(w, "healing");
    w->healing = true;
    operator_heal(w);
    w->loss_until_us = 0;
    for (unsigned i = 0; i < w->proc_count; i++)
        if (w->procs[i].disk_full)
            disk_well(w, &i);
    bool one_stays_dead = world_chance(w, 30);
    for (size_t i = 0; i < w->bucket_count; i++)
        w->buckets[i].leaderless_until_us = w->buckets[i].stale_until_us = 0;
    for (size_t i = 0; i < w->stream_count; i++)
        w->streams[i].leaderless_until_us = w->streams[i].stale_until_us = 0;
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct sim_proc *p = &w->procs[i];
        if (!p->node && one_stays_dead && running(w) >= 2)
            one_stays_dead = false;
        else if (!p->node)
            restart_at(w, i, world_between(w, 0, 1000) * SIM_MS);
        else if (p->stopping)
            restart_at(w, i, 1000 * SIM_MS);
        if (p->bus && (p->bus->cut_in || p->bus->cut_out))
            sim_bus_cut(p->bus, p->bus->cut_in, p->bus->cut_out, 1000 * SIM_MS);
    }
}

static bool node_calm(const struct sim_proc *p)
{
    return !p->node || (proc_active(p) && p->ready && !p->stopping && !p->drains && p->bus->attached && !p->bus->cut_in &&
                        !p->bus->cut_out && !core_is_isolated(node_core(p->node)));
}

void faults_look(struct world *w)
{
    bool calm = w->healing;
    for (unsigned i = 0; i < w->proc_count; i++)
        calm = calm && node_calm(&w->procs[i]);
    if (!calm)
        w->calm_since_us = 0;
    else if (!w->calm_since_us)
        w->calm_since_us = w->now_us;
}

bool faults_calm_since(const struct world *w, int64_t us)
{
    return w->calm_since_us && w->calm_since_us <= us;
}
