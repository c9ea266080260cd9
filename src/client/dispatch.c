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
    struct room_client *c = conn->client;
    struct wire_frame_welcome f;
    int rc = wire_frame_welcome_unpack(&f, data, len, NULL);
    if (rc != 0 || conn->state != CONN_HELLO)
        return rc ? rc : ROOM_E_BAD_FRAME;
    conn->state = CONN_OPEN;
    conn->server = f.server;
    for (uint32_t i = 0; i < f.servers.count; i++)
        client_learn_server(c, f.servers.items[i].data, f.servers.items[i].len);
    if (conn->home) {
        c->attempt = 0;
        if (c->on.welcome)
            c->on.welcome(c->arg, f.server.s, f.session.s);
    }
    for (unsigned i = 0; i < c->request_count;) {
        struct client_request *r = &c->requests[i];
        if (r->conn == conn && r->waits_for_hello && (rc = request_queue(c, r)) != 0)
            request_fail(c, r, rc, "the join could not be sent");
        else
            i++;
    }
    return 0;
}

/* Nobody will sit on this seat: the join was given up, or there is no place for one more room. */
static void give_back(struct client_conn *conn, int64_t remote)
{
    struct room_client *c = conn->client;
    struct wire_frame_leave f = {.id = (int64_t)++c->last_request, .room = remote};
    size_t begin = frame_begin(&conn->out);
    if (frame_end(&conn->out, begin, wire_frame_leave_pack(&f, &conn->out)) == 0)
        c->dirty = true;
}

static int on_joined(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_joined f;
    int rc = wire_frame_joined_unpack(&f, data, len, NULL);
    if (rc != 0)
        return rc;
    struct client_request *r = request_find(c, (uint64_t)f.id);
    bool known = room_by_remote(c, conn, f.room) != NULL;
    if (!r || r->conn != conn) {
        if (!known)
            give_back(conn, f.room);
        return 0;
    }
    if (known) {
        request_fail(c, r, ROOM_E_ALREADY, "the player is in that room already");
        return 0;
    }
    struct client_room *room = room_add(c);
    if (!room) {
        give_back(conn, f.room);
        request_fail(c, r, ROOM_E_FULL, "the client is in too many rooms");
        return 0;
    }
    room->conn = conn;
    room->remote = f.room;
    struct room_client_joined j = {
        .request = r->id, .room = room->room, .room_id = f.room_id.s, .type = f.type.s, .server = conn->server.s,
        .epoch = (uint64_t)f.epoch, .players = (unsigned)f.players, .max_players = (unsigned)f.max_players,
        .via = r->hops ? ROOM_CLIENT_REDIRECT : f.via == WIRE_FRAME_JOINED_VIA_RELAY ? ROOM_CLIENT_RELAY : ROOM_CLIENT_LOCAL,
        .state = raw_or_null(f.state), .state_len = f.state.len};
    request_drop(c, r);
    if (c->on.joined)
        c->on.joined(c->arg, &j);
    return 0;
}

/* A connection to that server that is there already, or NULL. */
static struct client_conn *connection_to(struct room_client *c, const char *server, const char *address)
{
    for (struct client_conn *conn = c->conns; conn; conn = conn->next)
        if (conn->state != CONN_DEAD && (strcmp(conn->server.s, server) == 0 || strcmp(conn->address, address) == 0))
            return conn;
    return NULL;
}

static bool put_address(char out[CLIENT_ADDRESS_SIZE], const char *host, int64_t port)
{
    bool v6 = strchr(host, ':') != NULL;
    int n = snprintf(out, CLIENT_ADDRESS_SIZE, v6 ? "[%s]:%d" : "%s:%d", host, (int)port);
    return host[0] && n > 0 && n < CLIENT_ADDRESS_SIZE;
}

