/*
 * See core.h. Dispatches events to the parts and collects their effects; holds what more than one part needs: placement
 * over the view, kept options, life and death of the whole.
 */
#include "core/state.h"

#include <string.h>

void core_config_defaults(struct core_config *config)
{
    *config = (struct core_config){
        .ping_interval_ms = 250, .detect_ms = 500, .hang_ms = 3000, .lease_ms = 2000, .heartbeat_ms = 5000,
        .listing_ms = 100, .call_ms = 400, .create_ms = 9000, .kv_ms = 2000, .settle_ms = 5000, .stable_ms = 30000,
        .failover = true, .migration_timeout_ms = 10000, .drain_parallel = 8,
    };
}

struct core *core_create(const struct core_config *config, struct mono now, struct wall wall)
{
    struct core *c = alloc_get(config->alloc, sizeof(*c));
    if (!c)
        return NULL;
    c->config = *config;
    c->alloc = config->alloc;
    c->now = c->next_reap_scan = c->next_relist[0] = c->next_relist[1] = now;
    c->wall = wall;
    rng_init(&c->rng, config->seed);
    view_init(&c->view, c->alloc);
    map_init(&c->peers, c->alloc);
    map_init(&c->owned, c->alloc);
    map_init(&c->reaps, c->alloc);
    map_init(&c->adoptions, c->alloc);
    map_init(&c->held, c->alloc);
    map_init(&c->expected, c->alloc);
    self_init(c);
    return c;
}

/* A request that waits for an answer which will not come any more is freed with its operation. */
static void abandon(struct core *c, struct op *op)
{
    struct core_answer cancelled = {.code = ROOM_E_CANCELLED};
    struct wanting *w = op->owner;
    struct owned *o = op->owner;
    if (op->kind == OP_JOIN) {
        join_answer(c, op->owner, &cancelled);
    } else if (op->kind == OP_SEAT) {
        if (w->join)
            join_answer(c, w->join, &cancelled);
        core_drop_options(c, &w->call, w->options);
        alloc_put(c->alloc, w, sizeof(*w));
    } else if (op->kind == OP_ROOM && o->removed) {
        owner_release(c, o);
    }
}

void core_destroy(struct core *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->ops_cap; i++)
        if (c->ops[i].kind != OP_FREE)
            abandon(c, &c->ops[i]);
    join_deinit(c);
    allocate_deinit(c);
    owner_deinit(c);
    reap_deinit(c);
    adopt_deinit(c);
    release_deinit(c);
    expect_deinit(c);
    member_deinit(c);
    view_deinit(&c->view);
    alloc_put(c->alloc, c->ops, c->ops_cap * sizeof(*c->ops));
    alloc_put(c->alloc, c->fx.items, c->fx.cap * sizeof(*c->fx.items));
    alloc_put(c->alloc, c, sizeof(*c));
}

struct core_fx *core_fx(struct core *c, enum core_fx_kind kind)
{
    struct core_effects *e = &c->fx;
    if (e->count == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 16;
        struct core_fx *items = alloc_resize(c->alloc, e->items, e->cap * sizeof(*items), cap * sizeof(*items));
        if (!items)
            return NULL;
        e->items = items;
        e->cap = cap;
    }
    struct core_fx *fx = &e->items[e->count++];
    memset(fx, 0, sizeof(*fx));
    fx->kind = kind;
    return fx;
}

int core_create_ms(const struct core *c, const struct core_call *call)
{
    return call->generated ? 3 * c->config.call_ms : c->config.create_ms;
}

uint8_t *core_keep_options(struct core *c, struct core_call *call, bool *ok)
{
    *ok = true;
    if (call->options_len == 0) {
        call->options = NULL;
        return NULL;
    }
    uint8_t *copy = alloc_get(c->alloc, call->options_len);
    *ok = copy != NULL;
    if (copy)
        memcpy(copy, call->options, call->options_len);
    call->options = copy;
    return copy;
}

void core_drop_options(struct core *c, struct core_call *call, uint8_t *options)
{
    alloc_put(c->alloc, options, call->options_len);
    call->options = NULL;
    call->options_len = 0;
}

enum { CANDIDATES_MAX = 256, RELIST_MS = 30000 };

static int by_id(const struct place_candidate *a, const struct place_candidate *b)
{
    return strcmp(a->id, b->id);
}

