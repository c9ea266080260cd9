/*
 * See node.h. Life of a node, and the turn of its loop.
 *
 * Decides: the order of a turn (bus, what is due, the core's queue, links, flush) and its budget.
 */
#include "node/state.h"

enum { BUFFER_MAX = 16 * 1024 * 1024, LOAD_MIN_US = 100000 };

static void kernel_random(void *arg, void *out, size_t len)
{
    rng_secret(out, len);
}

void node_config_defaults(struct node_config *c)
{
    *c = (struct node_config){.fill_random = kernel_random, .routing = NODE_AUTO, .seat_ttl_ms = 15000, .empty_ms = 30000,
                              .snapshot_ms = 30000, .hold_ms = 30000, .drain_ms = 30000, .beat_ms = 1000,
                              .server_ttl_ms = 30000, .rooms_per_session = 16, .rate_requests = 50,
                              .reply_max_bytes = ROOM_DATA_MAX, .inbox_bytes = 256 * 1024,
                              .inbox_ttl_ms = 7 * 24 * 3600 * INT64_C(1000),
                              .relay_window_bytes = 8 * 1024 * 1024};
    core_config_defaults(&c->core);
}

static uint32_t type_max_players(void *arg, const char *type)
{
    const struct node *n = arg;
    const struct room_type_def *def = types_find(n->config.types, type);
    return def ? def->max_players : 0;
}

static uint8_t type_durability(void *arg, const char *type)
{
    const struct node *n = arg;
    const struct room_type_def *def = n->store ? types_find(n->config.types, type) : NULL;
    return def ? (uint8_t)def->durability : ROOM_DURABILITY_NONE;
}

static bool type_movable(void *arg, const char *type)
{
    const struct node *n = arg;
    const struct room_type_def *def = n->store ? types_find(n->config.types, type) : NULL;
    return def && def->impl->save && def->impl->restore;
}

static bool type_failover(void *arg, const char *type)
{
    const struct node *n = arg;
    const struct room_type_def *def = types_find(n->config.types, type);
    return def && def->failover;
}

static void init_tables(struct node *n)
{
    const struct alloc *a = n->alloc;
    umap_init(&n->conns, a);
    umap_init(&n->arrivals, a);
    umap_init(&n->arriving, a);
    umap_init(&n->sessions, a);
    umap_init(&n->members, a);
    umap_init(&n->requests, a);
    map_init(&n->remotes, a);
    map_init(&n->relayed, a);
    map_init(&n->by_session, a);
    map_init(&n->revoked.entries, a);
    map_init(&n->links, a);
    buf_init(&n->scratch, a, BUFFER_MAX);
    buf_init(&n->frame, a, BUFFER_MAX);
    buf_init(&n->frame_out, a, BUFFER_MAX);
    buf_init(&n->tail_json, a, BUFFER_MAX);
    buf_init(&n->image, a, KEEP_IMAGE_MAX + ULID_SIZE);
    map_init(&n->journals, a);
    umap_init(&n->journal_serials, a);
    map_init(&n->purges, a);
    map_init(&n->kept, a);
    umap_init(&n->kept_serials, a);
    map_init(&n->carries, a);
    umap_init(&n->carry_serials, a);
    map_init(&n->restores, a);
    umap_init(&n->restore_serials, a);
    umap_init(&n->lock_askers, a);
    umap_init(&n->collects, a);
    map_init(&n->posts, a);
    umap_init(&n->post_serials, a);
    umap_init(&n->outside, a);
    talk_init(n);
    shared_init(n);
}

static void event(struct node *n, enum core_event_kind kind)
{
    (void)step_event(n, kind);
}

struct node *node_create(const struct node_config *config, struct bus *bus, const struct node_out *out,
                         struct mono now, struct wall wall)
{
    struct node *n = alloc_get(config->core.alloc, sizeof(*n));
    if (!n)
        return NULL;
    n->config = *config;
    n->alloc = config->core.alloc;
    n->bus = bus;
    n->store = config->store;
    n->out = *out;
    n->now = n->next_tick = n->next_beat = n->cpu_since = now;
    n->next_renewal = mono_add_ms(now, PRESENCE_RENEW_MS);
    n->cpu_at = config->cpu_us ? config->cpu_us(config->cpu_arg) : 0;
    n->wall = n->started = wall;
    n->queue_last = &n->queue_first;
    rng_init(&n->rng, config->core.seed ^ 0x6e6f6465u);
    init_tables(n);
    struct core_config cc = config->core;
    cc.type_max_players = type_max_players;
    cc.type_durability = type_durability;
    cc.type_failover = type_failover;
    cc.type_movable = type_movable;
    cc.type_arg = n;
    for (unsigned i = 0; config->queues && i < config->queues->count; i++)
        cc.self.queues |= registry_queue_bit(config->queues->items[i].name.s);
    n->core = core_create(&cc, now, wall);
    struct host_config hc = {.alloc = n->alloc, .types = config->types, .out = &seat_host_out, .out_arg = n,
                             .seat_ttl_ms = config->seat_ttl_ms, .empty_ms = config->empty_ms,
                             .room_max_bytes = config->room_max_bytes, .hold_ms = config->hold_ms,
                             .journal = config->store != NULL, .snapshots = config->store != NULL,
                             .max_rooms = config->core.self.capacity,
                             .fill_random = config->fill_random, .random_arg = config->random_arg,
                             .seed = config->core.seed, .cpu_us = config->cpu_us, .cpu_arg = config->cpu_arg};
    n->host = n->core ? host_create(&hc) : NULL;
    char beats[SUBJECT_SIZE];
    if (!n->host || !route_init(n) || !locks_init(n) || !matching_init(n) ||
         bus_subscribe(bus, SUB_BEATS, subject_server(beats, "*", "beat"))) {
        node_destroy(n);
        return NULL;
    }
    return n;
}

