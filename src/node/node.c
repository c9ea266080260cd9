/*
 * See node.h. Life of a node, the turn of its loop, and what each event of the bus means.
 *
 * Decides: the order of a turn (bus, what is due, the core's queue, links, flush) and its budget.
 */
#include "node/state.h"

enum { BUFFER_MAX = 16 * 1024 * 1024, LOAD_MIN_US = 100000 };

void node_config_defaults(struct node_config *c)
{
    *c = (struct node_config){.routing = NODE_AUTO, .seat_ttl_ms = 15000, .empty_ms = 30000, .beat_ms = 1000,
                              .server_ttl_ms = 30000, .rooms_per_session = 16,
                              .relay_window_bytes = 8 * 1024 * 1024};
    core_config_defaults(&c->core);
}

static uint32_t type_max_players(void *arg, const char *type)
{
    const struct node *n = arg;
    const struct room_type_def *def = types_find(n->config.types, type);
    return def ? def->max_players : 0;
}

static void init_tables(struct node *n)
{
    const struct alloc *a = n->alloc;
    umap_init(&n->conns, a);
    umap_init(&n->sessions, a);
    umap_init(&n->members, a);
    umap_init(&n->requests, a);
    map_init(&n->remotes, a);
    map_init(&n->relayed, a);
    map_init(&n->by_session, a);
    map_init(&n->links, a);
    buf_init(&n->scratch, a, BUFFER_MAX);
    buf_init(&n->frame, a, BUFFER_MAX);
    buf_init(&n->frame_out, a, BUFFER_MAX);
    buf_init(&n->tail_json, a, BUFFER_MAX);
    buf_init(&n->state_out, a, BUFFER_MAX);
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
    n->out = *out;
    n->now = n->next_tick = n->next_beat = n->cpu_since = now;
    n->cpu_at = config->cpu_us ? config->cpu_us(config->cpu_arg) : 0;
    n->wall = n->started = wall;
    n->queue_last = &n->queue_first;
    rng_init(&n->rng, config->core.seed ^ 0x6e6f6465u);
    init_tables(n);
    struct core_config cc = config->core;
    cc.type_max_players = type_max_players;
    cc.type_arg = n;
    n->core = core_create(&cc, now, wall);
    struct host_config hc = {.alloc = n->alloc, .types = config->types, .out = &seat_host_out, .out_arg = n,
                             .seat_ttl_ms = config->seat_ttl_ms, .empty_ms = config->empty_ms,
                             .room_max_bytes = config->room_max_bytes, .max_rooms = config->core.self.capacity,
                             .fill_random = config->fill_random, .random_arg = config->random_arg,
                             .seed = config->core.seed, .cpu_us = config->cpu_us, .cpu_arg = config->cpu_arg};
    n->host = n->core ? host_create(&hc) : NULL;
    char beats[SUBJECT_SIZE];
    if (!n->host || bus_subscribe(bus, SUB_BEATS, subject_server(beats, "*", "beat"))) {
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
            alloc_put(n->alloc, p, sizeof(*p));
        }
        alloc_put(n->alloc, s, sizeof(*s));
    }
}

void node_destroy(struct node *n)
{
    if (!n)
        return;
    free_queue(n);
    free_sessions(n);
    for (struct umap_iter it = umap_first(&n->members); it.value; umap_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct member));
    for (struct umap_iter it = umap_first(&n->requests); it.value; umap_next(&it))
        call_free(n, it.value);
    for (struct map_iter it = map_first(&n->relayed); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct relayed));
    link_deinit(n);
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
    buf_deinit(&n->state_out);
    alloc_put(n->alloc, n, sizeof(*n));
}

static void make_bucket(struct node *n, uint64_t which)
{
    struct bus_bucket b = {.name = which == 0 ? "servers" : "rooms",
                           .ttl_ms = which == 0 ? n->config.server_ttl_ms : 0, .replicas = n->config.replicas,
                           .watched = true};
    if (bus_kv_bucket(n->bus, which | (uint64_t)TOKEN_BUCKET << TOKEN_SHIFT, &b, 5000))
        n->retry_buckets = true;
}

static void bus_up(struct node *n)
{
    n->bus_up = true;
    event(n, CORE_EV_BUS_UP);
    if (n->buckets_ready == 0) {
        make_bucket(n, 0);
        make_bucket(n, 1);
    }
}

static void bucket_done(struct node *n, const struct bus_event *ev)
{
    uint64_t which = ev->token & TOKEN_MASK;
    if (ev->result == BUS_OK || ev->result == BUS_CONFLICT) {
        n->buckets_ready |= 1 << which;
        int rc = bus_kv_watch(n->bus, which == 0 ? "servers" : "rooms");
        if (rc && n->config.log)
            LOG_ERR("cannot watch a registry", "bucket=%s err=%s", which == 0 ? "servers" : "rooms",
                    room_error_name(rc));
        return;
    }
    if (n->config.log && ev->result == BUS_REFUSED)
        LOG_ERR("registry bucket refused, trying again", "bucket=%s detail=\"%.*s\"", which == 0 ? "servers" : "rooms",
                (int)(ev->len < 200 ? ev->len : 200), ev->data ? (const char *)ev->data : "");
    else if (n->config.log)
        LOG_WRN("registry bucket not there yet, trying again", "bucket=%s detail=\"%s\"",
                which == 0 ? "servers" : "rooms",
                ev->result == BUS_NO_RESPONDERS ? "JetStream does not answer: is it on (nats-server -js), and has it a leader?"
                                                : "no answer in time");
    n->retry_buckets = true;
}

