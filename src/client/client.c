/*
 * The public face of the client library; see include/room/client.h.
 *
 * Decides: what is refused at the door. Must not know how frames are read. Invariant: a call that fails has changed
 * nothing, and no callback is called from here but inside room_client_process().
 */
#include "client/state.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/time.h"
#include "client/frame.h"
#include "wire/mp_read.h"

enum {
    FRAME_BYTES = 1024 * 1024,
    QUEUE_BYTES = 256 * 1024,
    QUEUE_BYTES_MIN = 32 * 1024, /* a hello with the longest token fits */
    CONNECT_MS = 5000,
    JOIN_MS = 10000,
    REQUEST_MS = 90000,
    ROUTE_MAX = 128, /* characters */
    PING_MS = 5000,
    EVENTS = 16
};

static int read_servers(struct room_client *c, const char *list)
{
    while (list && *list) {
        size_t len = strcspn(list, ",");
        unsigned before = c->server_count;
        client_learn_server(c, list, len);
        if (c->server_count == before)
            return ROOM_E_INVALID;
        list += len + (list[len] == ',');
    }
    return c->server_count ? 0 : ROOM_E_INVALID;
}

static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value ? value : otherwise;
}

int room_client_create(const struct room_client_config *config, struct room_client **out)
{
    uint64_t seed;
    struct room_client *c = calloc(1, sizeof *c);
    if (!c)
        return ROOM_E_NO_MEMORY;
    int rc = read_servers(c, config->servers);
    c->epoll_fd = -1;
    if (rc == 0 && (!config->player || !id_set(&c->player, config->player)))
        rc = ROOM_E_INVALID;
    if (rc == 0 && config->no_resume && config->can_redirect) /* who cannot take his session along cannot go elsewhere */
        rc = ROOM_E_INVALID;
    if (rc == 0 && config->token && !(c->token = strdup(config->token)))
        rc = ROOM_E_NO_MEMORY;
    c->on = config->on;
    c->arg = config->arg;
    c->can_redirect = config->can_redirect != 0;
    c->can_relay = config->can_relay != 0;
    c->can_resume = !config->no_resume;
    c->sends_end = &c->sends;
    c->max_frame = config->max_frame_bytes ? config->max_frame_bytes : FRAME_BYTES;
    c->max_queue = config->max_queue_bytes ? config->max_queue_bytes : QUEUE_BYTES;
    c->connect_timeout_ms = or_default(config->connect_timeout_ms, CONNECT_MS);
    c->join_timeout_ms = or_default(config->join_timeout_ms, JOIN_MS);
    c->request_timeout_ms = or_default(config->request_timeout_ms, REQUEST_MS);
    c->ping_ms = or_default(config->ping_interval_ms, PING_MS);
    c->next_server = config->first_server;
    c->retry_at_ms = INT64_MAX;
    rng_secret(&seed, sizeof seed);
    rng_init(&c->rng, seed);
    if (rc == 0 && (c->max_queue < QUEUE_BYTES_MIN || c->max_queue > UINT32_MAX / 4 || c->max_frame > UINT32_MAX / 2))
        rc = ROOM_E_INVALID;
    if (rc == 0 && (c->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0)
        rc = ROOM_E_IO;
    if (rc != 0) {
        room_client_destroy(c);
        return rc;
    }
    *out = c;
    return 0;
}

/* Also before the welcome: a session that is about to be taken up there ends there. */
static void say_bye(const struct room_client *c, struct client_conn *conn)
{
    struct wire_frame_bye f = {0};
    size_t begin = frame_begin(&conn->out);
    if (c->can_resume && conn->state != CONN_CONNECTING && conn->state != CONN_DEAD &&
        frame_end(&conn->out, begin, wire_frame_bye_pack(&f, &conn->out)) == 0)
        conn_flush(conn);
}

void room_client_destroy(struct room_client *c)
{
    if (!c)
        return;
    for (struct client_conn *conn = c->conns, *next; conn; conn = next) {
        next = conn->next;
        say_bye(c, conn);
        conn_free(conn);
    }
    while (c->room_count > 0)
        sends_forget(c, c->rooms[--c->room_count].room);
    while (c->request_count > 0)
        request_drop(c, &c->requests[0]);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    waiting_deinit(c);
    free(c->requests);
    free(c->rooms);
    free(c->token);
    free(c);
}

int room_client_connect(struct room_client *c, int64_t now_ms)
{
    if (c->started || c->retry_at_ms != INT64_MAX || c->closed)
        return ROOM_E_ALREADY;
    c->now_ms = now_ms;
    c->retry_at_ms = now_ms;
    return 0;
}

int room_client_fd(const struct room_client *c)
{
    return c->epoll_fd;
}

short room_client_events(const struct room_client *c)
{
    return POLLIN;
}

int64_t room_client_deadline_ms(const struct room_client *c)
{
    return client_next_due(c);
}

void room_client_flush(struct room_client *c)
{
    if (!c->dirty)
        return;
    c->dirty = false;
    for (struct client_conn *conn = c->conns; conn; conn = conn->next)
        if (conn->out.len > 0 && !conn->want_write)
            conn_flush(conn);
}

int room_client_process(struct room_client *c, short revents, int64_t now_ms)
{
    struct epoll_event events[EVENTS];
    c->now_ms = now_ms;
    int count = revents ? epoll_wait(c->epoll_fd, events, EVENTS, 0) : 0;
    for (int i = 0; i < count; i++)
        conn_io(events[i].data.ptr, events[i].events);
    client_timers(c);
    session_turn(c);
    room_client_flush(c);
    client_sweep(c);
    return c->closed ? c->closed_code : 0;
}

int room_client_run_once(struct room_client *c, int timeout_ms)
{
    int64_t now_ms = time_mono_now().us / 1000, due = client_next_due(c);
    if (due <= now_ms)
        timeout_ms = 0;
    else if (due - now_ms < timeout_ms || timeout_ms < 0)
        timeout_ms = due - now_ms > INT32_MAX ? INT32_MAX : (int)(due - now_ms);
    struct pollfd p = {.fd = c->epoll_fd, .events = POLLIN};
    if (poll(&p, 1, timeout_ms) < 0 && errno != EINTR)
        return ROOM_E_IO;
    return room_client_process(c, p.revents, time_mono_now().us / 1000);
}

static bool put_id(struct id *out, const char *s, bool required)
{
    return s ? id_set(out, s) : !required;
}

static int read_mode(const char *word, enum wire_frame_join_mode *out)
{
    for (int mode = WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE; mode <= WIRE_FRAME_JOIN_MODE_CREATE; mode++)
        if (!word || strcmp(word, wire_frame_join_mode_word((enum wire_frame_join_mode)mode)) == 0) {
            *out = (enum wire_frame_join_mode)mode;
            return 0;
        }
    return ROOM_E_INVALID;
}

int room_client_join(struct room_client *c, const struct room_client_join *join, uint64_t *request)
{
    enum wire_frame_join_mode mode;
    struct id type, room_id = {""}, create_id = {""};
    if (!client_home_open(c) && !c->secret_len)
        return ROOM_E_DISCONNECTED;
    if (read_mode(join->mode, &mode) != 0 || !put_id(&type, join->type, true) || !put_id(&room_id, join->room_id, false) ||
        !put_id(&create_id, join->create_id, false) ||
        (join->options_len && mp_check(join->options, join->options_len, WIRE_VALUE_DEPTH, NULL) != 0))
        return ROOM_E_INVALID;
    uint8_t *options = NULL;
    if (join->options_len && !(options = malloc(join->options_len)))
        return ROOM_E_NO_MEMORY;
    struct client_request *r = request_add(c, join->options_len);
    if (!r) {
        free(options);
        return ROOM_E_FULL;
    }
    if (options)
        memcpy(options, join->options, join->options_len);
    r->mode = mode;
    r->type = type;
    r->room_id = room_id;
    r->create_id = create_id;
    r->private_room = join->private_room != 0;
    r->options.data = options;
    int rc = client_home_open(c) ? request_queue(c, r) : 0;
    if (rc != 0) {
        request_drop(c, r);
        return rc;
    }
    if (request)
        *request = r->id;
    return 0;
}

int room_client_request(struct room_client *c, const char *route, const void *data, size_t len, uint64_t *request)
{
    if (!client_home_open(c) && !c->secret_len)
        return ROOM_E_DISCONNECTED;
    if (!route || !route[0] || strlen(route) > ROUTE_MAX || len == 0 || mp_check(data, len, WIRE_VALUE_DEPTH, NULL) != 0)
        return ROOM_E_INVALID;
    struct client_request *r = request_add(c, len);
    if (!r)
        return ROOM_E_FULL;
    uint8_t *copy = malloc(len);
    r->service = true;
    r->deadline_ms = c->now_ms + c->request_timeout_ms;
    r->options.data = copy;
    r->ticket = wire_str(strdup(route));
    if (copy)
        memcpy(copy, data, len);
    int rc = !copy || !r->ticket.data ? ROOM_E_NO_MEMORY : client_home_open(c) ? request_queue(c, r) : 0;
    if (rc != 0) {
        request_drop(c, r);
        return rc;
    }
    if (request)
        *request = r->id;
    return 0;
}

int room_client_leave(struct room_client *c, uint32_t room)
{
    struct client_room *r = room_by_handle(c, room);
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (r->leaving)
        return 0;
    int rc = client_home_open(c) ? room_queue_leave(c, r->remote) : 0;
    r->leaving = rc == 0;
    return rc;
}

int room_client_send(struct room_client *c, uint32_t room, const void *data, size_t len, uint64_t *n)
{
    struct client_room *r = room_by_handle(c, room);
    if (!r || r->leaving)
        return ROOM_E_NOT_FOUND;
    if (len == 0 || mp_check(data, len, WIRE_VALUE_DEPTH, NULL) != 0)
        return ROOM_E_INVALID;
    const struct client_send *s;
    int rc = sends_keep(c, room, data, len, &s);
    if (rc == 0 && client_home_open(c) && (rc = sends_queue(c, r, s)) != 0) {
        sends_answered(c, c->last_n);
        c->last_n--;
    }
    if (rc == 0 && n)
        *n = c->last_n;
    return rc;
}

int room_client_ping(struct room_client *c, uint64_t t)
{
    if (!client_home_open(c))
        return ROOM_E_DISCONNECTED;
    if (t == 0 || t > INT64_MAX)
        return ROOM_E_INVALID;
    struct wire_frame_ping f = {.t = (int64_t)t};
    size_t begin = frame_begin(&c->home->out);
    int rc = frame_end(&c->home->out, begin, wire_frame_ping_pack(&f, &c->home->out));
    if (rc == 0)
        c->dirty = true;
    return rc;
}

const char *room_client_server(const struct room_client *c)
{
    return client_home_open(c) ? c->home->server.s : "";
}
