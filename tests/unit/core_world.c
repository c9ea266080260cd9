/* See core_world.h. */
#include "core_world.h"

#include <stdio.h>
#include <stdlib.h>

static uint32_t seats_of(void *arg, const char *type)
{
    (void)arg;
    return strcmp(type, "duel") == 0 || strcmp(type, "safe") == 0 || strcmp(type, "snap") == 0 ||
                   strcmp(type, "stay") == 0 || strcmp(type, "game") == 0
               ? 2
               : 0;
}

static uint8_t durability_of(void *arg, const char *type)
{
    (void)arg;
    bool none = strcmp(type, "duel") == 0 || strcmp(type, "game") == 0;
    return none ? DURABILITY_NONE : strcmp(type, "snap") == 0 ? DURABILITY_SNAPSHOT : DURABILITY_JOURNAL;
}

static bool movable_of(void *arg, const char *type)
{
    (void)arg;
    return strcmp(type, "game") == 0;
}

static bool failover_of(void *arg, const char *type)
{
    (void)arg;
    return strcmp(type, "stay") != 0;
}

struct id world_id(const char *s)
{
    struct id id = {0};
    snprintf(id.s, sizeof(id.s), "%s", s);
    return id;
}

void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    alloc_budget_init(&w->memory, &alloc_libc, SIZE_MAX);
    core_config_defaults(&w->config);
    w->config.alloc = &w->memory.alloc;
    w->config.seed = 7;
    w->config.strategy = PLACE_LEAST_ROOMS;
    w->config.type_max_players = seats_of;
    w->config.type_durability = durability_of;
    w->config.type_failover = failover_of;
    w->config.type_movable = movable_of;
    w->config.self = world_server("a", "");
    w->now.us = 1000000;
    w->wall.ms = 1700000000000;
    w->grant_self = true;
    w->fx = calloc(WORLD_FX, sizeof(*w->fx));
    cr_assert_not_null(w->fx);
}

void world_start(struct world *w)
{
    w->c = core_create(&w->config, w->now, w->wall);
    cr_assert_not_null(w->c);
}

void world_end(struct world *w)
{
    core_destroy(w->c);
    cr_assert_eq(w->memory.used_bytes, 0, "%zu bytes were not given back", w->memory.used_bytes);
    free(w->fx);
}

/* Answers that a test does not care about; true: the effect needs no further attention. */
static bool answered_here(struct world *w, const struct core_fx *fx)
{
    bool own = strcmp(fx->server.s, w->config.self.id.s) == 0;
    struct server_info me = *core_self(w->c);
    if (fx->kind == CORE_FX_PING && !own && !w->hold_pings)
        world_pinged(w, fx->token, w->ping);
    else if (fx->kind == CORE_FX_PUT_SERVER && own && w->grant_self)
        world_kv(w, fx->token, CORE_KV_OK, ++w->revision, NULL, NULL);
    else if (fx->kind == CORE_FX_GET_SERVER && own && w->grant_self)
        world_kv(w, fx->token, w->c->self.revision ? CORE_KV_OK : CORE_KV_NOT_FOUND, w->c->self.revision, &me, NULL);
    else
        return false;
    return true;
}

void world_step(struct world *w, struct core_event ev)
{
    const struct core_effects *e = core_step(w->c, &ev, w->now, w->wall);
    size_t first = w->count, end = first + e->count;
    cr_assert_leq(end, WORLD_FX);
    if (e->count)
        memcpy(w->fx + first, e->items, e->count * sizeof(*w->fx));
    w->count = end;
    for (size_t i = first; i < end && i < w->count;) {
        struct core_fx fx = w->fx[i];
        memmove(w->fx + i, w->fx + i + 1, (w->count - i - 1) * sizeof(*w->fx));
        w->count--;
        end--;
        if (answered_here(w, &fx))
            continue;
        memmove(w->fx + i + 1, w->fx + i, (w->count - i) * sizeof(*w->fx));
        w->fx[i++] = fx;
        w->count++;
        end++;
    }
}

void world_run(struct world *w, int ms)
{
    for (int t = 0; t < ms; t += CORE_TICK_MS) {
        w->now = mono_add_ms(w->now, CORE_TICK_MS);
        w->wall.ms += CORE_TICK_MS;
        world_step(w, (struct core_event){.kind = CORE_EV_TICK});
    }
}

static struct core_fx *take_at(struct world *w, size_t i)
{
    w->taken = w->fx[i];
    memmove(w->fx + i, w->fx + i + 1, (w->count - i - 1) * sizeof(*w->fx));
    w->count--;
    return &w->taken;
}

struct core_fx *world_find(struct world *w, enum core_fx_kind kind)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->fx[i].kind == kind)
            return take_at(w, i);
    return NULL;
}

