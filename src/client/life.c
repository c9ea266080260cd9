/*
 * A client's homes, losses and deadlines.
 *
 * Decides: when a connection is given up and where the next home is looked for. Must not read frames, nor know what is asked
 * there again (session.c). Invariant: after client_conn_lost() that connection is neither home nor to be it; it is freed by
 * client_sweep() only.
 */
#include "client/state.h"

#include <stdio.h>
#include <string.h>

#include "client/frame.h"

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 2000, SILENT_PINGS = 3 };

void client_learn_server(struct room_client *c, const char *address, size_t len)
{
    if (len == 0 || len >= CLIENT_ADDRESS_SIZE || memchr(address, '\0', len) || !memchr(address, ':', len) ||
        c->server_count == ROOM_CLIENT_SERVERS_MAX)
        return;
    for (unsigned i = 0; i < c->server_count; i++)
        if (strlen(c->servers[i]) == len && memcmp(c->servers[i], address, len) == 0)
            return;
    memcpy(c->servers[c->server_count], address, len);
    c->servers[c->server_count++][len] = '\0';
}

/* At once after a loss, then at growing intervals, spread by chance: a server's players do not come back in step. */
static void plan_retry(struct room_client *c)
{
    unsigned tried = c->attempt / (c->server_count ? c->server_count : 1);
    int64_t wait = tried > 5 ? RETRY_MAX_MS : (int64_t)RETRY_FIRST_MS << tried;
    c->retry_at_ms = c->attempt == 0 ? c->now_ms
                                     : c->now_ms + wait / 2 + (int64_t)rng_below(&c->rng, (uint64_t)wait / 2 + 1);
}

static void fail_moving(struct room_client *c)
{
    for (unsigned i = 0; i < c->request_count;) {
        if (c->requests[i].moving) {
            request_fail(c, &c->requests[i], ROOM_E_UNAVAILABLE, "the room's server cannot be reached");
            i = 0;
        } else {
            i++;
        }
    }
}

/* A connection that broke may be had again at once, and the session is there. A server that is silent, leaves or cannot be
 * reached is not asked next. */
static void plan_where(struct room_client *c, const struct client_conn *lost, bool back)
{
    if (back)
        snprintf(c->first, sizeof c->first, "%s", lost->address);
    else if (c->server_count > 1 && strcmp(c->servers[c->next_server % c->server_count], lost->address) == 0)
        c->next_server++;
}

/* What we cannot take would come again and again. */
static bool unreadable(int code)
{
    return code == ROOM_E_BAD_FRAME || code == ROOM_E_TOO_BIG;
}

static void home_lost(struct room_client *c, const struct client_conn *lost, const char *reason, int code, bool was_open)
{
    c->home = NULL;
    for (unsigned i = 0; i < c->request_count; i++)
        c->requests[i].asked = false;
    if (c->moving && unreadable(code)) {
        c->moving->state = CONN_DEAD;
        c->moving = NULL;
    }
    if (c->moving) { /* it may have handed the session over already */
        snprintf(c->first, sizeof c->first, "%s", lost->address);
        c->home = c->moving;
        c->moving = NULL;
        return;
    }
    plan_where(c, lost, was_open && code == ROOM_E_DISCONNECTED && !c->first[0]);
    plan_retry(c);
    if (c->secret_len == 0 || unreadable(code))
        session_lost(c, reason, code);
    else
        fail_moving(c);
}

void client_conn_lost(struct client_conn *conn, const char *reason, int code)
{
    struct room_client *c = conn->client;
    bool was_open = conn->state == CONN_OPEN;
    if (conn->state == CONN_DEAD)
        return;
    conn->state = CONN_DEAD;
    c->sweep = true;
    if (conn == c->home) {
        home_lost(c, conn, reason, code, was_open);
    } else if (conn == c->moving) {
        c->moving = NULL;
        fail_moving(c);
        if (client_home_open(c))
            session_ask_open(c);
    }
}

