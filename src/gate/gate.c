/*
 * The gate itself: the listener, the table of connections, and the calls from above.
 *
 * Decides who is let in and which number a connection has. Does not know what bytes mean. Invariant: a number names at
 * most one connection ever, because a slot's generation grows each time it is given back.
 */
#include "gate/state.h"

#include <string.h>

enum { BACKLOG = 4096, FIRST_SLOTS = 64 };

static struct conn *conn_of_dirty(struct link *l)
{
    return (struct conn *)((char *)l - offsetof(struct conn, dirty));
}

/* ---- slots ---- */

struct conn *gate_find(const struct gate *g, uint64_t id)
{
    uint32_t i = (uint32_t)id;
    if (i >= g->slot_count || g->slots[i].generation != (uint32_t)(id >> 32))
        return NULL;
    return g->slots[i].conn;
}

/* A connection that frames can be sent to. */
static struct conn *find_open(const struct gate *g, uint64_t id)
{
    struct conn *c = gate_find(g, id);
    return c && (c->state == CONN_TCP || c->state == CONN_WS) ? c : NULL;
}

static bool slot_take(struct gate *g, struct conn *c)
{
    uint32_t i;
    if (g->free_slot) {
        i = g->free_slot - 1;
        g->free_slot = g->slots[i].next_free;
    } else {
        if (g->slot_count == g->slot_cap) {
            uint32_t cap = g->slot_cap ? g->slot_cap * 2 : FIRST_SLOTS;
            struct slot *slots = alloc_resize(g->alloc, g->slots, g->slot_cap * sizeof *slots, cap * sizeof *slots);
            if (!slots)
                return false;
            g->slots = slots;
            g->slot_cap = cap;
        }
        i = g->slot_count++;
        g->slots[i].generation = 1;
    }
    g->slots[i].conn = c;
    c->id = (uint64_t)g->slots[i].generation << 32 | i;
    return true;
}

static void slot_give(struct gate *g, uint64_t id)
{
    uint32_t i = (uint32_t)id;
    g->slots[i].conn = NULL;
    if (++g->slots[i].generation == 0)
        return; /* used up: the slot stays empty */
    g->slots[i].next_free = g->free_slot;
    g->free_slot = i + 1;
}

/* ---- per-address counts ---- */

static bool address_take(struct gate *g, const struct conn *c)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    if (g->config.max_connections_per_address == 0)
        return true;
    uv_ip_name(&c->peer.any, ip, sizeof ip);
    uintptr_t n = (uintptr_t)map_get(&g->addresses, ip);
    return n < g->config.max_connections_per_address && map_put(&g->addresses, ip, (void *)(n + 1));
}

static void address_give(struct gate *g, const struct conn *c)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    if (g->config.max_connections_per_address == 0)
        return;
    uv_ip_name(&c->peer.any, ip, sizeof ip);
    uintptr_t n = (uintptr_t)map_get(&g->addresses, ip);
    /* Putting a smaller number replaces a value and needs no memory. */
    if (n <= 1 || !map_put(&g->addresses, ip, (void *)(n - 1)))
        map_del(&g->addresses, ip);
}

/* ---- coming and going ---- */

static void on_refused_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct gate *g = c->gate;
    alloc_put(g->alloc, c, sizeof *c);
    gate_handle_closed(g);
}

/* Takes the next waiting socket only to close it. */
static void refuse(struct conn *c, uint64_t *counter)
{
    (*counter)++;
    if (uv_tcp_close_reset(&c->tcp, on_refused_closed) != 0)
        uv_close((uv_handle_t *)&c->tcp, on_refused_closed);
}

static void conn_init(struct conn *c)
{
    struct gate *g = c->gate;
    size_t in_max = g->config.max_frame_bytes + TCP_FRAME_HEADER;
    buf_init(&c->in, g->alloc, in_max > GATE_HTTP_BYTES ? in_max : GATE_HTTP_BYTES);
    buf_init(&c->out, g->alloc, g->config.queue_limit_bytes);
    buf_init(&c->busy, g->alloc, g->config.queue_limit_bytes);
    c->wait = WAIT_NONE;
    c->tcp.data = c;
}

static void on_connection(uv_stream_t *listener, int status);

static void on_turned_away(uv_handle_t *handle)
{
    struct gate *g = handle->data;
    g->turning_away = false;
    if (g->accept_waiting && g->listening)
        on_connection((uv_stream_t *)&g->listener, 0);
    gate_handle_closed(g);
}

