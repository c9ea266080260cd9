/*
 * Nodes as processes: a start makes a new life, a kill forgets everything, a freeze stops the clock of the loop only.
 *
 * Decides: when a node's turn comes. Must not decide what goes wrong; faults.c does. Invariant: a node is never called
 * while it is frozen or dead, and its clocks never fall.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_mem.h"

struct turn_arg {
    unsigned index;
    uint64_t life, number;
};

struct mono proc_mono(const struct sim_proc *p)
{
    return (struct mono){p->w->now_us + p->skew_us};
}

struct wall proc_wall(const struct sim_proc *p)
{
    return (struct wall){1767225600000 + p->wall_skew_ms + p->w->now_us / 1000};
}

bool proc_active(const struct sim_proc *p)
{
    return p->node && !p->frozen;
}

struct sim_proc *proc_by_id(struct world *w, const char *id)
{
    for (unsigned i = 0; i < w->proc_count; i++)
        if (strcmp(w->procs[i].id, id) == 0)
            return &w->procs[i];
    return NULL;
}

static void out_send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    struct sim_proc *p = arg;
    uint8_t *frame = world_alloc(head_len + tail_len);
    memcpy(frame, head, head_len);
    if (tail_len)
        memcpy(frame + head_len, tail, tail_len);
    clients_frame(p->w, p->index, conn, frame, head_len + tail_len);
    free(frame);
}

struct closing_arg {
    unsigned index;
    uint64_t life, conn;
};

static void closed_later(struct world *w, void *arg)
{
    struct closing_arg *a = arg;
    struct sim_proc *p = &w->procs[a->index];
    if (p->life != a->life || !p->node)
        return;
    if (p->frozen) {
        struct closing_arg *again = world_alloc(sizeof(*again));
        *again = *a;
        world_at(w, p->frozen_until_us + 1, closed_later, again);
        return;
    }
    node_closed(p->node, a->conn, "closed", proc_mono(p), proc_wall(p));
    proc_wake(p, w->now_us);
}

static void out_close(void *arg, uint64_t conn, const char *reason, const void *final, size_t final_len)
{
    struct sim_proc *p = arg;
    world_note(p->w, "%s closes %llu: %s", p->id, (unsigned long long)conn, reason ? reason : "");
    if (final_len)
        clients_frame(p->w, p->index, conn, final, final_len);
    clients_closed(p->w, p->index, conn);
    struct closing_arg *a = world_alloc(sizeof(*a));
    *a = (struct closing_arg){p->index, p->life, conn};
    world_at(p->w, p->w->now_us + 10, closed_later, a);
}

static void out_established(void *arg, uint64_t conn)
{
}

static enum node_encoding out_encoding(void *arg, uint64_t conn)
{
    return NODE_MSGPACK;
}

static void out_ready(void *arg)
{
    struct sim_proc *p = arg;
    p->ready = true;
    world_note(p->w, "%s ready", p->id);
}

static void out_stopped(void *arg, int code, const char *reason)
{
    struct sim_proc *p = arg;
    p->over = true;
    world_note(p->w, "%s stopped %d %s", p->id, code, reason ? reason : "");
}

static void fill_random(void *arg, void *out, size_t len)
{
    struct sim_proc *p = arg;
    uint8_t *at = out;
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)rng_next(&p->secret);
}

static void turn(struct world *w, void *arg);

void proc_wake(struct sim_proc *p, int64_t at_us)
{
    if (!p->node)
        return;
    if (at_us < p->w->now_us)
        at_us = p->w->now_us;
    if (p->turn_at_us && p->turn_at_us <= at_us)
        return;
    struct turn_arg *a = world_alloc(sizeof(*a));
    *a = (struct turn_arg){p->index, p->life, ++p->turn_number};
    p->turn_at_us = at_us;
    world_at(p->w, at_us, turn, a);
}

static void turn(struct world *w, void *arg)
{
    const struct turn_arg *a = arg;
    struct sim_proc *p = &w->procs[a->index];
    if (p->life != a->life || !p->node || p->turn_number != a->number || p->frozen)
        return;
    p->turn_at_us = 0;
    bool more = node_turn(p->node, proc_mono(p), proc_wall(p));
    invariants_node(w, p);
    operator_look(w, p);
    if (p->over) {
        proc_kill(p, "over");
        return;
    }
    struct mono disk;
    int64_t due = node_next_due(p->node).us - p->skew_us;
    if (sim_disk_due(p->store, &disk) && disk.us - p->skew_us < due)
        due = disk.us - p->skew_us;
    if (due < w->now_us + 100)
        due = w->now_us + 100;
    proc_wake(p, more ? w->now_us + 20 : due);
}

void proc_init(struct world *w)
{
    w->proc_count = 3 + (unsigned)rng_below(&w->rng, SIM_NODES_MAX - 2);
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct sim_proc *p = &w->procs[i];
        p->w = w;
        p->index = i;
        snprintf(p->id, sizeof(p->id), "n%u", i + 1);
        p->skew_us = world_between(w, 1, 1000000) * 1000;
        p->wall_skew_ms = world_between(w, -120000, 120000);
    }
}

void proc_start(struct sim_proc *p)
{
    struct world *w = p->w;
    if (p->node)
        return;
    p->life++;
    p->frozen = p->stopping = p->over = p->ready = p->drains = false;
    p->turn_at_us = 0;
    p->rolled_back = 0;
    rng_init(&p->secret, rng_next(&w->rng));
    p->bus = sim_bus_create(w, p->index, p->life);
    p->store = sim_disk_open(p);

    struct node_config config;
    node_config_defaults(&config);
    config.core.alloc = &alloc_libc;
    config.core.seed = rng_next(&w->rng);
    config.core.strategy = (enum place_strategy)(w->seed % 4);
    config.core.prefer_local = w->seed % 3 == 0;
    struct server_info *self = &config.core.self;
    *self = (struct server_info){.port = (uint16_t)(7000 + p->index), .capacity = 8 + w->seed % 60, .region = "r"};
    id_set(&self->id, p->id);
    if (w->seed % 8 != 5)
        snprintf(self->address, sizeof(self->address), "%s.sim", p->id);
    snprintf(self->version, sizeof(self->version), "sim");
    config.types = w->types;
    config.routing = (enum node_routing)(w->seed % 3);
    config.empty_ms = 2000;
    config.hold_ms = 8000;
    config.snapshot_ms = SIM_SNAPSHOT_MS(w);
    config.drain_ms = SIM_DRAIN_MS(w);
    config.core.migration_timeout_ms = SIM_MOVE_MS(w);
    config.store = p->store;
    config.core.stable_ms = 1500; /* many owners die here, and none for what is in a room */
    config.replicas = 3;
    config.fill_random = fill_random;
    config.random_arg = p;
    config.log = false;
    struct node_out out = {.arg = p, .send = out_send, .close = out_close, .established = out_established,
                           .encoding = out_encoding, .ready = out_ready, .stopped = out_stopped};
    world_note(w, "%s starts life %llu", p->id, (unsigned long long)p->life);
    p->node = node_create(&config, &p->bus->base, &out, proc_mono(p), proc_wall(p));
    ASSERT(p->node);
    proc_wake(p, w->now_us);
}