struct core_fx *world_take(struct world *w, enum core_fx_kind kind)
{
    struct core_fx *fx = world_find(w, kind);
    cr_assert_not_null(fx, "no effect of kind %d", (int)kind);
    return fx;
}

struct core_fx *world_take_call(struct world *w, enum core_call_kind kind)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->fx[i].kind == CORE_FX_CALL && w->fx[i].call.kind == kind)
            return take_at(w, i);
    cr_assert_fail("no call of kind %d", (int)kind);
    return NULL;
}

size_t world_count(const struct world *w, enum core_fx_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < w->count; i++)
        n += w->fx[i].kind == kind;
    return n;
}

void world_clear(struct world *w)
{
    w->count = 0;
}

struct server_info world_server(const char *id, const char *boot)
{
    struct server_info info = {.id = world_id(id), .status = SERVER_UP, .capacity = 1000};
    snprintf(info.boot, sizeof(info.boot), "%s", boot);
    return info;
}

struct room_info world_room(const char *id, const char *owner, const char *boot)
{
    struct room_info info = {.id = world_id(id), .type = world_id("duel"), .owner = world_id(owner), .epoch = 1,
                             .max_players = 2, .state = ROOM_RUNNING};
    snprintf(info.boot, sizeof(info.boot), "%s", boot);
    return info;
}

void world_listing(struct world *w)
{
    for (int rooms = 0; rooms < 2; rooms++) {
        world_step(w, (struct core_event){.kind = CORE_EV_SYNC, .rooms = rooms});
        world_step(w, (struct core_event){.kind = CORE_EV_SYNCED, .rooms = rooms});
    }
}

void world_join(struct world *w)
{
    world_step(w, (struct core_event){.kind = CORE_EV_BUS_UP});
    world_listing(w);
    world_run(w, 200);
    world_take(w, CORE_FX_READY);
    cr_assert(core_may_serve(w->c));
}

void world_begin(struct world *w)
{
    world_init(w);
    world_start(w);
    world_join(w);
}

void world_server_entry(struct world *w, struct server_info info)
{
    world_step(w, (struct core_event){.kind = CORE_EV_SERVER_ENTRY, .revision = ++w->revision, .server = &info});
}

void world_room_entry(struct world *w, struct room_info info)
{
    world_step(w, (struct core_event){.kind = CORE_EV_ROOM_ENTRY, .revision = ++w->revision, .room = &info});
}

void world_kv(struct world *w, uint64_t token, enum core_kv_result result, uint64_t revision,
              const struct server_info *server, const struct room_info *room)
{
    world_step(w, (struct core_event){.kind = CORE_EV_KV_DONE, .token = token, .kv_result = result,
                                      .revision = revision, .server = server, .room = room});
}

void world_pinged(struct world *w, uint64_t token, enum core_ping_result result)
{
    world_step(w, (struct core_event){.kind = CORE_EV_PING_DONE, .token = token, .ping_result = result,
                                      .took_us = 100});
}

void world_answer(struct world *w, uint64_t token, struct core_answer answer)
{
    world_step(w, (struct core_event){.kind = CORE_EV_CALL_DONE, .token = token, .answer = &answer});
}

void world_create(struct world *w, uint64_t req, const char *room, bool generated)
{
    struct core_call call = {.kind = CORE_CALL_CREATE, .room = world_id(room), .type = world_id("duel"),
                             .player = world_id("p"), .generated = generated};
    world_step(w, (struct core_event){.kind = CORE_EV_CALL, .req = req, .call = &call});
}

void world_started(struct world *w, const char *room, int code)
{
    struct core_answer answer = {.code = code, .room = world_id(room), .seats = 1, .max_players = 2,
                                 .seats_version = 1, .ticket = "t"};
    world_step(w, (struct core_event){.kind = CORE_EV_STARTED, .answer = &answer});
}

void world_running(struct world *w, const char *room)
{
    world_create(w, 1, room, true);
    world_take(w, CORE_FX_ROOM_START);
    world_started(w, room, ROOM_E_OK);
    cr_assert_eq(world_take(w, CORE_FX_CALL_REPLY)->answer.code, ROOM_E_OK);
    world_run(w, 50);
    world_kv(w, world_take(w, CORE_FX_PUT_ROOM)->token, CORE_KV_OK, ++w->revision, NULL, NULL);
    world_clear(w);
}

void world_want(struct world *w, uint64_t req, enum core_join_mode mode, const char *room, const char *type)
{
    struct core_call call = {.room = world_id(room), .type = world_id(type), .player = world_id("p")};
    world_step(w, (struct core_event){.kind = CORE_EV_JOIN, .req = req, .join_mode = mode, .call = &call});
}
