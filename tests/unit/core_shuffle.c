/* Rooms that are moved, drained, killed and stopped at random, over a registry that fails: never two nodes run one room,
 * and once the faults have ended each room runs once and everybody was answered. The same without memory, for crashes and
 * leaks alone. Another seed is another history; a seed that failed is said. */
#include <stdio.h>

#include "core_cluster.h"

TestSuite(core_shuffle, .timeout = 120);

enum { NODES = 4, ROOMS = 12, STEPS = 150, SEEDS = 150 };

struct shuffle {
    struct cluster k;
    struct rng rng;
    uint64_t seed, old_token;
    unsigned asked;
    bool kills; /* nodes die and stop */
    bool safe;  /* what must hold is checked: there is memory */
};

static const char *room_name(unsigned i)
{
    static const char names[ROOMS][2] = {"A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L"};
    return names[i % ROOMS];
}

static unsigned any(struct shuffle *s, unsigned below)
{
    return (unsigned)rng_below(&s->rng, below);
}

static const struct owned *owned_at(const struct shuffle *s, unsigned node, const char *room)
{
    return s->k.nodes[node].dead ? NULL : map_get(&s->k.nodes[node].c->owned, room);
}

static void check(struct shuffle *s)
{
    for (unsigned i = 0; i < ROOMS && s->safe; i++) {
        unsigned running = 0;
        for (unsigned n = 0; n < NODES; n++) {
            const struct owned *o = owned_at(s, n, room_name(i));
            running += o && o->state == OWNED_RUNNING;
        }
        cr_assert_leq(running, 1, "seed %lu: %u nodes run %s", (unsigned long)s->seed, running, room_name(i));
    }
}

static unsigned living(const struct shuffle *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < NODES; i++)
        n += !s->k.nodes[i].dead;
    return n;
}

static void move_one(struct shuffle *s)
{
    static const char *const to[] = {"a", "b", "c", "d", "", ""};
    const char *room = room_name(any(s, ROOMS));
    for (unsigned n = 0; n < NODES; n++)
        if (owned_at(s, n, room)) {
            s->asked++;
            cluster_move(&s->k, n, room, to[any(s, 6)]);
        }
}

/* The room host has done what it was asked, or something older. */
static void save_one(struct shuffle *s)
{
    const char *room = room_name(any(s, ROOMS));
    struct cluster_room *r = cluster_look(&s->k, room);
    if (!r || !r->still || s->k.nodes[r->still - 1].dead)
        return;
    cluster_released(&s->k, r->still - 1, room, any(s, 4) ? r->token : s->old_token);
    s->old_token = r->token;
}

static void end_one(struct shuffle *s, unsigned node)
{
    struct cluster_node *n = &s->k.nodes[node];
    if (!s->kills)
        return;
    if (n->dead && any(s, 2) && s->k.memory.fail_after < 0)
        cluster_restart(&s->k, node);
    else if (!n->dead && n->stopped)
        cluster_crash(&s->k, node);
    else if (!n->dead && living(s) > 2 && any(s, 2))
        cluster_stop(&s->k, node);
    else if (!n->dead && living(s) > 2)
        cluster_kill(&s->k, node);
}

static void count_players(struct shuffle *s)
{
    struct room_info now = {.id = world_id(room_name(any(s, ROOMS))), .players = any(s, 3), .seats = 2, .max_players = 2,
                            .seats_version = any(s, 1000)};
    for (unsigned n = 0; n < NODES; n++)
        if (owned_at(s, n, now.id.s))
            cluster_event(&s->k, n, (struct core_event){.kind = CORE_EV_ROOM_CHANGED, .room = &now});
}

/* Memory fails for a while, and the list of effects has to be made anew. */
static void starve(struct shuffle *s)
{
    struct cluster_node *n = &s->k.nodes[any(s, NODES)];
    struct room_info room = {.id = world_id(room_name(any(s, ROOMS)))};
    if (s->k.memory.fail_after <= 0)
        s->k.memory.fail_after = s->k.memory.fail_after == 0 || any(s, 3) ? -1 : (long)any(s, 40);
    if (n->dead)
        return;
    alloc_put(&s->k.memory.alloc, n->c->fx.items, n->c->fx.cap * sizeof(*n->c->fx.items));
    n->c->fx = (struct core_effects){0};
    if (any(s, 20) == 0)
        cluster_event(&s->k, (unsigned)(n - s->k.nodes),
                      (struct core_event){.kind = CORE_EV_ROOM_ENDED, .room = &room, .reason = "won"});
}