static enum core_kv_result kv_result(enum bus_result r)
{
    return r == BUS_OK ? CORE_KV_OK : r == BUS_CONFLICT ? CORE_KV_CONFLICT
                                  : r == BUS_NOT_FOUND  ? CORE_KV_NOT_FOUND
                                                        : CORE_KV_UNKNOWN;
}

static void kv_done(struct node *n, const struct bus_event *ev, bool rooms)
{
    struct queued *q = step_event(n, CORE_EV_KV_DONE);
    if (!q)
        return;
    q->ev.token = ev->token & TOKEN_MASK;
    q->ev.kv_result = kv_result(ev->result);
    q->ev.revision = ev->revision;
    const char *key = core_pending_key(n->core, q->ev.token);
    if (ev->result != BUS_OK || !key || !ev->len)
        return;
    if (rooms && registry_room(&q->room, key, ev->data, ev->len, &n->scratch, NULL))
        q->ev.room = &q->room;
    else if (!rooms && registry_server(&q->server, key, ev->data, ev->len, &n->scratch))
        q->ev.server = &q->server;
}

static void ping_done(struct node *n, const struct bus_event *ev)
{
    struct queued *q = step_event(n, CORE_EV_PING_DONE);
    struct wire_ping_reply reply;
    if (!q)
        return;
    q->ev.token = ev->token & TOKEN_MASK;
    q->ev.ping_result = ev->result == BUS_OK              ? CORE_PING_OK
                        : ev->result == BUS_NO_RESPONDERS ? CORE_PING_NO_RESPONDERS
                                                          : CORE_PING_SILENT;
    if (ev->result == BUS_OK && (ev->data == NULL || wire_ping_reply_from_json(&reply, (const char *)ev->data, ev->len,
                                                                               &n->scratch, NULL)))
        q->ev.ping_result = CORE_PING_SILENT;
}

static void done(struct node *n, const struct bus_event *ev)
{
    switch (ev->token >> TOKEN_SHIFT) {
    case TOKEN_PING:   ping_done(n, ev); return;
    case TOKEN_CALL:   call_done(n, ev); return;
    case TOKEN_SERVER: kv_done(n, ev, false); return;
    case TOKEN_ROOM:   kv_done(n, ev, true); return;
    case TOKEN_BUCKET: bucket_done(n, ev); return;
    }
}

/* An entry that is no entry counts as deleted: what cannot be read cannot be trusted to own anything. */
static void entry(struct node *n, const struct bus_event *ev)
{
    bool rooms = strcmp(ev->bucket, "rooms") == 0;
    struct queued *q = step_event(n, rooms ? CORE_EV_ROOM_ENTRY : CORE_EV_SERVER_ENTRY);
    if (!q)
        return;
    q->ev.revision = ev->revision;
    q->ev.room = &q->room;
    q->ev.server = &q->server;
    bool there = ev->data && ev->len;
    struct wire_raw metadata = {0};
    if (rooms && !(there && registry_room(&q->room, ev->key, ev->data, ev->len, &n->scratch, &metadata))) {
        q->room = (struct room_info){0};
        id_set(&q->room.id, ev->key);
    } else if (!rooms && !(there && registry_server(&q->server, ev->key, ev->data, ev->len, &n->scratch))) {
        q->server = (struct server_info){0};
        id_set(&q->server.id, ev->key);
    }
    if (!rooms) {
        if (q->server.status)
            link_entry(n, &q->server);
        return;
    }
    struct lobby_entry l = {.id = q->room.id.s, .removed = !q->room.state || q->room.is_private,
                            .type = q->room.type.s, .server = q->room.owner.s, .players = q->room.players,
                            .seats = q->room.seats, .max_players = q->room.max_players, .locked = q->room.locked,
                            .metadata = metadata.data, .metadata_len = metadata.len};
    (void)host_lobby_change(n->host, &l, n->now);
}

static void answer_ping(struct node *n, const struct bus_event *ev)
{
    const struct server_info *self = core_self(n->core);
    struct wire_ping_reply reply = {.status = (enum wire_server_status)self->status};
    struct id from;
    id_set(&reply.boot, self->boot);
    if (!ev->reply)
        return;
    buf_reset(&n->scratch);
    if (wire_ping_reply_to_json(&reply, &n->scratch) == 0)
        (void)bus_publish(n->bus, ev->reply, NULL, n->scratch.data, n->scratch.len);
    bool watcher = id_set_n(&from, (const char *)ev->data, ev->len) && strcmp(from.s, self->id.s) != 0 &&
                   view_server(core_view(n->core), from.s);
    if (watcher)
        event(n, CORE_EV_PINGED);
}