static void free_queue(struct node *n)
{
    for (struct queued *q = n->queue_first, *next; q; q = next) {
        next = q->next;
        alloc_put(n->alloc, q->options, q->call.options_len);
        alloc_put(n->alloc, q, sizeof(*q));
    }
    n->queue_first = NULL;
}

static void free_sessions(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        for (struct place *p = s->places, *next; p; p = next) {
            next = p->next;
            sends_clear(n, p);
            alloc_put(n->alloc, p, sizeof(*p));
        }
        tail_clear(&s->tail, n->alloc);
        route_forget(n, s);
        alloc_put(n->alloc, s, sizeof(*s));
    }
}

void node_destroy(struct node *n)
{
    if (!n)
        return;
    free_queue(n);
    free_sessions(n);
    presence_deinit(n);
    for (struct umap_iter it = umap_first(&n->members); it.value; umap_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct member));
    for (struct umap_iter it = umap_first(&n->requests); it.value; umap_next(&it))
        call_free(n, it.value);
    for (struct map_iter it = map_first(&n->relayed); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct relayed));
    route_deinit(n);
    link_deinit(n);
    append_deinit(n);
    keep_deinit(n);
    carry_deinit(n);
    revive_deinit(n);
    revoked_deinit(n);
    locks_deinit(n);
    talk_deinit(n);
    shared_deinit(n);
    collect_deinit(n);
    push_deinit(n);
    shout_deinit(n);
    outside_deinit(n);
    matching_deinit(n);
    umap_deinit(&n->conns);
    umap_deinit(&n->sessions);
    umap_deinit(&n->members);
    umap_deinit(&n->requests);
    map_deinit(&n->remotes);
    map_deinit(&n->relayed);
    map_deinit(&n->by_session);
    host_destroy(n->host);
    core_destroy(n->core);
    buf_deinit(&n->scratch);
    buf_deinit(&n->frame);
    buf_deinit(&n->frame_out);
    buf_deinit(&n->tail_json);
    buf_deinit(&n->image);
    alloc_put(n->alloc, n, sizeof(*n));
}

static bool is_listed(void *node, const char *id)
{
    const struct node *n = node;
    return view_room(core_view(n->core), id) != NULL;
}

/* What a listing did not show any more has left the view without a word. */
static void sweep_lobby(struct node *n)
{
    n->lobby_stale = false;
    host_lobby_keep(n->host, is_listed, n, n->now);
}

/* What operators must know of the disk; rooms play on. */
static void trouble(const struct node *n, const struct store_event *ev)
{
    const char *detail = ev->detail ? ev->detail : "";
    if (!n->config.log)
        return;
    if (ev->kind == STORE_EV_WELL)
        LOG_INF("snapshots reach the disk again", "server=%s", core_self(n->core)->id.s);
    else if (ev->kind == STORE_EV_TROUBLE)
        LOG_ERR("snapshots do not reach the disk; rooms play on, and they are tried again", "detail=\"%s\"", detail);
    else
        LOG_ERR("damaged snapshot", "room=%s detail=\"%s\"", ev->snapshot.room ? ev->snapshot.room : "-", detail);
}

void node_doubt(struct node *n, const char *room)
{
    struct queued *q = step_event(n, CORE_EV_DOUBT);
    if (!q)
        return;
    id_set(&q->room.id, room);
    q->ev.room = &q->room;
}

void node_unhost(struct node *n, const char *room, bool moved)
{
    const struct room *r = host_find(n->host, room);
    const void *cursor = NULL;
    struct host_member hm;
    while (r && host_room_member(r, &cursor, &hm)) {
        struct member *m = umap_get(&n->members, hm.who);
        if (m && m->place && !attach_wait(n, m->place, moved))
            session_place_drop(n, m->place, "room_lost", true);
        if (m)
            seat_drop(n, hm.who);
    }
    const struct kept *k = keep_room(n, room);
    if (k && k->passing)
        (void)store_forget(n->store, 0, room); /* of no use once the next owner has it */
    append_close(n, room);
    keep_remove(n, room);
    talk_close(n, room);
    (void)host_discard(n->host, room);
    n->stray_joins = true;
}