/* Points the request at the other server; its join goes out now or with the welcome there. */
static int follow(struct room_client *c, struct client_request *r, const struct wire_frame_redirect *f, const char *address)
{
    struct client_conn *to = connection_to(c, f->server.s, address);
    char *ticket = strndup(f->ticket.data, f->ticket.len);
    if (!ticket)
        return ROOM_E_NO_MEMORY;
    free((void *)r->ticket.data);
    r->ticket = wire_str(ticket);
    r->room_id = f->room_id;
    r->mode = WIRE_FRAME_JOIN_MODE_JOIN;
    r->hops++;
    if (!to) {
        int rc = conn_open(c, address, false, &to);
        if (rc != 0)
            return rc;
        to->server = f->server;
    }
    r->conn = to;
    r->waits_for_hello = true;
    return to->state == CONN_OPEN ? request_queue(c, r) : 0;
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
    if (!r || r->conn != conn)
        return 0;
    uint64_t id = r->id;
    if (r->hops >= CLIENT_HOPS_MAX)
        request_fail(c, r, ROOM_E_UNAVAILABLE, "the servers redirect in a circle");
    else if (!put_address(address, text_of(f.address, host, sizeof host), f.port))
        request_fail(c, r, ROOM_E_INVALID, "the redirect has no usable address");
    else if ((rc = follow(c, r, &f, address)) != 0)
        request_fail(c, r, rc, "the room's server cannot be connected to");
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
    struct client_room *room = room_by_remote(conn->client, conn, f.room);
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
    struct client_room *room = room_by_remote(c, conn, f.room);
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
    struct client_room *room = room_by_remote(c, conn, f.room);
    if (room && c->on.sent)
        c->on.sent(c->arg, room->room, (uint64_t)f.n, raw_or_null(f.result), f.result.len);
    return 0;
}

static int on_push(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_push f;
    int rc = wire_frame_push_unpack(&f, data, len, NULL);
    if (rc == 0 && c->on.push)
        c->on.push(c->arg, f.data.data, f.data.len);
    return rc;
}

/* The room that send `n` of this connection went to, 0 if it is too long ago. */
static uint32_t room_of_send(const struct room_client *c, const struct client_conn *conn, uint64_t n)
{
    for (unsigned i = 0; i < CLIENT_SEND_NOTES; i++)
        if (c->notes[i].conn == conn && c->notes[i].n == n)
            return c->notes[i].room;
    return 0;
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
    text_of(f.message, text, sizeof text);
    uint64_t id = f.has_id ? (uint64_t)f.id : 0;
    struct client_request *r = id ? request_find(c, id) : NULL;
    if (r && r->conn == conn)
        request_fail(c, r, code, text);
    else if (conn->state == CONN_HELLO && conn->home && !room_error_retryable(code))
        client_close(c, code, text);
    else if (conn->state == CONN_HELLO)
        client_conn_lost(conn, text, code);
    else if (f.has_n && f.n > 0 && c->on.refused)
        c->on.refused(c->arg, room_of_send(c, conn, (uint64_t)f.n), (uint64_t)f.n, code, text);
    else if (c->on.error)
        c->on.error(c->arg, id, code, text);
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
    bool stopping = strcmp(reason, "server_stopping") == 0; /* the server leaves, not the player: on to another one */
    if (!conn->home || stopping) {
        client_conn_lost(conn, reason, stopping ? ROOM_E_DISCONNECTED : ROOM_E_CANCELLED);
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
    if (put_address(address, text_of(f.address, host, sizeof host), f.port)) {
        client_learn_server(c, address, strlen(address));
        for (unsigned i = 0; conn->home && i < c->server_count; i++)
            if (strcmp(c->servers[i], address) == 0)
                c->next_server = i;
    }
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
        {WIRE_OP_ERROR, on_error},     {WIRE_OP_PONG, on_pong},
    };
    int op = wire_peek_op(data, len), rc = op < 0 ? ROOM_E_BAD_FRAME : 0;
    for (size_t i = 0; rc == 0 && i < sizeof table / sizeof table[0]; i++)
        if (table[i].op == op) {
            rc = table[i].fn(conn, data, len);
            break;
        }
    if (rc != 0 && conn->state != CONN_DEAD)
        client_conn_lost(conn, room_error_name(rc), rc);
}
