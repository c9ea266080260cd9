/*
 * One connection: reading, queueing, writing, closing.
 *
 * Decides when bytes are written (once per turn), when reading pauses, and how a connection ends. Knows frames only by
 * the headers it puts before them. Invariant: unsent bytes never pass the queue limit.
 */
#include "gate/state.h"

#include <string.h>

static uv_stream_t *stream(struct conn *c)
{
    return (uv_stream_t *)&c->tcp;
}

static bool is_open(const struct conn *c)
{
    return c->state == CONN_TCP || c->state == CONN_WS;
}

/* Who has spoken is answered first: an acknowledgement does not stand in line behind a broadcast to the whole room. */
static void mark_dirty(struct conn *c)
{
    if (!c->dirty.next)
        link_add(c->spoke ? c->gate->dirty.next : &c->gate->dirty, &c->dirty);
    c->spoke = false;
}

static void empty(struct buf *b)
{
    const struct alloc *alloc = b->alloc;
    size_t max = b->max;
    buf_deinit(b);
    buf_init(b, alloc, max);
}

void conn_release_in(struct conn *c)
{
    if (c->in.len == 0 && c->in.cap)
        empty(&c->in);
}

static void give_read_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct conn *c = handle->data;
    *out = uv_buf_init((char *)c->gate->read_buffer, sizeof c->gate->read_buffer);
}

/* Bytes enough to tell? Every HTTP method begins with a capital letter, which as the first byte of a length is beyond
 * GATE_MAX_FRAME_LIMIT. */
static void feed(struct conn *c, const uint8_t *data, size_t len)
{
    if (c->state == CONN_FRESH) {
        if (data[0] >= 'A' && data[0] <= 'Z')
            c->state = CONN_HTTP;
        else
            conn_open(c, CONN_TCP);
    }
    if (c->state == CONN_HTTP)
        upgrade_feed(c, data, len);
    else if (c->state == CONN_TCP)
        tcp_frame_feed(c, data, len);
    else if (c->state == CONN_WS)
        ws_feed(c, data, len);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct conn *c = s->data;
    if (n > 0) {
        c->gate->stats.bytes_in += (uint64_t)n;
        if (c->wait == WAIT_ACTIVE || c->wait == WAIT_QUIET)
            wait_enter(c, WAIT_ACTIVE);
        feed(c, (const uint8_t *)b->base, (size_t)n);
        /* libuv reads up to 32 times before this turn's flush: the answers alone could pass the hard limit. */
        if (c->state != CONN_DEAD && conn_queued(c) > c->gate->config.soft_limit_bytes)
            conn_flush(c);
        return;
    }
    if (n == 0)
        return;
    c->eof = true;
    if (n != UV_EOF || !is_open(c))
        conn_drop(c, "disconnected");
    else
        conn_close(c, "disconnected");
}

void conn_start(struct conn *c)
{
    int rc = uv_read_start(stream(c), give_read_buffer, on_read);
    if (rc != 0)
        conn_drop(c, "disconnected");
}

void conn_open(struct conn *c, enum conn_state state)
{
    struct gate *g = c->gate;
    char ip[INET6_ADDRSTRLEN] = "?";
    char text[GATE_ADDRESS_SIZE];
    bool v6 = c->peer.any.sa_family == AF_INET6;
    uv_ip_name(&c->peer.any, ip, sizeof ip);
    snprintf(text, sizeof text, v6 ? "[%s]:%d" : "%s:%d", ip, ntohs(v6 ? c->peer.v6.sin6_port : c->peer.v4.sin_port));
    c->state = (uint8_t)state;
    c->websocket = state == CONN_WS;
    g->stats.websockets += c->websocket;
    c->opened = true;
    g->handler.opened(g->handler.arg, c->id, text);
}

void conn_frame(struct conn *c, enum gate_encoding encoding, const uint8_t *data, size_t len)
{
    struct gate *g = c->gate;
    g->stats.frames_in++;
    c->spoke = true;
    g->handler.frame(g->handler.arg, c->id, encoding, data, len);
}

void conn_refuse(struct conn *c, int code, const char *text)
{
    struct gate *g = c->gate;
    g->stats.too_big += code == ROOM_E_TOO_BIG;
    g->stats.bad_frames += code == ROOM_E_BAD_FRAME;
    g->handler.refused(g->handler.arg, c->id, code, text);
    conn_close(c, room_error_name(code));
}

