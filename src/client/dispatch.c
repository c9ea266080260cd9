/*
 * What a frame from a server means to a client.
 *
 * Decides: which callback is called and what the tables then hold. Must not touch sockets. Invariant: a frame that cannot
 * be read ends its connection; a frame about something we do not know (any more) is ignored.
 */
#include "client/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/frame.h"

enum { TEXT_SIZE = 512 * 4 + 1 };

/* A NUL-terminated copy, cut at the size. */
static const char *text_of(struct wire_str s, char *out, size_t size)
{
    size_t len = s.len < size - 1 ? s.len : size - 1;
    if (s.data)
        memcpy(out, s.data, len);
    out[s.data ? len : 0] = '\0';
    return out;
}

static const void *raw_or_null(struct wire_raw raw)
{
    return raw.len ? raw.data : NULL;
}

static int on_welcome(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct wire_frame_welcome f;
    int rc = wire_frame_welcome_unpack(&f, data, len, NULL);
    if (rc != 0 || conn->state != CONN_HELLO)
        return rc ? rc : ROOM_E_BAD_FRAME;
    session_welcome(conn, &f);
    return 0;
}

/* An answer that comes twice, or too late: whatever nobody waits for is no room of ours. */
static int on_joined(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_joined f;
    int rc = wire_frame_joined_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_request *r = request_find(c, (uint64_t)f.id);
    bool known = room_by_remote(c, f.room) != NULL;
    session_found(c, f.room);
    if (!r || r->service) {
        if (!known)
            session_give_back(c, f.room);
        return 0;
    }
    if (known) {
        request_fail(c, r, ROOM_E_ALREADY, "the player is in that room already");
        return 0;
    }
    struct client_room *room = room_add(c);
    if (!room) {
        session_give_back(c, f.room);
        request_fail(c, r, ROOM_E_FULL, "the client is in too many rooms");
        return 0;
    }
    room->remote = f.room;
    struct room_client_joined j = {
        .request = r->id, .room = room->room, .room_id = f.room_id.s, .type = f.type.s, .server = conn->server.s,
        .epoch = (uint64_t)f.epoch, .players = (unsigned)f.players, .max_players = (unsigned)f.max_players,
        .via = f.via == WIRE_FRAME_JOINED_VIA_RELAY ? ROOM_CLIENT_RELAY : r->hops ? ROOM_CLIENT_REDIRECT : ROOM_CLIENT_LOCAL,
        .state = raw_or_null(f.state), .state_len = f.state.len};
    request_drop(c, r);
    if (c->on.joined)
        c->on.joined(c->arg, &j);
    return 0;
}

static bool put_address(char out[CLIENT_ADDRESS_SIZE], const char *host, int64_t port)
{
    bool v6 = strchr(host, ':') != NULL;
    int n = snprintf(out, CLIENT_ADDRESS_SIZE, v6 ? "[%s]:%d" : "%s:%d", host, (int)port);
    return host[0] && n > 0 && n < CLIENT_ADDRESS_SIZE;
}

/* The session goes there, and the join with it. */
static int follow(struct room_client *c, struct client_request *r, const struct wire_frame_redirect *f, const char *address)
{
    int rc = 0;
    char *ticket = strndup(f->ticket.data, f->ticket.len);
    if (!ticket)
        return ROOM_E_NO_MEMORY;
    free((void *)r->ticket.data);
    r->ticket = wire_str(ticket);
    r->room_id = f->room_id;
    r->mode = WIRE_FRAME_JOIN_MODE_JOIN;
    r->asked = false;
    r->hops++;
    if (strcmp(address, c->home->address) == 0)
        return request_queue(c, r);
    if (!c->moving)
        rc = client_move(c, address);
    r->moving = rc == 0;
    return rc;
}

