/*
 * What each event of the bus means to a node.
 *
 * Decides: which part of the node an answer or a message is for, and what is made of it for the core. Must not decide anything
 * about rooms, players or other nodes.
 */
#include "node/state.h"

static void event(struct node *n, enum core_event_kind kind)
{
    (void)step_event(n, kind);
}

static void bus_up(struct node *n)
{
    n->bus_up = true;
    event(n, CORE_EV_BUS_UP);
    cluster_bus_up(n);
    append_bus_up(n);
    presence_verify(n);
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
    case TOKEN_BUCKET: cluster_bucket_done(n, ev); return;
    case TOKEN_CLUSTER: cluster_done(n, ev); return;
    case TOKEN_JOURNAL: append_done(n, ev); return;
    case TOKEN_RESTORE: revive_done(n, ev); return;
    case TOKEN_CARRY:  carry_done(n, ev); return;
    case TOKEN_PURGE:  append_purged(n, ev); return;
    case TOKEN_PRESENCE: presence_done(n, ev); return;
    case TOKEN_ROSTER: roster_done(n, ev); return;
    case TOKEN_SERVICE: backend_done(n, ev); return;
    case TOKEN_LOCK:   locks_done(n, ev); return;
    case TOKEN_TELL:   talk_done(n, ev); return;
    case TOKEN_INBOX:  collect_done(n, ev); return;
    case TOKEN_POST:   push_done(n, ev); return;
    case TOKEN_OUTSIDE: outside_done(n, ev); return;
    case TOKEN_MATCH:  matching_done(n, ev); return;
    case TOKEN_REACH:  reach_done(n, ev); return;
    case TOKEN_SHARED: shared_done(n, ev); return;
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
    attach_room_entry(n, &q->room);
    if (!q->room.state && n->store && !host_find(n->host, ev->key) && !map_get(&n->restores, ev->key))
        (void)store_forget(n->store, 0, ev->key); /* ended elsewhere; if it is refused, the next start forgets it */
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
    case SUB_SVC:   backend_heard(n, ev); return;
    case SUB_PUSH:  push_in(n, ev); return;
    case SUB_BROADCAST:
    case SUB_BROADCAST_ALL: shout_all(n, ev); return;
    default:        (ev->sub >= SUB_TOPICS ? hear_in : talk_in)(n, ev); return;
    }
}

void events_bus(void *arg, const struct bus_event *ev)
{
    struct node *n = arg;
    if (ev->bucket && strcmp(ev->bucket, "revoked") == 0) {
        revoked_event(n, ev);
        return;
    }
    if (ev->bucket && strcmp(ev->bucket, "matchmaking") == 0) {
        matching_event(n, ev);
        step_run(n);
        return;
    }
    if (ev->bucket && strcmp(ev->bucket, "shared") == 0) {
        shared_entry_event(n, ev);
        return;
    }
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
        if (strcmp(ev->bucket, "locks") == 0)
            break;
        struct queued *q = step_event(n, ev->kind == BUS_EV_SYNC ? CORE_EV_SYNC : CORE_EV_SYNCED);
        if (q)
            q->ev.rooms = strcmp(ev->bucket, "rooms") == 0;
        n->lobby_stale |= q && q->ev.rooms && ev->kind == BUS_EV_SYNCED;
        break;
    }
    case BUS_EV_ENTRY:
        if (strcmp(ev->bucket, "locks") == 0)
            locks_entry(n, ev);
        else
            entry(n, ev);
        break;
    case BUS_EV_KEPT: {
        if (strcmp(ev->bucket, "locks") == 0)
            break;
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