static void step(struct shuffle *s)
{
    struct cluster *k = &s->k;
    unsigned node = any(s, NODES);
    switch (any(s, 14)) {
    case 0:
    case 1:
        move_one(s);
        break;
    case 2:
        k->fault = (enum cluster_fault)any(s, CLUSTER_HELD + 1);
        k->faults = any(s, 3);
        k->spare = any(s, 2);
        break;
    case 3:
        k->hold_release = any(s, 2);
        break;
    case 4:
        save_one(s);
        break;
    case 5:
        k->release_code = any(s, 3) ? 0 : ROOM_E_IO;
        break;
    case 6:
        k->calls = (enum cluster_calls)any(s, 3);
        k->news = (enum cluster_calls)any(s, 3);
        break;
    case 7:
        k->deaf = any(s, 3) == 0;
        break;
    case 8:
        cluster_event(k, node, (struct core_event){.kind = k->nodes[node].dead ? CORE_EV_TICK : CORE_EV_DRAIN,
                                                   .on = any(s, 3) == 0});
        break;
    case 9:
        end_one(s, node);
        break;
    case 10:
        cluster_late(k);
        cluster_event(k, node, (struct core_event){.kind = any(s, 3) ? CORE_EV_BUS_UP : CORE_EV_BUS_DOWN});
        break;
    case 11:
        count_players(s);
        break;
    default:
        cluster_run(k, CORE_TICK_MS << any(s, 6));
        break;
    }
    check(s);
}

static void heal(struct shuffle *s)
{
    struct cluster *k = &s->k;
    k->fault = CLUSTER_FINE;
    k->faults = 0;
    cluster_late(k);
    k->hold_release = k->deaf = false;
    k->release_code = 0;
    k->calls = k->news = CALLS_FINE;
    for (unsigned i = 0; i < NODES; i++) {
        if (k->nodes[i].stopped && !k->nodes[i].dead)
            cluster_crash(k, i);
        if (k->nodes[i].dead)
            cluster_restart(k, i);
        cluster_event(k, i, (struct core_event){.kind = CORE_EV_BUS_UP});
        cluster_event(k, i, (struct core_event){.kind = CORE_EV_DRAIN});
        cluster_listing(k, i);
    }
    for (int ms = 0; ms < 40000; ms += 1000) {
        cluster_run(k, 1000);
        check(s);
        for (unsigned i = 0; i < NODES; i++) {
            if (k->nodes[i].stopped) /* the stop was under way when the faults ended */
                cluster_restart(k, i);
        }
    }
}

static void settled(struct shuffle *s)
{
    struct cluster *k = &s->k;
    for (unsigned i = 0; i < ROOMS; i++) {
        const struct cluster_room *r = cluster_look(k, room_name(i));
        bool none = i % 3 == 2;
        if (none && s->kills && r->deleted)
            continue;
        cr_assert(!r->deleted && r->info.state == ROOM_RUNNING, "seed %lu: %s is in state %d", (unsigned long)s->seed,
                  room_name(i), r->deleted ? 0 : (int)r->info.state);
        cr_assert(cluster_runs(k, (unsigned)(r->info.owner.s[0] - 'a'), room_name(i)), "seed %lu: %s",
                  (unsigned long)s->seed, room_name(i));
        cr_assert_eq(r->parked, 0);
    }
    for (unsigned i = 0; i < NODES; i++)
        cr_assert(k->nodes[i].c->moves == 0 && k->nodes[i].c->expected.count == 0, "seed %lu: node %u has %u moves",
                  (unsigned long)s->seed, i, k->nodes[i].c->moves);
    cr_assert(s->kills ? k->answers <= s->asked : k->answers == s->asked, "seed %lu: %u answers to %u",
              (unsigned long)s->seed, k->answers, s->asked);
}

static void shuffle(uint64_t seed, bool kills, bool safe)
{
    struct shuffle s = {.seed = seed, .kills = kills, .safe = safe};
    static const char *const types[] = {"safe", "snap", "game"};
    rng_init(&s.rng, seed);
    cluster_init(&s.k);
    s.k.seed = seed;
    s.k.config.stable_ms = 100; /* a room that dies with its owner again and again is another test's */
    s.k.config.migration_timeout_ms = 2000;
    for (int i = 0; i < NODES; i++)
        cluster_node(&s.k, 100);
    for (unsigned i = 0; i < ROOMS; i++)
        cluster_room(&s.k, i % NODES, room_name(i), types[i % 3]);
    cluster_run(&s.k, 1000);
    s.k.answers = 0;
    for (int i = 0; i < STEPS; i++) {
        if (!safe)
            starve(&s);
        step(&s);
    }
    s.k.memory.fail_after = -1;
    heal(&s);
    if (safe)
        settled(&s);
    cluster_end(&s.k);
}

Test(core_shuffle, rooms_that_move_among_nodes_that_live)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        shuffle(seed, false, true);
}

Test(core_shuffle, rooms_that_move_among_nodes_that_die_and_stop)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        shuffle(1000 + seed, true, true);
}

Test(core_shuffle, nothing_crashes_or_leaks_without_memory)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        shuffle(2000 + seed, true, false);
}