/* Ascending by id, so that a strategy's choice does not depend on who was heard of first. */
static void insert(struct place_candidate *list, size_t *n, const struct place_candidate *c)
{
    if (*n == CANDIDATES_MAX)
        return;
    size_t i = (*n)++;
    for (; i > 0 && by_id(&list[i - 1], c) > 0; i--)
        list[i] = list[i - 1];
    list[i] = *c;
}

size_t core_rooms(const struct core *c)
{
    return c->owned.count + c->expected.count;
}

static bool among(const struct id *list, size_t n, const char *id)
{
    while (n > 0 && strcmp(list[n - 1].s, id) != 0)
        n--;
    return n > 0;
}

/* NULL and a reason: `full` when somebody could serve but for its capacity. */
static struct view_server *place(struct core *c, const struct id *avoid, size_t avoids, int *why)
{
    struct place_candidate list[CANDIDATES_MAX];
    size_t n = 0;
    *why = ROOM_E_UNAVAILABLE;
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it)) {
        const struct view_server *v = it.value;
        bool local = strcmp(it.key, c->self.info.id.s) == 0;
        bool able = local ? self_serves(c) && !c->drain.shown.on : view_server_usable(v) && v->info.status == SERVER_UP;
        able = able && !among(avoid, avoids, it.key);
        if (able)
            *why = ROOM_E_FULL;
        insert(list, &n,
               &(struct place_candidate){.id = v->info.id.s, .region = v->info.region, .local = local,
                                         .eligible = able,
                                         .rooms = (local ? (uint32_t)core_rooms(c) : v->info.rooms) + v->handed_out,
                                         .players = v->info.players, .connections = v->info.connections,
                                         .capacity = v->info.capacity, .load = v->info.load,
                                         .latency_us = local ? 1 : v->latency_us});
    }
    struct place_query q = {.strategy = c->config.strategy, .prefer_local = c->config.prefer_local,
                            .region = c->self.info.region, .cursor = c->place_cursor++};
    int i = place_choose(&q, list, n, &c->rng);
    return i < 0 ? NULL : view_server(&c->view, list[i].id);
}

int core_place(struct core *c, const struct id *avoid, size_t n, struct id *server_out)
{
    int why;
    struct view_server *v = place(c, avoid, n, &why);
    if (!v)
        return why;
    *server_out = v->info.id;
    v->handed_out++;
    return ROOM_E_OK;
}

static void beat(struct core *c, const struct server_info *b)
{
    struct view_server *v = view_server(&c->view, b->id.s);
    if (!v || strcmp(v->info.boot, b->boot) != 0 || v->info.status == SERVER_DOWN)
        return;
    view_unhide(&c->view, v);
    if (strcmp(b->id.s, c->self.info.id.s) == 0)
        return;
    v->info.rooms = b->rooms;
    v->info.players = b->players;
    v->info.connections = b->connections;
    v->info.load = b->load;
    v->handed_out = 0;
    v->last_beat = c->now;
    v->beaten = true;
    member_alive(c, b->id.s);
}

static void server_entry(struct core *c, const struct core_event *ev)
{
    const struct server_info *info = ev->server;
    if (!info->status) {
        view_del_server(&c->view, info->id.s, ev->revision);
        return;
    }
    if (strcmp(info->id.s, c->self.info.id.s) == 0)
        self_entry(c, info, ev->revision);
    const struct view_server *v = view_server(&c->view, info->id.s);
    bool was_up = v && v->info.status != SERVER_DOWN;
    view_put_server(&c->view, info, ev->revision);
    if (was_up && info->status == SERVER_DOWN) {
        member_server_gone(c, info);
        core_abandon_creates(c, info->id.s);
    }
}

static void room_entry(struct core *c, const struct core_event *ev)
{
    bool deleted = !ev->room->state;
    expect_before(c, ev->room);
    if (deleted)
        view_del_room(&c->view, ev->room->id.s, ev->revision);
    else
        view_put_room(&c->view, ev->room, ev->revision);
    owner_entry(c, ev->room, ev->revision, deleted);
    adopt_heard(c, ev->room->id.s);
}

/* The bus has told it, and the view has lost it (no memory at that moment) or never understood it. */
static void kept(struct core *c, const struct core_event *ev)
{
    if (!ev->key || view_keep(&c->view, ev->rooms, ev->key, ev->revision) || !mono_reached(c->now, c->next_relist[ev->rooms]))
        return;
    struct core_fx *fx = core_fx(c, CORE_FX_RELIST);
    if (!fx)
        return;
    fx->rooms = ev->rooms;
    c->next_relist[ev->rooms] = mono_add_ms(c->now, RELIST_MS);
}