static void beat(struct node *n, const struct bus_event *ev)
{
    struct subject subject;
    struct wire_beat b;
    if (!subject_parse(ev->subject, &subject) || !subject.id.s[0] ||
        wire_beat_from_json(&b, (const char *)ev->data, ev->len, &n->scratch, NULL) ||
        strlen(b.boot.s) >= ULID_SIZE)
        return;
    struct queued *q = step_event(n, CORE_EV_BEAT);
    if (!q)
        return;
    q->server = (struct server_info){.id = subject.id, .status = (enum server_status)b.status,
                                     .rooms = (uint32_t)b.rooms, .players = (uint32_t)b.players,
                                     .connections = (uint32_t)b.connections, .capacity = (uint32_t)b.capacity,
                                     .load = b.load};
    memcpy(q->server.boot, b.boot.s, strlen(b.boot.s) + 1);
    q->ev.server = &q->server;
}

static void message(struct node *n, const struct bus_event *ev)
{
    switch (ev->sub) {
    case SUB_BEATS: beat(n, ev); return;
    case SUB_PING:  answer_ping(n, ev); return;
    case SUB_RPC:   call_in(n, ev); return;
    case SUB_RELAY: link_in(n, ev->data, ev->len); return;
    case SUB_CTL:   ctl_in(n, ev); return;
    }
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

static void on_bus(void *arg, const struct bus_event *ev)
{
    struct node *n = arg;
    switch (ev->kind) {
    case BUS_EV_UP:
        bus_up(n);
        break;
    case BUS_EV_DOWN:
        n->bus_up = false;
        event(n, CORE_EV_BUS_DOWN);
        break;
    case BUS_EV_MESSAGE:
        if (n->listening || ev->sub == SUB_BEATS)
            message(n, ev);
        break;
    case BUS_EV_DONE:
        done(n, ev);
        break;
    case BUS_EV_SYNC:
    case BUS_EV_SYNCED: {
        struct queued *q = step_event(n, ev->kind == BUS_EV_SYNC ? CORE_EV_SYNC : CORE_EV_SYNCED);
        if (q)
            q->ev.rooms = strcmp(ev->bucket, "rooms") == 0;
        n->lobby_stale |= q && q->ev.rooms && ev->kind == BUS_EV_SYNCED;
        break;
    }
    case BUS_EV_ENTRY:
        entry(n, ev);
        break;
    case BUS_EV_KEPT: {
        struct queued *q = step_event(n, CORE_EV_KEPT);
        if (!q)
            break;
        if (id_set(&q->room.id, ev->key))
            q->ev.key = q->room.id.s;
        q->ev.rooms = strcmp(ev->bucket, "rooms") == 0;
        q->ev.revision = ev->revision;
        break;
    }
    case BUS_EV_LOST:
        if (n->config.log)
            LOG_WRN("messages were dropped on the way in", "sub=%u count=%llu", ev->sub,
                    (unsigned long long)ev->revision);
        break;
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
    if (n->retry_buckets && n->bus_up && mono_reached(n->now, n->next_beat)) {
        n->retry_buckets = false;
        for (uint64_t i = 0; i < 2; i++)
            if (!(n->buckets_ready & (1 << i)))
                make_bucket(n, i);
    }
    if (mono_reached(n->now, n->next_beat)) {
        n->next_beat = mono_add_ms(n->now, n->config.beat_ms);
        measure_load(n);
        registry_beat(n);
    }
    event(n, CORE_EV_TICK);
    step_run(n);
    session_tick(n);
    link_tick(n);
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
    events = bus_drain(n->bus, on_bus, n, NODE_BUS_BUDGET);
    if (host_next_due(n->host, &due) && mono_reached(now, due))
        host_tick(n->host, now);
    step_run(n);
    if (n->lobby_stale)
        sweep_lobby(n);
    link_flush(n);
    bus_flush(n->bus);
    return events >= NODE_BUS_BUDGET || core_has_more(n->core) || (host_next_due(n->host, &due) && mono_reached(now, due));
}

struct mono node_next_due(const struct node *n)
{
    struct mono due = n->next_tick, host;
    if (host_next_due(n->host, &host) && host.us < due.us)
        due = host;
    return due;
}

void node_stop(struct node *n, const char *reason, struct mono now, struct wall wall)
{
    n->now = now;
    n->wall = wall;
    if (n->stopping)
        return;
    n->stopping = true;
    if (n->config.log)
        LOG_INF("stopping", "reason=\"%s\" rooms=%u sessions=%zu", reason, host_room_count(n->host),
                n->sessions.count);
    event(n, CORE_EV_STOP);
    step_run(n);
    for (struct umap_iter it = umap_first(&n->sessions); it.value; it = umap_first(&n->sessions)) {
        struct session *s = it.value;
        struct wire_frame_kicked k = {.reason = wire_str("server_stopping")};
        uint64_t conn = s->conn;
        session_send(n, s, WIRE_OP_KICKED, &k);
        session_end(n, s, "server_stopping");
        n->out.close(n->out.arg, conn, "server_stopping", NULL, 0);
    }
    step_run(n);
    link_flush(n);
    bus_flush(n->bus);
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