/* No memory for a connection. libuv stops listening until the socket it holds is taken, so one handle is kept for this. */
static void turn_away(struct gate *g)
{
    g->stats.refused_error++;
    g->accept_waiting = g->turning_away;
    if (g->turning_away || uv_tcp_init(g->config.loop, &g->away) != 0)
        return;
    g->turning_away = true;
    g->handles++;
    g->away.data = g;
    uv_accept((uv_stream_t *)&g->listener, (uv_stream_t *)&g->away);
    uv_close((uv_handle_t *)&g->away, on_turned_away);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct gate *g = listener->data;
    if (status != 0) {
        g->stats.refused_error++;
        return;
    }
    g->accept_waiting = false;
    struct conn *c = alloc_get(g->alloc, sizeof *c);
    if (!c) {
        turn_away(g);
        return;
    }
    c->gate = g;
    conn_init(c);
    if (uv_tcp_init(g->config.loop, &c->tcp) != 0) {
        alloc_put(g->alloc, c, sizeof *c);
        turn_away(g);
        return;
    }
    g->handles++;
    int size = sizeof c->peer;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
        uv_tcp_getpeername(&c->tcp, &c->peer.any, &size) != 0)
        refuse(c, &g->stats.refused_error);
    else if (g->stats.connections >= g->config.max_connections)
        refuse(c, &g->stats.refused_full);
    else if (!address_take(g, c))
        refuse(c, &g->stats.refused_address);
    else if (!slot_take(g, c)) {
        address_give(g, c);
        refuse(c, &g->stats.refused_error);
    } else {
        g->stats.accepted++;
        g->stats.connections++;
        uv_tcp_nodelay(&c->tcp, 1);
        wait_enter(c, WAIT_HELLO);
        conn_start(c);
    }
}

void gate_forget(struct conn *c)
{
    struct gate *g = c->gate;
    slot_give(g, c->id);
    address_give(g, c);
    g->stats.connections--;
    g->stats.websockets -= c->websocket;
    if (c->opened)
        g->handler.closed(g->handler.arg, c->id, c->reason);
    alloc_put(g->alloc, c, sizeof *c);
    gate_handle_closed(g);
}

void gate_handle_closed(struct gate *g)
{
    if (--g->handles > 0 || !g->destroying)
        return;
    void (*done)(void *) = g->done;
    void *arg = g->done_arg;
    ws_free_spares(g);
    map_deinit(&g->addresses);
    alloc_put(g->alloc, g->slots, g->slot_cap * sizeof *g->slots);
    alloc_put(g->alloc, g, sizeof *g);
    if (done)
        done(arg);
}

static void on_own_closed(uv_handle_t *handle)
{
    gate_handle_closed(handle->data);
}

/* ---- life ---- */

static int fill_config(struct gate_config *c, struct err_detail *detail)
{
    c->host = c->host ? c->host : "127.0.0.1";
    c->max_frame_bytes = c->max_frame_bytes ? c->max_frame_bytes : 64 * 1024;
    c->max_connections = c->max_connections ? c->max_connections : 10000;
    c->hello_timeout_ms = c->hello_timeout_ms ? c->hello_timeout_ms : 10000;
    c->close_timeout_ms = c->close_timeout_ms ? c->close_timeout_ms : 2000;
    c->queue_limit_bytes = c->queue_limit_bytes ? c->queue_limit_bytes : 1024 * 1024;
    c->soft_limit_bytes = c->soft_limit_bytes ? c->soft_limit_bytes : c->queue_limit_bytes / 4;
    if (c->max_frame_bytes > GATE_MAX_FRAME_LIMIT)
        return err_set(detail, ROOM_E_INVALID, "a frame limit of %zu bytes is more than %d", c->max_frame_bytes,
                       GATE_MAX_FRAME_LIMIT);
    if (c->queue_limit_bytes < 4096 || c->queue_limit_bytes > 1u << 30)
        return err_set(detail, ROOM_E_INVALID, "a queue limit of %zu bytes is not within 4096 and 1 GiB",
                       c->queue_limit_bytes);
    if (c->max_connections > 1u << 24)
        return err_set(detail, ROOM_E_INVALID, "a limit of %u connections is more than %u", c->max_connections,
                       1u << 24);
    return 0;
}

static int parse_address(const struct gate_config *c, struct sockaddr_storage *out, struct err_detail *detail)
{
    if (c->port < 0 || c->port > 65535)
        return err_set(detail, ROOM_E_INVALID, "port %d is not within 0 and 65535", c->port);
    if (uv_ip4_addr(c->host, c->port, (struct sockaddr_in *)out) != 0 &&
        uv_ip6_addr(c->host, c->port, (struct sockaddr_in6 *)out) != 0)
        return err_set(detail, ROOM_E_INVALID, "cannot listen on '%s': not an IPv4 or IPv6 address", c->host);
    return 0;
}

static int start_listening(struct gate *g, const struct sockaddr_storage *at, struct err_detail *detail)
{
    struct sockaddr_storage own;
    int size = sizeof own;
    int rc = uv_tcp_bind(&g->listener, (const struct sockaddr *)at, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&g->listener, BACKLOG, on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&g->listener, (struct sockaddr *)&own, &size);
    if (rc != 0)
        return err_set(detail, ROOM_E_IO, "cannot listen on '%s' port %d: %s", g->config.host, g->config.port,
                       uv_strerror(rc));
    g->port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                              : ((struct sockaddr_in *)&own)->sin_port);
    return 0;
}