static int on_redirect(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_redirect f;
    char host[CLIENT_HOST_MAX * 4 + 1], address[CLIENT_ADDRESS_SIZE];
    int rc = wire_frame_redirect_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_request *r = request_find(c, (uint64_t)f.id);
    if (!r || r->service)
        return 0;
    uint64_t id = r->id;
    bool usable = put_address(address, text_of(f.address, host, sizeof host), f.port);
    if (c->moving && usable && strcmp(c->moving->address, address) != 0)
        r->asked = false; /* one move at a time: asked again where that one ends */
    else if (c->secret_len == 0)
        request_fail(c, r, ROOM_E_UNAVAILABLE, "the room is on another server, and this session cannot go there");
    else if (r->hops >= CLIENT_HOPS_MAX)
        request_fail(c, r, ROOM_E_UNAVAILABLE, "the servers redirect in a circle");
    else if (!usable)
        request_fail(c, r, ROOM_E_INVALID, "the redirect has no usable address");
    else if ((rc = follow(c, r, &f, address)) != 0)
        request_fail(c, r, ROOM_E_UNAVAILABLE, "the room's server cannot be connected to");
    else if (c->on.redirected)
        c->on.redirected(c->arg, id, f.server.s, host, (uint16_t)f.port);
    return 0;
}

static int on_left(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct wire_frame_left f;
    char reason[TEXT_SIZE];
    int rc = wire_frame_left_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_room *room = room_by_remote(conn->client, f.room);
    if (room)
        room_gone(conn->client, room, text_of(f.reason, reason, sizeof reason));
    return 0;
}

static int on_message(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_message f;
    int rc = wire_frame_message_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    if (!session_heard(c, f.seq))
        return 0;
    struct client_room *room = room_by_remote(c, f.room);
    if (room && c->on.message)
        c->on.message(c->arg, room->room, f.from.s[0] ? f.from.s : NULL, f.data.data, f.data.len);
    return 0;
}

static int on_sent(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_sent f;
    int rc = wire_frame_sent_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    uint32_t room = sends_answered(c, (uint64_t)f.n);
    if (room && c->on.sent)
        c->on.sent(c->arg, room, (uint64_t)f.n, raw_or_null(f.result), f.result.len);
    return 0;
}

static int on_paused(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_paused f;
    int rc = wire_frame_paused_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_room *room = room_by_remote(c, f.room);
    if (room && c->on.paused)
        c->on.paused(c->arg, room->room, (uint64_t)f.epoch);
    return 0;
}

static int on_resumed(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_resumed f;
    int rc = wire_frame_resumed_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_room *room = room_by_remote(c, f.room);
    if (room && c->on.resumed)
        c->on.resumed(c->arg, room->room, (uint64_t)f.epoch);
    return 0;
}

static int on_resync(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_resync f;
    int rc = wire_frame_resync_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    session_skip(c, f.seq);
    struct client_room *room = f.has_room ? room_by_remote(c, f.room) : NULL;
    if ((room || !f.has_room) && c->on.resync)
        c->on.resync(c->arg, room ? room->room : 0, raw_or_null(f.state), f.state.len, (uint64_t)f.missed);
    return 0;
}

static int on_push(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_push f;
    int rc = wire_frame_push_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    bool again = f.has_number && (uint64_t)f.number <= c->last_push; /* said in a session before, and not known to be heard */
    if (!session_heard(c, f.seq) || again)
        return 0;
    if (f.has_number)
        c->last_push = (uint64_t)f.number;
    if (f.missed > 0 && f.has_missed && c->on.pushes_missed)
        c->on.pushes_missed(c->arg, (uint64_t)f.missed);
    if (c->on.push)
        c->on.push(c->arg, f.data.data, f.data.len);
    return 0;
}

static int on_reply(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_reply f;
    int rc = wire_frame_reply_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_request *r = request_find(c, (uint64_t)f.id);
    if (!r || !r->service)
        return 0;
    request_drop(c, r);
    if (c->on.reply)
        c->on.reply(c->arg, (uint64_t)f.id, f.data.data, f.data.len);
    return 0;
}

static void hello_refused(struct client_conn *conn, int code, const char *text)
{
    if (conn == conn->client->home && !room_error_retryable(code))
        client_close(conn->client, code, text);
    else
        client_conn_lost(conn, text, code);
}

