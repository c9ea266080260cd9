/*
 * Control requests on server.<id>.ctl: JSON in, JSON out.
 *
 * Decides: what an operator may ask of this node and how it is answered. Reads the node's state; changes it only through
 * the room host. An answer fits one message: lists are cut at `limit` and say the total.
 */
#include "node/state.h"

enum { LIMIT_MAX = 2000, REPLY_MAX = 900 * 1024, LATER = 1 /* the answer comes when it is done */ };

static void text(struct buf *b, const char *key, const char *value)
{
    mp_write_text(b, key);
    mp_write_text(b, value);
}

static void number(struct buf *b, const char *key, uint64_t value)
{
    mp_write_text(b, key);
    mp_write_uint(b, value);
}

static void flag(struct buf *b, const char *key, bool value)
{
    mp_write_text(b, key);
    mp_write_bool(b, value);
}

static void info(struct node *n, struct buf *b)
{
    const struct server_info *s = core_self(n->core);
    static const char *const status[] = {"", "up", "draining", "down"};
    struct core_drain drain = core_drain_state(n->core);
    struct store_stats kept = {0};
    if (n->store)
        store_stats(n->store, &kept);
    mp_write_map(b, 30);
    text(b, "id", s->id.s);
    text(b, "boot", s->boot);
    text(b, "status", status[s->status]);
    text(b, "version", s->version);
    text(b, "cluster", n->cluster);
    text(b, "address", s->address);
    number(b, "port", s->port);
    text(b, "region", s->region);
    number(b, "rooms", host_room_count(n->host));
    number(b, "players", host_player_count(n->host));
    number(b, "connections", n->conns.count);
    number(b, "sessions", n->sessions.count);
    number(b, "away", n->away);
    number(b, "capacity", s->capacity);
    mp_write_text(b, "load");
    mp_write_double(b, n->load);
    flag(b, "isolated", core_is_isolated(n->core));
    number(b, "relayed", n->remotes.count);
    number(b, "joins_local", n->stats.joins_local);
    number(b, "joins_redirect", n->stats.joins_redirect);
    number(b, "joins_relay", n->stats.joins_relay);
    number(b, "messages_in", n->stats.messages_in);
    number(b, "messages_out", n->stats.messages_out);
    flag(b, "draining", drain.on);
    number(b, "drain_moved", drain.moved);
    number(b, "drain_moving", drain.moving);
    number(b, "drain_failed", drain.failed);
    text(b, "drain_reason", drain.reason);
    number(b, "store_rooms", kept.rooms);
    number(b, "store_outbox", kept.outbox);
    text(b, "store_error", kept.trouble ? kept.error.text : "");
}

static void room_fields(struct buf *b, const struct room *r, uint32_t extra)
{
    char created[TIME_RFC3339_SIZE];
    time_rfc3339(host_room_created(r), created);
    mp_write_map(b, 11 + extra);
    text(b, "id", host_room_id(r));
    text(b, "type", host_room_type(r)->name.s);
    number(b, "epoch", host_room_epoch(r));
    number(b, "players", host_room_players(r));
    number(b, "seats", host_room_seats(r));
    number(b, "seats_version", host_room_seats_version(r));
    number(b, "max_players", host_room_max_players(r));
    flag(b, "locked", host_room_locked(r));
    flag(b, "private", host_room_private(r));
    text(b, "durability", host_room_durability(r));
    text(b, "created", created);
}

static void rooms(struct node *n, const struct wire_ctl_request *q, struct buf *b)
{
    uint64_t limit = q->has_limit && q->limit < LIMIT_MAX ? (uint64_t)q->limit : LIMIT_MAX;
    uint64_t offset = q->has_offset ? (uint64_t)q->offset : 0, total = 0, shown = 0;
    for (const struct room *r = host_room_next(n->host, NULL); r; r = host_room_next(n->host, r)) {
        if (q->type.s[0] && strcmp(host_room_type(r)->name.s, q->type.s) != 0)
            continue;
        if (total++ >= offset && shown < limit)
            shown++;
    }
    mp_write_map(b, 2);
    number(b, "total", total);
    mp_write_text(b, "rooms");
    mp_write_array(b, (uint32_t)shown);
    uint64_t at = 0;
    for (const struct room *r = host_room_next(n->host, NULL); r && shown; r = host_room_next(n->host, r)) {
        if (q->type.s[0] && strcmp(host_room_type(r)->name.s, q->type.s) != 0)
            continue;
        if (at++ < offset)
            continue;
        room_fields(b, r, 0);
        shown--;
    }
}

