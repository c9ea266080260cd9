/*
 * What goes wrong in the simulated cluster, and how it is mended.
 *
 * Decides: from the seed, which kinds of faults this run knows and when they strike. Must not look at what nodes decide.
 * Invariant: after faults_heal() nothing new goes wrong, and what was wrong is mended within seconds.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

enum { KILL, FREEZE, CUT, ONE_WAY, DROP, ELECTION, LOSS, STOP, KINDS };

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

static void restart(struct world *w, void *arg)
{
    const unsigned *index = arg;
    if (!w->procs[*index].node)
        proc_start(&w->procs[*index]);
}

static void restart_at(struct world *w, unsigned index, int64_t us)
{
    unsigned *arg = world_alloc(sizeof(*arg));
    *arg = index;
    world_at(w, w->now_us + us, restart, arg);
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
            w->buckets[i].leaderless_until_us = w->now_us + us;
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
    if (world_chance(w, 80))
        restart_at(w, p->index, duration(w, 100, 20000));
}

static void strike(struct world *w, unsigned kind)
{
    struct sim_proc *p = victim(w);
    if (!p)
        return;
    switch (kind) {
    case KILL:
        kill_and_restart(w, p);
        return;
    case FREEZE:
        freeze(w, p);
        return;
    case CUT:
        sim_bus_cut(p->bus, true, true, duration(w, 200, 15000));
        return;
    case ONE_WAY: {
        bool in = world_chance(w, 50);
        sim_bus_cut(p->bus, in, !in, duration(w, 200, 10000));
        return;
    }
    case DROP:
        sim_bus_drop(p->bus, world_chance(w, 70) ? world_between(w, 3, 50) * SIM_MS : world_between(w, 500, 6000) * SIM_MS);
        return;
    case ELECTION:
        election(w);
        return;
    case LOSS:
        world_note(w, "loss");
        w->loss_until_us = w->now_us + world_between(w, 50, 1500) * SIM_MS;
        return;
    case STOP:
        if (running(w) > 1) {
            proc_stop(p);
            restart_at(w, p->index, world_between(w, 5000, 12000) * SIM_MS);
        }
        return;
    }
}

static void next_fault(struct world *w, void *arg)
{
    if (w->healing)
        return;
    unsigned kind = (unsigned)rng_below(&w->rng, KINDS);
    if (w->faults & (1u << kind))
        strike(w, kind);
    world_at(w, w->now_us + world_between(w, 100, 4000) * SIM_MS, next_fault, NULL);
}

void faults_init(struct world *w)
{
    w->faults = (unsigned)rng_below(&w->rng, 1u << KINDS); /* a seed that knows few kinds goes deeper into them */
    for (unsigned i = 0; i < w->proc_count; i++)
        restart_at(w, i, world_chance(w, 70) ? world_between(w, 0, 300) * SIM_MS : world_between(w, 0, 5000) * SIM_MS);
    world_at(w, world_between(w, 1000, 8000) * SIM_MS, next_fault, NULL);
}

void faults_heal(struct world *w)
{
    world_note(w, "healing");
    w->healing = true;
    w->loss_until_us = 0;
    bool one_stays_dead = world_chance(w, 30);
    for (size_t i = 0; i < w->bucket_count; i++)
        w->buckets[i].leaderless_until_us = 0;
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct sim_proc *p = &w->procs[i];
        if (!p->node && one_stays_dead && running(w) >= 2)
            one_stays_dead = false;
        else if (!p->node)
            restart_at(w, i, world_between(w, 0, 1000) * SIM_MS);
        else if (p->stopping)
            restart_at(w, i, 6000 * SIM_MS);
        if (p->bus && (p->bus->cut_in || p->bus->cut_out))
            sim_bus_cut(p->bus, p->bus->cut_in, p->bus->cut_out, 1000 * SIM_MS);
    }
}