static int on_error(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_error f;
    char word[128 + 1], text[TEXT_SIZE];
    int rc = wire_frame_error_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    int code = room_error_from_name(text_of(f.code, word, sizeof word));
    size_t own = f.service_code.len && f.service_code.len < sizeof text / 2 ? f.service_code.len : 0;
    if (own) { /* the service's word comes first */
        memcpy(text, f.service_code.data, own);
        memcpy(text + own, ": ", 2);
        own += 2;
    }
    text_of(f.message, text + own, sizeof text - own);
    if (conn->state == CONN_HELLO) {
        hello_refused(conn, code, text);
    } else if (f.has_id && f.id > 0) {
        struct client_request *r = request_find(c, (uint64_t)f.id);
        if (r)
            request_fail(c, r, code, text);
        else
            (void)waiting_error(c, (uint64_t)f.id, code, text);
    } else if (f.has_n && f.n > 0) {
        uint32_t room = sends_answered(c, (uint64_t)f.n);
        if (room && c->on.refused)
            c->on.refused(c->arg, room, (uint64_t)f.n, code, text);
    } else if (c->on.error) {
        c->on.error(c->arg, 0, code, text);
    }
    return 0;
}

static int on_kicked(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_kicked f;
    char reason[TEXT_SIZE];
    int rc = wire_frame_kicked_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    text_of(f.reason, reason, sizeof reason);
    if (strcmp(reason, "server_stopping") == 0) { /* the server leaves, not the player: on to another one */
        client_conn_lost(conn, reason, ROOM_E_DRAINING);
        return 0;
    }
    if (c->on.kicked)
        c->on.kicked(c->arg, reason);
    client_close(c, ROOM_E_CANCELLED, reason);
    return 0;
}

static int on_reconnect(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_reconnect f;
    char host[CLIENT_HOST_MAX * 4 + 1], address[CLIENT_ADDRESS_SIZE], reason[TEXT_SIZE];
    int rc = wire_frame_reconnect_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    text_of(f.reason, reason, sizeof reason);
    if (put_address(address, text_of(f.address, host, sizeof host), f.port) && conn == c->home && !c->moving)
        snprintf(c->first, sizeof c->first, "%s", address);
    client_conn_lost(conn, reason, ROOM_E_DRAINING);
    return 0;
}

static int on_pong(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_pong f;
    int rc = wire_frame_pong_unpack(&f, data, len, NULL);
    if (rc == 0 && f.t != 0 && c->on.pong)
        c->on.pong(c->arg, (uint64_t)f.t);
    return rc;
}

void dispatch_frame(struct client_conn *conn, const uint8_t *data, size_t len)
{
    static const struct {
        int op;
        int (*fn)(struct client_conn *conn, const uint8_t *data, size_t len);
    } table[] = {
        {WIRE_OP_MESSAGE, on_message}, {WIRE_OP_SENT, on_sent},           {WIRE_OP_WELCOME, on_welcome},
        {WIRE_OP_JOINED, on_joined},   {WIRE_OP_REDIRECT, on_redirect},   {WIRE_OP_LEFT, on_left},
        {WIRE_OP_PUSH, on_push},       {WIRE_OP_RECONNECT, on_reconnect}, {WIRE_OP_KICKED, on_kicked},
        {WIRE_OP_ERROR, on_error},     {WIRE_OP_PONG, on_pong},           {WIRE_OP_PAUSED, on_paused},
        {WIRE_OP_RESUMED, on_resumed}, {WIRE_OP_RESYNC, on_resync},     {WIRE_OP_REPLY, on_reply},
        {WIRE_OP_QUEUED, waiting_queued}, {WIRE_OP_MATCHED, waiting_matched}, {WIRE_OP_UNMATCHED, waiting_unmatched},
        {WIRE_OP_CONFIRM, waiting_confirm},
    };
    int op = wire_peek_op(data, len);
    bool early = conn->state != CONN_OPEN && op != WIRE_OP_WELCOME && op != WIRE_OP_ERROR && op != WIRE_OP_KICKED &&
                 op != WIRE_OP_RECONNECT;
    int rc = op < 0 || early ? ROOM_E_BAD_FRAME : 0;
    for (size_t i = 0; rc == 0 && i < sizeof table / sizeof table[0]; i++)
        if (table[i].op == op) {
            rc = table[i].fn(conn, data, len);
            break;
        }
    if (rc != 0 && conn->state != CONN_DEAD)
        client_conn_lost(conn, room_error_name(rc), rc);
}