static void on_store(void *arg, const struct store_event *ev)
{
    struct node *n = arg;
    if (ev->kind == STORE_EV_TROUBLE || ev->kind == STORE_EV_WELL || ev->kind == STORE_EV_DAMAGED) {
        trouble(n, ev);
        return;
    }
    switch (ev->token >> TOKEN_SHIFT) {
    case STORE_TOKEN_SAVE:      keep_saved(n, ev); break;
    case STORE_TOKEN_RESTORE:   revive_store(n, ev); break;
    case STORE_TOKEN_CARRY:     carry_store(n, ev); break;
    case STORE_TOKEN_SCAN:      carry_scanned(n, ev); break;
    case STORE_TOKEN_HELD:      cluster_held(n, ev); break;
    case STORE_TOKEN_HELD_LOAD: cluster_held_loaded(n, ev); break;
    }
    step_run(n);
}

static void measure_load(struct node *n)
{
    int64_t wall_us = n->now.us - n->cpu_since.us;
    if (!n->config.cpu_us || wall_us < LOAD_MIN_US)
        return;
    int64_t cpu = n->config.cpu_us(n->config.cpu_arg);
    double load = (double)(cpu - n->cpu_at) / (double)wall_us;
    n->load = load < 0 ? 0 : load > 1 ? 1 : load;
    n->cpu_at = cpu;
    n->cpu_since = n->now;
}

static void tick(struct node *n)
{
    n->next_tick = mono_add_ms(n->now, NODE_TICK_MS);
    cluster_tick(n);
    if (mono_reached(n->now, n->next_beat)) {
        n->next_beat = mono_add_ms(n->now, n->config.beat_ms);
        measure_load(n);
        registry_beat(n);
    }
    event(n, CORE_EV_TICK);
    step_run(n);
    attach_end_strays(n);
    relay_tick(n);
    link_tick(n);
    append_tick(n);
    revive_tick(n);
    keep_tick(n);
    carry_tick(n);
    attach_tick(n);
    presence_tick(n);
    resume_tick(n);
    roster_tick(n);
    admit_tick(n);
    locks_tick(n);
    matching_tick(n);
    talk_tick(n);
    shared_tick(n);
    collect_tick(n);
    push_tick(n);
    leave_tick(n);
    backend_tick(n);
}

bool node_catch_up(struct node *n)
{
    bool due = mono_reached(n->now, n->next_tick);
    if (due)
        tick(n);
    return due;
}

bool node_turn(struct node *n, struct mono now, struct wall wall)
{
    struct mono due;
    n->now = now;
    n->wall = wall;
    size_t events = 0;
    if (!node_catch_up(n) && core_has_more(n->core))
        event(n, CORE_EV_TICK);
    events = bus_drain(n->bus, events_bus, n, NODE_BUS_BUDGET);
    if (host_next_due(n->host, &due) && mono_reached(now, due))
        host_tick(n->host, now);
    size_t stored = n->store ? store_drain(n->store, on_store, n, NODE_BUS_BUDGET) : 0;
    step_run(n);
    if (n->attach_due) {
        n->attach_due = false;
        attach_tick(n);
    }
    step_run(n);
    sends_turn(n);
    carry_turn(n);
    bool more = talk_turn(n);
    if (n->lobby_stale)
        sweep_lobby(n);
    link_flush(n);
    bus_flush(n->bus);
    return more || events >= NODE_BUS_BUDGET || stored >= NODE_BUS_BUDGET || core_has_more(n->core) ||
           (host_next_due(n->host, &due) && mono_reached(now, due));
}

struct mono node_next_due(const struct node *n)
{
    struct mono due = n->next_tick, host;
    if (host_next_due(n->host, &host) && host.us < due.us)
        due = host;
    return due;
}

void node_end(struct node *n)
{
    if (n->stopping)
        return;
    n->stopping = true;
    n->draining = n->stop_after = false;
    event(n, CORE_EV_STOP);
    step_run(n);
    presence_stop(n);
    route_stop(n);
    for (struct umap_iter it = umap_first(&n->sessions); it.value; it = umap_first(&n->sessions)) {
        struct session *s = it.value;
        s->moved = s->can_resume; /* what is written down of it suffices elsewhere */
        session_kick(n, s, "server_stopping", NULL);
    }
    step_run(n);
    link_flush(n);
    bus_flush(n->bus);
}

bool node_stop(struct node *n, const char *reason, struct mono now, struct wall wall)
{
    n->now = now;
    n->wall = wall;
    if (n->stopping)
        return false;
    if (n->config.log)
        LOG_INF("stopping", "reason=\"%s\" rooms=%u sessions=%zu", reason, host_room_count(n->host),
                n->sessions.count);
    bool drains = !n->stop_after && n->config.drain_ms > 0 && n->bus_up && core_may_serve(n->core) && leave_possible(n) &&
                  (host_room_count(n->host) || n->sessions.count);
    if (drains) {
        leave_set(n, true);
        n->stop_after = true;
        n->drain_deadline = mono_add_ms(now, n->config.drain_ms);
        step_run(n);
        return true;
    }
    node_end(n);
    return true;
}

struct core *node_core(struct node *n)
{
    return n->core;
}

struct host *node_host(struct node *n)
{
    return n->host;
}

void node_get_stats(const struct node *n, struct node_stats *out)
{
    *out = n->stats;
    out->relayed = n->remotes.count;
}