static int room(struct node *n, const struct wire_ctl_request *q, struct buf *b)
{
    const struct room *r = host_find(n->host, q->room.s);
    if (!r)
        return ROOM_E_NOT_FOUND;
    room_fields(b, r, 1);
    const void *cursor = NULL;
    struct host_member m;
    uint32_t members = 0;
    while (host_room_member(r, &cursor, &m))
        members++;
    mp_write_text(b, "members");
    mp_write_array(b, members);
    for (cursor = NULL; host_room_member(r, &cursor, &m);)
        mp_write_text(b, m.player);
    return 0;
}

static void players(struct node *n, const struct wire_ctl_request *q, struct buf *b)
{
    uint64_t limit = q->has_limit && q->limit < LIMIT_MAX ? (uint64_t)q->limit : LIMIT_MAX;
    uint64_t offset = q->has_offset ? (uint64_t)q->offset : 0, total = n->sessions.count;
    uint64_t shown = offset >= total ? 0 : total - offset < limit ? total - offset : limit, at = 0;
    mp_write_map(b, 2);
    number(b, "total", total);
    mp_write_text(b, "players");
    mp_write_array(b, (uint32_t)shown);
    for (struct umap_iter it = umap_first(&n->sessions); it.value && shown; umap_next(&it)) {
        const struct session *s = it.value;
        if (at++ < offset)
            continue;
        shown--;
        people_write(s, 0, b);
    }
}

static void answer(struct node *n, const char *to, int code, const char *text, const struct buf *result)
{
    struct wire_ctl_reply reply = {.ok = code == 0};
    if (code) {
        reply.error = wire_str(room_error_name(code));
        reply.message = wire_str(text && text[0] ? text : room_error_text(code));
    } else {
        reply.result = (struct wire_raw){result->data, (uint32_t)result->len};
    }
    buf_reset(&n->scratch);
    if (wire_ctl_reply_to_json(&reply, &n->scratch) == 0)
        (void)bus_publish(n->bus, to, NULL, n->scratch.data, n->scratch.len);
}

void ctl_moved(struct node *n, const char *reply, const struct core_answer *a)
{
    struct buf b;
    buf_init(&b, n->alloc, REPLY_MAX);
    mp_write_map(&b, 3);
    text(&b, "room", a->room.s);
    text(&b, "server", a->server.s);
    number(&b, "epoch", a->epoch);
    answer(n, reply, b.failed ? ROOM_E_NO_MEMORY : a->code, NULL, &b);
    buf_deinit(&b);
}

void ctl_saved(struct node *n, const char *reply, const struct kept *k)
{
    struct buf b;
    buf_init(&b, n->alloc, REPLY_MAX);
    mp_write_map(&b, 2);
    text(&b, "room", k->room.s);
    number(&b, "epoch", k->epoch);
    answer(n, reply, b.failed ? ROOM_E_NO_MEMORY : 0, NULL, &b);
    buf_deinit(&b);
}

void ctl_backfilled(struct node *n, const char *reply, const struct id *ticket)
{
    struct buf b;
    buf_init(&b, n->alloc, REPLY_MAX);
    mp_write_map(&b, 1);
    text(&b, "ticket", ticket ? ticket->s : "");
    answer(n, reply, b.failed ? ROOM_E_NO_MEMORY : ticket ? 0 : ROOM_E_UNAVAILABLE, NULL, &b);
    buf_deinit(&b);
}

