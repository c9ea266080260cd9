/* No sequence of events, with or without memory, crashes the core or leaks. The oracle is the account of memory (and the
 * sanitizers, where the build has them). */
#include <stdio.h>

#include "core_world.h"

TestSuite(core_total, .timeout = 120);

enum { TOKENS = 64 };

struct chaos {
    struct core *c;
    struct rng rng;
    struct mono now;
    struct wall wall;
    uint64_t tokens[TOKENS], write, call; /* the last of these two */
    struct core_fx own, release; /* an operation on this node's own entry; the last of these */
};

static struct id some(struct chaos *k, const char *of)
{
    char name[2] = {of[rng_below(&k->rng, strlen(of))], 0};
    return world_id(name[0] == '0' ? "" : name);
}

/* What is asked about its own entry is mostly granted: a node that is never in the registry does next to nothing. */
static void look(struct chaos *k, const struct core_effects *e)
{
    for (size_t i = 0; i < e->count; i++) {
        const struct core_fx *fx = &e->items[i];
        bool put = fx->kind == CORE_FX_PUT_SERVER && strcmp(fx->server_entry.id.s, "a") == 0;
        if (put || (fx->kind == CORE_FX_GET_SERVER && strcmp(fx->server.s, "a") == 0))
            k->own = *fx;
        if (fx->kind == CORE_FX_ROOM_RELEASE)
            k->release = *fx;
        else if (fx->kind == CORE_FX_PUT_ROOM)
            k->write = fx->token;
        else if (fx->kind == CORE_FX_CALL)
            k->call = fx->token;
        else if (fx->token)
            k->tokens[rng_below(&k->rng, TOKENS)] = fx->token;
    }
}

static void grant(struct chaos *k)
{
    struct server_info me = *core_self(k->c);
    struct core_event ev = {.kind = CORE_EV_KV_DONE, .token = k->own.token, .kv_result = CORE_KV_OK, .revision = 50,
                            .server = k->own.kind == CORE_FX_GET_SERVER ? &me : NULL};
    k->own.token = 0;
    look(k, core_step(k->c, &ev, k->now, k->wall));
}