void client_close(struct room_client *c, int code, const char *text)
{
    if (c->closed)
        return;
    c->closed = c->sweep = true;
    c->closed_code = code;
    for (struct client_conn *conn = c->conns; conn; conn = conn->next)
        conn->state = CONN_DEAD;
    c->home = c->moving = NULL;
    c->retry_at_ms = INT64_MAX;
    session_lost(c, text, code);
    if (c->on.closed)
        c->on.closed(c->arg, code, text);
}

int client_move(struct room_client *c, const char *address)
{
    return conn_open(c, address, &c->moving);
}

void client_find_home(struct room_client *c)
{
    char address[CLIENT_ADDRESS_SIZE];
    if (c->first[0]) {
        snprintf(address, sizeof address, "%s", c->first);
        c->first[0] = '\0';
    } else {
        snprintf(address, sizeof address, "%s", c->servers[c->next_server % c->server_count]);
        c->next_server = (c->next_server + 1) % c->server_count;
    }
    c->retry_at_ms = INT64_MAX;
    if (c->started && c->on.reconnecting)
        c->on.reconnecting(c->arg, c->attempt + 1, address);
    c->started = true;
    c->attempt++;
    if (conn_open(c, address, &c->home) != 0)
        plan_retry(c);
}

void client_sweep(struct room_client *c)
{
    if (!c->sweep)
        return;
    c->sweep = false;
    for (struct client_conn **at = &c->conns; *at;) {
        struct client_conn *conn = *at;
        if (conn->state == CONN_DEAD) {
            *at = conn->next;
            conn_free(conn);
        } else {
            at = &conn->next;
        }
    }
}

static void ping(struct client_conn *conn)
{
    size_t begin = frame_begin(&conn->out);
    struct wire_frame_ping f = {.t = 0};
    /* With a full queue there is enough on the way to be answered. */
    if (frame_end(&conn->out, begin, wire_frame_ping_pack(&f, &conn->out)) == 0)
        conn->client->dirty = true;
    conn->pinged_ms = conn->client->now_ms;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* When this connection wants to be looked at. */
static int64_t conn_due(const struct room_client *c, const struct client_conn *conn)
{
    if (conn->state == CONN_DEAD)
        return c->now_ms;
    if (conn->state != CONN_OPEN)
        return conn->opened_ms + c->connect_timeout_ms;
    return later(conn->heard_ms, conn->pinged_ms) + c->ping_ms;
}

void client_timers(struct room_client *c)
{
    for (struct client_conn *conn = c->conns; conn; conn = conn->next) {
        if (conn->state == CONN_DEAD || conn_due(c, conn) > c->now_ms)
            continue;
        if (conn->state != CONN_OPEN)
            client_conn_lost(conn, "timeout", ROOM_E_TIMEOUT);
        else if (c->now_ms - conn->heard_ms >= c->ping_ms * SILENT_PINGS)
            client_conn_lost(conn, "timeout", ROOM_E_DISCONNECTED);
        else
            ping(conn);
    }
    for (unsigned i = 0; i < c->request_count;) {
        if (c->requests[i].deadline_ms <= c->now_ms) {
            request_fail(c, &c->requests[i], ROOM_E_TIMEOUT, "it was not answered in time");
            i = 0;
        } else {
            i++;
        }
    }
    if (!c->closed && c->retry_at_ms <= c->now_ms)
        client_find_home(c);
}

int64_t client_next_due(const struct room_client *c)
{
    int64_t due = session_due(c) < c->retry_at_ms ? session_due(c) : c->retry_at_ms;
    if (c->dirty || c->sweep)
        return c->now_ms;
    for (const struct client_conn *conn = c->conns; conn; conn = conn->next)
        due = conn_due(c, conn) < due ? conn_due(c, conn) : due;
    for (unsigned i = 0; i < c->request_count; i++)
        due = c->requests[i].deadline_ms < due ? c->requests[i].deadline_ms : due;
    return due;
}
