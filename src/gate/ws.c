/*
 * WebSocket messages over libwslay.
 *
 * Decides which message is acceptable and which close code goes with which reason; wslay checks the rest of RFC 6455
 * (masks, fragments, control frames, UTF-8) and answers pings. Invariant: a connection that is between two messages holds
 * no parser. A wslay context is 8.5 KiB, more than all else of a connection together; so one is lent out only while a
 * message is incomplete. That is known by counting: wslay's state is empty when all bytes fed belong to whole frames.
 */
#include <string.h>
#include <wslay/wslay.h>

#include "gate/state.h"

enum {
    FEED_BYTES = 4096, /* at a time, so that the pongs to a flood of pings are queued, and counted, as they come */
    MAX_SPARES = 8
};

struct ws {
    wslay_event_context_ptr ctx;
    struct gate *gate;
    struct conn *conn;   /* whose bytes are fed now */
    struct ws *next;     /* among the spares */
    const uint8_t *data; /* being fed */
    size_t left;
    uint64_t unaccounted;  /* bytes fed that belong to no whole frame yet */
    uint64_t frame_bytes;  /* the current frame with its header */
    size_t payload;        /* of the current frame, if it is data */
    bool control;          /* the current frame is */
    bool in_message;       /* between the fragments of a message */
    bool final;            /* the current frame ends its message */
    const uint8_t *whole;  /* a message that came in one piece, in wslay's buffer */
    size_t whole_len;
    int refused; /* ROOM_E_ code of what this end refuses by itself */
    const char *refused_text;
    bool broken_close; /* a close frame of one byte, which wslay lets pass */
};

/* ---- what wslay calls ---- */

static ssize_t on_want_bytes(wslay_event_context_ptr ctx, uint8_t *to, size_t len, int flags, void *arg)
{
    struct ws *w = arg;
    size_t n = w->left < len ? w->left : len;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(to, w->data, n);
    w->data += n;
    w->left -= n;
    return (ssize_t)n;
}

static ssize_t on_have_bytes(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
    struct ws *w = arg;
    if (!conn_write(w->conn, data, len)) {
        wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return (ssize_t)len;
}

static void refuse(struct ws *w, int code, const char *text)
{
    w->refused = code;
    w->refused_text = text;
    wslay_event_shutdown_read(w->ctx);
}

static void on_frame_start(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *a, void *arg)
{
    struct ws *w = arg;
    size_t length_bytes = a->payload_length < 126 ? 0 : a->payload_length < 65536 ? 2 : 8;
    w->frame_bytes = 2 + length_bytes + 4 + a->payload_length;
    w->control = wslay_is_ctrl_frame(a->opcode);
    if (w->control)
        return;
    w->final = a->fin;
    if (a->payload_length > w->gate->config.max_frame_bytes - w->conn->in.len) {
        refuse(w, ROOM_E_TOO_BIG, "the message is larger than the limit");
        return;
    }
    w->payload = (size_t)a->payload_length;
}

static void on_chunk(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_chunk_arg *a, void *arg)
{
    struct ws *w = arg;
    if (w->control || w->refused || a->data_length == 0 || w->conn->state != CONN_WS)
        return;
    if (w->final && a->data_length == w->payload && w->conn->in.len == 0) {
        w->whole = a->data;
        w->whole_len = a->data_length;
    } else if (!buf_write(&w->conn->in, a->data, a->data_length)) {
        conn_drop(w->conn, "no_memory");
    }
}

static void on_frame_end(wslay_event_context_ptr ctx, void *arg)
{
    struct ws *w = arg;
    w->unaccounted -= w->frame_bytes;
    if (!w->control)
        w->in_message = !w->final;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *a, void *arg)
{
    struct ws *w = arg;
    struct conn *c = w->conn;
    w->broken_close = a->opcode == WSLAY_CONNECTION_CLOSE && a->msg_length == 1;
    if (wslay_is_ctrl_frame(a->opcode) || w->refused || c->state != CONN_WS)
        return;
    enum gate_encoding encoding = a->opcode == WSLAY_TEXT_FRAME ? GATE_JSON : GATE_MSGPACK;
    const uint8_t *data = w->whole ? w->whole : c->in.data;
    size_t len = w->whole ? w->whole_len : c->in.len;
    if (c->encoding_fixed && encoding != c->encoding) {
        refuse(w, ROOM_E_BAD_FRAME, "the message is not of the negotiated subprotocol");
    } else if (len == 0) {
        refuse(w, ROOM_E_BAD_FRAME, "the message is empty");
    } else {
        if (!c->encoding_set)
            c->encoding = encoding;
        c->encoding_set = true;
        conn_frame(c, encoding, data, len);
    }
    w->whole = NULL;
    buf_reset(&c->in);
}

/* ---- parsers, lent and kept ---- */

static void ws_free(struct ws *w)
{
    wslay_event_context_free(w->ctx);
    alloc_put(w->gate->alloc, w, sizeof *w);
}

static struct ws *make(struct gate *g)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_want_bytes,
        .send_callback = on_have_bytes,
        .on_frame_recv_start_callback = on_frame_start,
        .on_frame_recv_chunk_callback = on_chunk,
        .on_frame_recv_end_callback = on_frame_end,
        .on_msg_recv_callback = on_message,
    };
    struct ws *w = alloc_get(g->alloc, sizeof *w);
    if (!w)
        return NULL;
    w->gate = g;
    if (wslay_event_context_server_init(&w->ctx, &callbacks, w) != 0) {
        alloc_put(g->alloc, w, sizeof *w);
        return NULL;
    }
    /* Messages are gathered here, under our allocator and limit; wslay shall neither buffer nor judge their size. */
    wslay_event_config_set_no_buffering(w->ctx, 1);
    wslay_event_config_set_max_recv_msg_length(w->ctx, INT64_MAX);
    return w;
}