/* Answered when it is done. */
static int migrate(struct node *n, const struct wire_ctl_request *q, const char *reply)
{
    struct request *r = alloc_get(n->alloc, sizeof(*r));
    uint64_t number = ++n->last_request;
    struct queued *e = NULL;
    if (!r)
        return ROOM_E_NO_MEMORY;
    r->ctl = true;
    r->reply = alloc_str(n->alloc, reply);
    if (r->reply && umap_put(&n->requests, number, r) && !(e = step_event(n, CORE_EV_MOVE)))
        umap_del(&n->requests, number);
    if (!e) {
        call_free(n, r);
        return ROOM_E_NO_MEMORY;
    }
    e->ev.req = number;
    e->room.id = q->room;
    e->ev.room = &e->room;
    e->server.id = q->server;
    e->ev.server = &e->server;
    e->ev.reason = "migration";
    return LATER;
}

static int serve(struct node *n, const struct wire_ctl_request *q, const char *reply, struct buf *b, struct err_detail *detail)
{
    int code = 0;
    switch (q->op) {
    case WIRE_CTL_REQUEST_OP_INFO:
    case WIRE_CTL_REQUEST_OP_DOCTOR:
        info(n, b);
        return 0;
    case WIRE_CTL_REQUEST_OP_ROOMS:
        rooms(n, q, b);
        return 0;
    case WIRE_CTL_REQUEST_OP_ROOM:
        return room(n, q, b);
    case WIRE_CTL_REQUEST_OP_PLAYERS:
        players(n, q, b);
        return 0;
    case WIRE_CTL_REQUEST_OP_PLAYER:
        return people_show(n, q, b);
    case WIRE_CTL_REQUEST_OP_KICK:
        return people_kick(n, q, b);
    case WIRE_CTL_REQUEST_OP_RENEW:
        code = locks_ctl(n, q, reply);
        return code ? code : LATER;
    case WIRE_CTL_REQUEST_OP_LOCK:
    case WIRE_CTL_REQUEST_OP_UNLOCK:
        if (q->name.s[0]) {
            code = locks_ctl(n, q, reply);
            return code ? code : LATER;
        }
        code = host_lock(n->host, q->room.s, q->op == WIRE_CTL_REQUEST_OP_LOCK, n->now);
        break;
    case WIRE_CTL_REQUEST_OP_CLOSE:
        code = host_stop(n->host, q->room.s, "closed", n->now);
        break;
    case WIRE_CTL_REQUEST_OP_DRAIN:
    case WIRE_CTL_REQUEST_OP_UNDRAIN:
        if (n->stop_after)
            return ROOM_E_DRAINING;
        leave_set(n, q->op == WIRE_CTL_REQUEST_OP_DRAIN);
        break;
    case WIRE_CTL_REQUEST_OP_MIGRATE:
        return migrate(n, q, reply);
    case WIRE_CTL_REQUEST_OP_BACKFILL:
        code = ticket_backfill(n, q, reply, detail);
        return code ? code : LATER;
    case WIRE_CTL_REQUEST_OP_SHARED_GET:
    case WIRE_CTL_REQUEST_OP_SHARED_SET:
    case WIRE_CTL_REQUEST_OP_SHARED_DELETE:
    case WIRE_CTL_REQUEST_OP_SHARED_ADD:
    case WIRE_CTL_REQUEST_OP_SHARED_INSERT:
    case WIRE_CTL_REQUEST_OP_SHARED_REMOVE:
        code = shared_ctl(n, q, reply, detail);
        return code ? code : LATER;
    case WIRE_CTL_REQUEST_OP_SAVE:
        code = keep_save(n, q->room.s, reply);
        return code ? code : LATER;
    }
    mp_write_map(b, 0);
    return code;
}

void ctl_in(struct node *n, const struct bus_event *ev)
{
    struct wire_ctl_request q;
    struct err_detail detail = {{0}};
    struct buf result;
    if (!ev->reply)
        return;
    buf_init(&result, n->alloc, REPLY_MAX);
    int code = wire_ctl_request_from_json(&q, (const char *)ev->data, ev->len, &n->scratch, &detail);
    if (!code)
        code = serve(n, &q, ev->reply, &result, &detail);
    if (!code && result.failed)
        code = err_set(&detail, ROOM_E_TOO_BIG, "the answer is too big for one message: ask for less with limit and offset");
    if (code != LATER)
        answer(n, ev->reply, code, detail.text, &result);
    buf_deinit(&result);
}