void proc_kill(struct sim_proc *p, const char *why)
{
    if (!p->node)
        return;
    world_note(p->w, "%s killed: %s", p->id, why);
    struct node *node = p->node;
    p->node = NULL;
    p->frozen = p->ready = false;
    node_destroy(node);
    sim_disk_close(p->store, p->over);
    p->store = NULL;
    sim_bus_destroy(p->bus);
    p->bus = NULL;
    clients_closed(p->w, p->index, 0);
}

static void go_on(struct world *w, void *arg)
{
    const struct turn_arg *a = arg;
    struct sim_proc *p = &w->procs[a->index];
    if (p->life != a->life || !p->node || !p->frozen || w->now_us < p->frozen_until_us)
        return;
    world_note(w, "%s continues", p->id);
    p->frozen = false;
    p->turn_at_us = 0;
    proc_wake(p, w->now_us);
}

void proc_freeze(struct sim_proc *p, int64_t us)
{
    if (!proc_active(p))
        return;
    world_note(p->w, "%s frozen for %lld ms", p->id, (long long)(us / 1000));
    p->frozen = true;
    p->frozen_until_us = p->w->now_us + us;
    struct turn_arg *a = world_alloc(sizeof(*a));
    *a = (struct turn_arg){p->index, p->life, 0};
    world_at(p->w, p->frozen_until_us, go_on, a);
}

/* As a signal; the second one means now, the third ends the process. */
void proc_stop(struct sim_proc *p)
{
    if (!proc_active(p))
        return;
    world_note(p->w, "%s is asked to stop", p->id);
    p->stopping = true;
    p->over = !node_stop(p->node, "stopping", proc_mono(p), proc_wall(p)) || p->over;
    if (p->over)
        proc_kill(p, "one signal more");
    else
        proc_wake(p, p->w->now_us);
}

void proc_deinit(struct world *w)
{
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct sim_proc *p = &w->procs[i];
        if (p->node)
            node_destroy(p->node);
        if (p->store)
            sim_disk_close(p->store, false);
        if (p->bus)
            sim_bus_destroy(p->bus);
        store_disk_destroy(p->disk);
        p->node = NULL;
        p->bus = NULL;
        p->store = NULL;
        p->disk = NULL;
    }
}