static void call(struct core *c, const struct core_event *ev)
{
    if (ev->call->kind == CORE_CALL_CREATE)
        create_asked(c, ev->req, ev->call);
    else if (ev->call->kind == CORE_CALL_ALLOCATE)
        allocate_request(c, ev->req, NULL, ev->call);
    else if (ev->call->kind == CORE_CALL_PROBE)
        member_probe(c, ev->req, ev->call);
    else if (ev->call->kind == CORE_CALL_ADOPT)
        expect_asked(c, ev->req, ev->call);
}

#define KIND(k) (1u << (k))

/* Is an operation under way under this token, of a kind that this event can answer? */
static bool waits_for(struct core *c, uint64_t token, unsigned kinds)
{
    const struct op *op = op_find(c, token);
    return op && (kinds & KIND(op->kind));
}

static void ping_done(struct core *c, const struct core_event *ev)
{
    if (!waits_for(c, ev->token, KIND(OP_SELF) | KIND(OP_PING) | KIND(OP_PROBE)))
        return;
    struct op op = op_end(c, ev->token);
    if (op.kind == OP_SELF)
        self_ping_done(c, &op, ev);
    else if (op.kind == OP_PROBE)
        member_probe_done(c, &op, ev);
    else
        member_ping_done(c, &op, ev);
}

/* Nobody waits for a creation on a server that has gone silent: its deadline is made for a slow registry, not for that.
 * What the server may still make of it is made again elsewhere under the same id, and the registry knows one of them. */
void core_abandon_creates(struct core *c, const char *server)
{
    const struct core_answer late = {.code = ROOM_E_TIMEOUT};
    for (size_t i = 0; i < c->ops_cap; i++) {
        const struct op *at = &c->ops[i];
        if ((at->kind != OP_MAKE && at->kind != OP_JOIN) || at->step != CORE_CALL_CREATE ||
            strcmp(at->server.s, server) != 0)
            continue;
        struct op op = op_end(c, op_token(c, at));
        if (op.kind == OP_MAKE)
            allocate_made(c, &op, &late);
        else
            join_call_done(c, &op, &late);
    }
}

static void call_done(struct core *c, const struct core_event *ev)
{
    if (!waits_for(c, ev->token, KIND(OP_ASK) | KIND(OP_MAKE) | KIND(OP_SEAT) | KIND(OP_JOIN) | KIND(OP_MOVE)))
        return;
    struct op op = op_end(c, ev->token);
    if (op.kind == OP_ASK)
        member_ask_done(c, &op, ev->answer);
    else if (op.kind == OP_MAKE)
        allocate_made(c, &op, ev->answer);
    else if (op.kind == OP_SEAT)
        allocate_seated(c, &op, ev->answer);
    else if (op.kind == OP_MOVE)
        move_answered(c, &op, ev->answer);
    else
        join_call_done(c, &op, ev->answer);
}

static void kv_done(struct core *c, const struct core_event *ev)
{
    if (!waits_for(c, ev->token, KIND(OP_SELF) | KIND(OP_VERDICT) | KIND(OP_ROOM) | KIND(OP_REAP) | KIND(OP_ADOPT) |
                                  KIND(OP_HELD) | KIND(OP_EXPECT) | KIND(OP_JOIN)))
        return;
    struct op op = op_end(c, ev->token);
    if (op.kind == OP_SELF)
        self_kv_done(c, &op, ev);
    else if (op.kind == OP_VERDICT)
        member_kv_done(c, &op, ev);
    else if (op.kind == OP_ROOM)
        owner_kv_done(c, &op, ev);
    else if (op.kind == OP_REAP)
        reap_done(c, &op, ev);
    else if (op.kind == OP_ADOPT)
        adopt_done(c, &op, ev);
    else if (op.kind == OP_HELD)
        release_held_done(c, &op, ev);
    else if (op.kind == OP_EXPECT)
        expect_read(c, &op, ev);
    else
        join_kv_done(c, &op, ev);
}

static void tick(struct core *c)
{
    self_tick(c);
    member_tick(c);
    owner_tick(c);
    restore_tick(c);
    join_tick(c);
    reap_tick(c);
    adopt_tick(c);
    release_tick(c);
    move_tick(c);
    expect_tick(c);
    drain_tick(c);
}