static void on_prepare(uv_prepare_t *prepare)
{
    gate_flush(prepare->data);
}

static void init_handles(struct gate *g)
{
    uv_timer_init(g->config.loop, &g->timer);
    uv_prepare_init(g->config.loop, &g->prepare);
    uv_prepare_start(&g->prepare, on_prepare);
    g->timer.data = g->prepare.data = g->listener.data = g;
    uv_unref((uv_handle_t *)&g->timer);
    uv_unref((uv_handle_t *)&g->prepare);
    g->handles = 3;
    g->listening = true;
}

int gate_create(const struct gate_config *config, const struct gate_handler *handler, struct gate **out,
                struct err_detail *detail)
{
    struct gate_config filled = *config;
    struct sockaddr_storage at;
    int rc = fill_config(&filled, detail);
    if (rc == 0)
        rc = parse_address(&filled, &at, detail);
    if (rc != 0)
        return rc;
    struct gate *g = alloc_get(filled.alloc, sizeof *g);
    if (!g)
        return err_set(detail, ROOM_E_NO_MEMORY, "no memory for the gate");
    g->config = filled;
    g->handler = *handler;
    g->alloc = filled.alloc;
    map_init(&g->addresses, g->alloc);
    link_init(&g->dirty);
    wait_init(g);
    rc = uv_tcp_init(filled.loop, &g->listener);
    if (rc != 0) {
        alloc_put(g->alloc, g, sizeof *g);
        return err_set(detail, ROOM_E_IO, "cannot make a listener: %s", uv_strerror(rc));
    }
    init_handles(g);
    rc = start_listening(g, &at, detail);
    if (rc != 0) {
        gate_destroy(g, NULL, NULL);
        return rc;
    }
    g->config.host = NULL;
    *out = g;
    return 0;
}

int gate_port(const struct gate *g)
{
    return g->port;
}

void gate_stop_accepting(struct gate *g)
{
    if (!g->listening)
        return;
    g->listening = false;
    uv_close((uv_handle_t *)&g->listener, on_own_closed);
}

void gate_destroy(struct gate *g, void (*done)(void *arg), void *arg)
{
    if (!g || g->destroying)
        return;
    gate_stop_accepting(g);
    g->destroying = true;
    g->done = done;
    g->done_arg = arg;
    uv_close((uv_handle_t *)&g->timer, on_own_closed);
    uv_close((uv_handle_t *)&g->prepare, on_own_closed);
    for (uint32_t i = 0; i < g->slot_count; i++)
        if (g->slots[i].conn)
            conn_drop(g->slots[i].conn, "shutdown");
}

/* ---- from above ---- */

int gate_send2(struct gate *g, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    struct conn *c = find_open(g, conn);
    uint8_t header[WS_HEADER_MAX];
    size_t n = head_len + tail_len;
    if (!c)
        return ROOM_E_NOT_FOUND;
    if (n > g->config.queue_limit_bytes - WS_HEADER_MAX)
        return ROOM_E_TOO_BIG;
    size_t header_len = TCP_FRAME_HEADER;
    if (c->state == CONN_WS)
        header_len = ws_header(header, (enum gate_encoding)c->encoding, n);
    else
        tcp_frame_header(header, n);
    int rc = conn_room(c, header_len + n);
    if (rc != 0)
        return rc;
    buf_write(&c->out, header, header_len);
    buf_write(&c->out, head, head_len);
    buf_write(&c->out, tail, tail_len);
    g->stats.frames_out++;
    return 0;
}

int gate_send(struct gate *g, uint64_t conn, const void *data, size_t len)
{
    return gate_send2(g, conn, data, len, NULL, 0);
}

void gate_close(struct gate *g, uint64_t conn, const char *reason, const void *final, size_t final_len)
{
    if (final_len > 0)
        gate_send(g, conn, final, final_len);
    struct conn *c = find_open(g, conn);
    if (c)
        conn_close(c, reason);
}

void gate_established(struct gate *g, uint64_t conn)
{
    struct conn *c = find_open(g, conn);
    if (!c || c->established)
        return;
    c->established = true;
    wait_enter(c, WAIT_ACTIVE);
}

enum gate_encoding gate_encoding(const struct gate *g, uint64_t conn)
{
    const struct conn *c = gate_find(g, conn);
    return c ? (enum gate_encoding)c->encoding : GATE_MSGPACK;
}

size_t gate_queued(const struct gate *g, uint64_t conn)
{
    const struct conn *c = gate_find(g, conn);
    return c ? conn_queued(c) : 0;
}

void gate_flush(struct gate *g)
{
    while (g->dirty.next != &g->dirty)
        conn_flush(conn_of_dirty(g->dirty.next));
}

void gate_get_stats(const struct gate *g, struct gate_stats *out)
{
    *out = g->stats;
}