size_t conn_queued(const struct conn *c)
{
    return c->out.len + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

int conn_room(struct conn *c, size_t len)
{
    size_t limit = c->gate->config.queue_limit_bytes;
    if (conn_queued(c) + len > limit)
        conn_flush(c);
    if (c->state == CONN_DEAD)
        return ROOM_E_FULL;
    if (conn_queued(c) + len > limit) {
        c->gate->stats.slow_clients++;
        conn_drop(c, "slow_client");
        return ROOM_E_FULL;
    }
    if (!buf_space(&c->out, len)) {
        conn_drop(c, "no_memory");
        return ROOM_E_NO_MEMORY;
    }
    mark_dirty(c);
    return 0;
}

bool conn_write(struct conn *c, const void *data, size_t len)
{
    return conn_room(c, len) == 0 && buf_write(&c->out, data, len);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct conn *c = req->handle->data;
    if (status != 0 && c->state != CONN_DEAD)
        conn_drop(c, NULL);
}

/* All is written. The client must see our last words, so we wait for its end of the stream (or the close timeout): bytes
 * left unread at close would make the kernel send a reset, which throws our words away at its side. */
static void finish_closing(struct conn *c)
{
    if (c->eof)
        conn_drop(c, NULL);
    else if (!c->shut) {
        c->shut = true;
        if (uv_shutdown(&c->req.shutdown, stream(c), on_shutdown) != 0)
            conn_drop(c, NULL);
    }
}

static void written(struct conn *c)
{
    if (c->state == CONN_CLOSING && c->out.len == 0 && !c->writing)
        finish_closing(c);
    if (c->state == CONN_DEAD || c->eof)
        return;
    size_t soft = c->gate->config.soft_limit_bytes;
    bool pause = c->state != CONN_CLOSING && conn_queued(c) > soft;
    if (pause && !c->paused)
        uv_read_stop(stream(c));
    else if (!pause && c->paused)
        conn_start(c);
    c->paused = pause;
}

static void on_write(uv_write_t *req, int status)
{
    struct conn *c = req->handle->data;
    c->writing = false;
    c->gate->stats.bytes_out += status == 0 ? c->busy.len : 0;
    empty(&c->busy);
    if (c->state == CONN_DEAD)
        return;
    if (status != 0)
        conn_drop(c, "disconnected");
    else
        conn_flush(c);
}

void conn_flush(struct conn *c)
{
    link_del(&c->dirty);
    if (c->state == CONN_DEAD)
        return;
    if (!c->writing && c->out.len > 0) {
        uv_buf_t b = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
        int n = uv_try_write(stream(c), &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            conn_drop(c, "disconnected");
            return;
        }
        size_t gone = n > 0 ? (size_t)n : 0;
        if (gone == c->out.len) {
            c->gate->stats.bytes_out += gone;
            empty(&c->out);
        } else {
            struct buf fresh = c->busy;
            c->busy = c->out;
            c->out = fresh;
            b = uv_buf_init((char *)c->busy.data + gone, (unsigned)(c->busy.len - gone));
            c->writing = uv_write(&c->req.write, stream(c), &b, 1, on_write) == 0;
            if (!c->writing) {
                conn_drop(c, "disconnected");
                return;
            }
        }
    }
    written(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    ws_release(c);
    buf_deinit(&c->in);
    buf_deinit(&c->out);
    buf_deinit(&c->busy);
    gate_forget(c);
}

static void set_reason(struct conn *c, const char *reason)
{
    if (!c->reason[0] && reason)
        snprintf(c->reason, sizeof c->reason, "%s", reason);
}

void conn_close(struct conn *c, const char *reason)
{
    if (c->state >= CONN_CLOSING)
        return;
    set_reason(c, reason);
    if (c->state == CONN_WS && !c->close_sent)
        ws_write_close(c, c->reason);
    if (c->state == CONN_DEAD)
        return;
    c->state = CONN_CLOSING;
    wait_enter(c, WAIT_CLOSE);
    mark_dirty(c);
}

void conn_drop(struct conn *c, const char *reason)
{
    if (c->state == CONN_DEAD)
        return;
    set_reason(c, reason);
    bool clean = c->eof || (c->state == CONN_CLOSING && c->shut);
    c->state = CONN_DEAD;
    wait_leave(c);
    link_del(&c->dirty);
    /* A reset lets the kernel forget what a client does not read. */
    if (clean || uv_tcp_close_reset(&c->tcp, on_closed) != 0)
        uv_close((uv_handle_t *)&c->tcp, on_closed);
}