static struct ws *borrow(struct conn *c)
{
    struct gate *g = c->gate;
    if (!c->ws && g->ws_spare) {
        c->ws = g->ws_spare;
        g->ws_spare = c->ws->next;
        g->ws_spares--;
    } else if (!c->ws) {
        c->ws = make(g);
    }
    if (c->ws)
        c->ws->conn = c;
    return c->ws;
}

static void give_back_if_idle(struct conn *c)
{
    struct ws *w = c->ws;
    struct gate *g = c->gate;
    if (!w || w->unaccounted || w->in_message || c->state != CONN_WS)
        return;
    c->ws = NULL;
    w->conn = NULL;
    if (g->ws_spares >= MAX_SPARES) {
        ws_free(w);
        return;
    }
    w->next = g->ws_spare;
    g->ws_spare = w;
    g->ws_spares++;
}

void ws_release(struct conn *c)
{
    if (c->ws)
        ws_free(c->ws);
    c->ws = NULL;
}

void ws_free_spares(struct gate *g)
{
    while (g->ws_spare) {
        struct ws *w = g->ws_spare;
        g->ws_spare = w->next;
        ws_free(w);
    }
}

/* ---- reading ---- */

/* What wslay wants to say: pongs, or the close frame that answers the client's or its error. */
static void drain(struct conn *c)
{
    while (c->state == CONN_WS && wslay_event_want_write(c->ws->ctx))
        if (wslay_event_send(c->ws->ctx) != 0)
            break;
    c->close_sent = c->close_sent || wslay_event_get_close_sent(c->ws->ctx);
}

static void write_close(struct conn *c, int code, const char *reason)
{
    uint8_t frame[4 + GATE_REASON_SIZE];
    size_t len = strlen(reason);
    frame[0] = 0x80 | WSLAY_CONNECTION_CLOSE;
    frame[1] = (uint8_t)(2 + len);
    frame[2] = (uint8_t)(code >> 8);
    frame[3] = (uint8_t)code;
    memcpy(frame + 4, reason, len);
    c->close_sent = true;
    conn_write(c, frame, 4 + len);
}

/* wslay found an error. It has a close frame ready with the right code, unless not even the header made sense. */
static void refuse_protocol(struct conn *c, bool has_close)
{
    const char *reason = room_error_name(ROOM_E_BAD_FRAME);
    c->gate->stats.bad_frames++;
    c->gate->handler.refused(c->gate->handler.arg, c->id, ROOM_E_BAD_FRAME, "the message breaks RFC 6455");
    if (c->state == CONN_WS && has_close)
        drain(c);
    else if (c->state == CONN_WS)
        write_close(c, WSLAY_CODE_PROTOCOL_ERROR, reason);
    conn_close(c, reason);
}

/* After some bytes were fed. */
static void settle(struct conn *c, int rc)
{
    struct ws *w = c->ws;
    if (c->state != CONN_WS)
        return;
    if (w->refused) {
        conn_refuse(c, w->refused, w->refused_text);
    } else if (rc == WSLAY_ERR_NOMEM) {
        conn_drop(c, "no_memory");
    } else if (w->broken_close) {
        refuse_protocol(c, false);
    } else if (wslay_event_get_close_received(w->ctx)) {
        drain(c);
        conn_close(c, "client_close");
    } else if (rc != 0 || !wslay_event_get_read_enabled(w->ctx)) {
        refuse_protocol(c, rc == 0);
    } else {
        drain(c);
    }
}

void ws_feed(struct conn *c, const uint8_t *data, size_t len)
{
    while (len > 0 && c->state == CONN_WS) {
        struct ws *w = borrow(c);
        size_t n = len < FEED_BYTES ? len : FEED_BYTES;
        if (!w) {
            conn_drop(c, "no_memory");
            return;
        }
        w->data = data;
        w->left = n;
        w->unaccounted += n;
        settle(c, wslay_event_recv(w->ctx));
        data += n;
        len -= n;
    }
    give_back_if_idle(c);
    conn_release_in(c);
}

/* ---- writing ---- */

size_t ws_header(uint8_t out[WS_HEADER_MAX], enum gate_encoding encoding, size_t len)
{
    size_t n = 2;
    out[0] = 0x80 | (encoding == GATE_JSON ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME);
    if (len < 126) {
        out[1] = (uint8_t)len;
    } else if (len < 65536) {
        out[1] = 126;
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        n = 4;
    } else {
        out[1] = 127;
        for (int i = 0; i < 8; i++)
            out[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        n = 10;
    }
    return n;
}

static int close_code(const char *reason)
{
    static const struct {
        const char *reason;
        int code;
    } table[] = {
        {"too_big", WSLAY_CODE_MESSAGE_TOO_BIG},     {"bad_frame", WSLAY_CODE_UNSUPPORTED_DATA},
        {"shutdown", WSLAY_CODE_GOING_AWAY},         {"draining", WSLAY_CODE_GOING_AWAY},
        {"internal", WSLAY_CODE_INTERNAL_SERVER_ERROR}, {"closed", WSLAY_CODE_NORMAL_CLOSURE},
        {"disconnected", WSLAY_CODE_NORMAL_CLOSURE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].reason, reason) == 0)
            return table[i].code;
    return WSLAY_CODE_POLICY_VIOLATION;
}

void ws_write_close(struct conn *c, const char *reason)
{
    write_close(c, close_code(reason), reason);
}

void ws_write_ping(struct conn *c)
{
    static const uint8_t ping[2] = {0x80 | WSLAY_PING, 0};
    conn_write(c, ping, sizeof ping);
}