static void random_event(struct chaos *k)
{
    static const char *const boots[] = {"", "01B", "01C", "7ZZZZZZZZZAAAAAAAAAAAAAAAA"};
    static const char *const reasons[] = {"empty", "failed"};
    struct server_info s = world_server("a", boots[rng_below(&k->rng, 4)]);
    struct room_info r = world_room("r", "b", boots[rng_below(&k->rng, 4)]);
    uint8_t options[3] = {1, 2, 3};
    s.id = some(k, rng_below(&k->rng, 100) ? "bc" : "a"); /* what is said of itself mostly ends all it has */
    s.status = (enum server_status)rng_below(&k->rng, 4);
    memcpy(s.down_by, core_self(k->c)->boot, sizeof(s.down_by));
    if (rng_below(&k->rng, 2))
        memcpy(s.boot, core_self(k->c)->boot, sizeof(s.boot));
    static const char *const types[] = {"duel", "safe", "safe", "snap", "game", "x"};
    r.id = some(k, "rst0");
    r.type = world_id(types[rng_below(&k->rng, 6)]);
    r.durability = (uint8_t)rng_below(&k->rng, 3);
    r.restores = (uint8_t)rng_below(&k->rng, 5);
    r.owner = some(k, "abc");
    r.state = (enum room_state)rng_below(&k->rng, 5);
    r.seats = (uint32_t)rng_below(&k->rng, 3);
    r.epoch = rng_below(&k->rng, 3);
    if (rng_below(&k->rng, 2))
        memcpy(r.boot, core_self(k->c)->boot, sizeof(r.boot));
    struct core_call call = {.kind = (enum core_call_kind)rng_below(&k->rng, 6), .room = some(k, "rst0"),
                             .type = world_id(types[rng_below(&k->rng, 6)]), .player = some(k, "pq"),
                             .create_id = some(k, "xyz0000"), .server = some(k, "abc"),
                             .generated = rng_below(&k->rng, 2), .options = options,
                             .options_len = rng_below(&k->rng, 4), .epoch = rng_below(&k->rng, 4),
                             .revision = rng_below(&k->rng, 50), .commit = rng_below(&k->rng, 2), .reason = "drain"};
    struct core_answer answer = {.code = rng_below(&k->rng, 2) ? 0 : -(int)rng_below(&k->rng, 30),
                                 .room = some(k, "rst0"), .type = world_id("duel"), .server = some(k, "abc0"),
                                 .epoch = rng_below(&k->rng, 3), .seats = (uint32_t)rng_below(&k->rng, 3),
                                 .seats_version = rng_below(&k->rng, 5), .max_players = (uint32_t)rng_below(&k->rng, 3)};
    memcpy(answer.boot, "01B", rng_below(&k->rng, 2) ? 4 : 0);
    struct id key = some(k, "rst0");
    struct core_event ev = {.key = key.s, .kind = (enum core_event_kind)rng_below(&k->rng, CORE_EV_STOP + (rng_below(&k->rng, 400) == 0)),
                            .token = rng_below(&k->rng, 20) ? k->tokens[rng_below(&k->rng, TOKENS)] : rng_next(&k->rng),
                            .req = rng_next(&k->rng), .revision = rng_below(&k->rng, 50),
                            .rooms = rng_below(&k->rng, 2), .on = rng_below(&k->rng, 3) == 0,
                            .ping_result = (enum core_ping_result)rng_below(&k->rng, 3),
                            .kv_result = (enum core_kv_result)rng_below(&k->rng, 4),
                            .join_mode = (enum core_join_mode)(1 + rng_below(&k->rng, 3)), .took_us = 5, .boot = "01B",
                            .reason = reasons[rng_below(&k->rng, 2)], .call = &call, .answer = &answer,
                            .server = &s, .room = &r};
    if (rng_below(&k->rng, 4) == 0)
        ev.kind = CORE_EV_TICK;
    if (rng_below(&k->rng, 8) == 0)
        ev.kind = CORE_EV_STARTED;
    if (k->release.room.s[0] && rng_below(&k->rng, 10) == 0) {
        ev.kind = CORE_EV_RELEASED;
        ev.token = k->release.token;
        ev.answer = rng_below(&k->rng, 4) ? NULL : &answer;
        r.id = k->release.room;
        k->release.room.s[0] = 0;
    }
    if (ev.kind == CORE_EV_KV_DONE && rng_below(&k->rng, 2))
        ev.token = k->write;
    if (ev.kind == CORE_EV_CALL_DONE)
        ev.token = k->call;
    if (ev.kind == CORE_EV_BUS_DOWN && rng_below(&k->rng, 4))
        ev.kind = CORE_EV_BUS_UP;
    if (ev.kind == CORE_EV_KV_DONE && rng_below(&k->rng, 5) == 0)
        ev.room = NULL, ev.server = NULL;
    look(k, core_step(k->c, &ev, k->now, k->wall));
    if (k->own.token && rng_below(&k->rng, 3) == 0)
        grant(k);
    k->now = mono_add_ms(k->now, (int64_t)rng_below(&k->rng, rng_below(&k->rng, 200) ? 60 : 3000));
}

static void chaos(uint64_t seed, long fail_after)
{
    struct world w;
    world_init(&w);
    struct chaos k = {.now = w.now, .wall = w.wall};
    rng_init(&k.rng, seed);
    w.config.strategy = (enum place_strategy)(seed % PLACE_COUNT);
    world_start(&w);
    k.c = w.c;
    if (seed % 4)
        world_join(&w);
    w.memory.fail_after = fail_after;
    for (int i = 0; i < 2000; i++) {
        random_event(&k);
        if (w.memory.fail_after == 0 && rng_below(&k.rng, 10) == 0)
            w.memory.fail_after = fail_after + (long)rng_below(&k.rng, 20);
    }
    world_end(&w);
}

Test(core_total, random_events)
{
    for (uint64_t seed = 1; seed <= 60; seed++)
        chaos(seed, -1);
}

Test(core_total, random_events_while_memory_fails)
{
    for (uint64_t seed = 1; seed <= 60; seed++)
        chaos(seed, (long)(seed % 12));
}