static void dispatch(struct core *c, const struct core_event *ev)
{
    switch (ev->kind) {
    case CORE_EV_TICK:         tick(c); return;
    case CORE_EV_BUS_UP:       self_bus(c, true); return;
    case CORE_EV_BUS_DOWN:     self_bus(c, false); return;
    case CORE_EV_SYNC:         view_sync_begin(&c->view, ev->rooms); return;
    case CORE_EV_SYNCED:       view_sync_end(&c->view, ev->rooms); return;
    case CORE_EV_SERVER_ENTRY: server_entry(c, ev); return;
    case CORE_EV_ROOM_ENTRY:   room_entry(c, ev); return;
    case CORE_EV_KEPT:         kept(c, ev); return;
    case CORE_EV_BEAT:         beat(c, ev->server); return;
    case CORE_EV_PINGED:       self_reached(c); return;
    case CORE_EV_PING_DONE:    ping_done(c, ev); return;
    case CORE_EV_CALL:         call(c, ev); return;
    case CORE_EV_CALL_DONE:    call_done(c, ev); return;
    case CORE_EV_KV_DONE:      kv_done(c, ev); return;
    case CORE_EV_JOIN:         join_start(c, ev); return;
    case CORE_EV_STARTED:      create_started(c, ev->answer); return;
    case CORE_EV_ROOM_CHANGED: owner_changed(c, ev->room); return;
    case CORE_EV_ROOM_ENDED:   owner_ended(c, ev->room->id.s, ev->reason); return;
    case CORE_EV_RELEASED:     release_done(c, ev); return;
    case CORE_EV_HELD:         release_held(c, ev->room); return;
    case CORE_EV_DOUBT:        owner_doubt(c, ev->room->id.s); return;
    case CORE_EV_MOVE:         move_asked(c, ev); return;
    case CORE_EV_DRAIN:        drain_set(c, ev->on); return;
    case CORE_EV_COUNTS:       self_counts(c, ev->server); return;
    case CORE_EV_STOP:         self_stop(c); return;
    }
}

const struct core_effects *core_step(struct core *c, const struct core_event *ev, struct mono now, struct wall wall)
{
    c->fx.count = 0;
    owner_free_dead(c);
    c->now = now;
    c->wall = wall;
    dispatch(c, ev);
    drain_next(c);
    return &c->fx;
}

bool core_may_serve(const struct core *c)
{
    return self_serves(c);
}

bool core_has_more(const struct core *c)
{
    return c->more;
}

bool core_is_isolated(const struct core *c)
{
    return c->self.isolated;
}

const char *core_pending_key(struct core *c, uint64_t token)
{
    const struct op *op = op_find(c, token);
    return !op ? NULL : op->room.s[0] ? op->room.s : op->server.s;
}

const struct view *core_view(const struct core *c)
{
    return &c->view;
}

const struct server_info *core_self(const struct core *c)
{
    return &c->self.info;
}

/* Why nobody can be seated in a listed room now; NULL: he may be. */
static const char *closed_why(const struct core *c, const struct view_room *r)
{
    const struct owned *o = map_get(&c->owned, r->info.id.s);
    if (r->info.state == ROOM_PARKED)
        return "the room could not be restored and is parked";
    if (r->info.state != ROOM_RUNNING || (o && o->state != OWNED_RUNNING))
        return "the room is not running now";
    return o || view_server_usable(view_server(&c->view, r->info.owner.s)) ? NULL : "the room's server does not answer";
}

struct core_route core_route(struct core *c, const char *room, const char *type)
{
    const struct view_room *r = room ? view_room(&c->view, room) : NULL;
    struct core_route route = {.kind = CORE_ROUTE_UNAVAILABLE};
    const struct view_server *to;
    int why;
    if (r) {
        route.server = r->info.owner;
        route.reason = closed_why(c, r);
        if (!route.reason)
            route.kind = map_get(&c->owned, room) ? CORE_ROUTE_LOCAL : CORE_ROUTE_REMOTE;
    } else if (!type) {
        route.reason = "no such room";
    } else if ((to = place(c, NULL, 0, &why))) { /* only a question: nothing is handed out */
        route.kind = CORE_ROUTE_CREATE;
        route.server = to->info.id;
    } else {
        route.reason = why == ROOM_E_FULL ? "every server is at its limit of rooms" : "no server can take a room now";
    }
    return route;
}
