/*
 * The session: what outlives a connection, and how it is taken up again.
 *
 * Decides: what a welcome means for rooms, messages and joins; what is asked again; when what was heard is acknowledged. Must
 * not decide where a home is looked for (life.c). Invariant: a message is told once, and in the order of its number; what has
 * no answer is asked at every new home, messages first and in their order.
 */
#include <string.h>

#include "client/frame.h"
#include "client/state.h"
#include "wire/mp_read.h"

enum { ACK_MESSAGES = 64, ACK_MS = 1000 };

bool client_home_open(const struct room_client *c)
{
    return c->home && c->home->state == CONN_OPEN;
}

void session_lost(struct room_client *c, const char *reason, int code)
{
    c->secret_len = 0;
    c->seq = c->acked = 0;
    c->stray_count = 0;
    /* Callbacks may change both tables, so each look begins anew; while there is no session nothing new can come. */
    while (c->room_count > 0)
        room_gone(c, &c->rooms[0], reason);
    while (c->request_count > 0)
        request_fail(c, &c->requests[0], code, reason);
    waiting_lost(c, "session_lost");
}

void session_found(struct room_client *c, int64_t remote)
{
    for (unsigned i = 0; i < c->stray_count; i++)
        if (c->strays[i] == remote)
            c->strays[i--] = c->strays[--c->stray_count];
}

/* Marks the rooms that the session still has. What is neither is the seat of a join whose answer was lost: which one is known
 * when that is answered again, or when none is open. */
static void mark(struct room_client *c, struct wire_raw rooms)
{
    struct mp_read r;
    struct mp_token t;
    c->stray_count = 0;
    for (unsigned i = 0; i < c->room_count; i++)
        c->rooms[i].there = false;
    mp_read_init(&r, rooms.data, rooms.len);
    if (rooms.len == 0 || mp_next(&r, &t, NULL) != 0 || t.type != MP_ARRAY)
        return;
    for (uint32_t left = t.count; left > 0 && mp_next(&r, &t, NULL) == 0 && t.type == MP_INT; left--) {
        struct client_room *room = room_by_remote(c, t.i);
        if (room)
            room->there = true;
        else if (c->stray_count < ROOM_CLIENT_ROOMS_MAX)
            c->strays[c->stray_count++] = t.i;
    }
}

static void part_with_ended(struct room_client *c)
{
    for (unsigned i = 0; i < c->room_count;) {
        if (c->rooms[i].there) {
            i++;
            continue;
        }
        room_gone(c, &c->rooms[i], c->rooms[i].leaving ? "left" : "ended");
        i = 0;
    }
}

static struct client_request *next_to_ask(struct room_client *c)
{
    struct client_request *next = NULL;
    for (unsigned i = 0; i < c->request_count; i++)
        if (!c->requests[i].asked && (!next || c->requests[i].id < next->id))
            next = &c->requests[i];
    return next;
}

void session_ask_open(struct room_client *c)
{
    struct client_request *r;
    while ((r = next_to_ask(c))) {
        int rc = request_queue(c, r);
        if (rc != 0)
            request_fail(c, r, rc, "it could not be sent");
    }
}

/* Everything that has no answer, at a new home. */
static void ask_again(struct room_client *c)
{
    for (const struct client_send *s = c->sends; s; s = s->next) {
        const struct client_room *r = room_by_handle(c, s->room);
        if (r && sends_queue(c, r, s) != 0)
            break;
    }
    for (unsigned i = 0; i < c->room_count; i++)
        if (c->rooms[i].leaving && room_queue_leave(c, c->rooms[i].remote) != 0)
            break;
    for (unsigned i = 0; i < c->request_count; i++)
        c->requests[i].asked = c->requests[i].moving = false;
    session_ask_open(c);
    waiting_ask_again(c);
}

void session_welcome(struct client_conn *conn, const struct wire_frame_welcome *f)
{
    struct room_client *c = conn->client;
    bool resumed = f->resumed && c->secret_len > 0;
    if (c->home != conn && c->home) {
        c->home->state = CONN_DEAD;
        c->sweep = true;
    }
    c->home = conn;
    c->moving = NULL;
    c->first[0] = '\0';
    c->attempt = 0;
    if (resumed) {
        mark(c, f->rooms);
        part_with_ended(c);
    } else {
        session_lost(c, "session_lost", ROOM_E_DISCONNECTED);
    }
    c->acked = (uint64_t)f->seq;
    c->secret_len = c->can_resume && f->resume.len <= sizeof c->secret ? f->resume.len : 0;
    if (c->secret_len)
        memcpy(c->secret, f->resume.data, c->secret_len);
    conn->state = CONN_OPEN;
    conn->server = f->server;
    client_learn_server(c, conn->address, strlen(conn->address));
    for (uint32_t i = 0; i < f->servers.count; i++)
        client_learn_server(c, f->servers.items[i].data, f->servers.items[i].len);
    ask_again(c);
    if (c->on.welcome)
        c->on.welcome(c->arg, f->server.s, f->session.s, resumed);
}

bool session_heard(struct room_client *c, int64_t seq)
{
    if (seq <= 0 || (uint64_t)seq <= c->seq)
        return false;
    if (c->acked >= c->seq)
        c->ack_at_ms = c->now_ms + ACK_MS;
    c->seq = (uint64_t)seq;
    return true;
}

void session_skip(struct room_client *c, int64_t seq)
{
    c->seq = (uint64_t)seq;
    if (c->acked > c->seq)
        c->acked = c->seq;
}

void session_give_back(struct room_client *c, int64_t remote)
{
    if (room_queue_leave(c, remote) != 0 && c->stray_count < ROOM_CLIENT_ROOMS_MAX)
        c->strays[c->stray_count++] = remote;
}

/* While the session moves, the other server may already count on what it was told we have heard. */
static bool may_acknowledge(const struct room_client *c)
{
    return client_home_open(c) && !c->moving && c->secret_len > 0 && c->seq > c->acked;
}

void session_turn(struct room_client *c)
{
    if (client_home_open(c) && c->request_count == 0)
        while (c->stray_count > 0 && room_queue_leave(c, c->strays[c->stray_count - 1]) == 0)
            c->stray_count--;
    if (!may_acknowledge(c) || (c->seq - c->acked < ACK_MESSAGES && c->now_ms < c->ack_at_ms))
        return;
    struct wire_frame_ack f = {.seq = (int64_t)c->seq};
    struct buf *out = &c->home->out;
    size_t begin = frame_begin(out);
    if (frame_end(out, begin, wire_frame_ack_pack(&f, out)) == 0) {
        c->acked = c->seq;
        c->dirty = true;
    } else {
        c->ack_at_ms = c->now_ms + ACK_MS;
    }
}

int64_t session_due(const struct room_client *c)
{
    return may_acknowledge(c) ? c->ack_at_ms : INT64_MAX;
}
