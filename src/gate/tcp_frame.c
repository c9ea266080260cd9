/*
 * TCP framing: a 4-byte big-endian length, then that many bytes.
 *
 * Frames that lie whole in what was read are handed up in place; only an unfinished one is copied. Invariant: `in` holds
 * less than one whole frame between two calls.
 */
#include "gate/state.h"

void tcp_frame_header(uint8_t out[TCP_FRAME_HEADER], size_t len)
{
    out[0] = (uint8_t)(len >> 24);
    out[1] = (uint8_t)(len >> 16);
    out[2] = (uint8_t)(len >> 8);
    out[3] = (uint8_t)len;
}

/* False: the connection was refused. */
static bool body_size(struct conn *c, const uint8_t *header, size_t *out)
{
    size_t len = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
    if (len > c->gate->config.max_frame_bytes) {
        conn_refuse(c, ROOM_E_TOO_BIG, "the frame is larger than the limit");
        return false;
    }
    if (len == 0) {
        conn_refuse(c, ROOM_E_BAD_FRAME, "the frame is empty");
        return false;
    }
    *out = len;
    return true;
}

/* Moves bytes into `in` until it holds `want`; returns how many were taken. */
static size_t fill(struct conn *c, size_t want, const uint8_t *data, size_t len)
{
    size_t take = want > c->in.len ? want - c->in.len : 0;
    if (take > len)
        take = len;
    if (!buf_write(&c->in, data, take))
        conn_drop(c, "no_memory");
    return take;
}

/* Goes on with the frame in `in`; returns how many bytes were taken. */
static size_t finish_partial(struct conn *c, const uint8_t *data, size_t len)
{
    size_t body;
    size_t used = fill(c, TCP_FRAME_HEADER, data, len);
    if (c->state != CONN_TCP || c->in.len < TCP_FRAME_HEADER || !body_size(c, c->in.data, &body))
        return used;
    used += fill(c, TCP_FRAME_HEADER + body, data + used, len - used);
    if (c->state != CONN_TCP || c->in.len < TCP_FRAME_HEADER + body)
        return used;
    conn_frame(c, GATE_MSGPACK, c->in.data + TCP_FRAME_HEADER, body);
    buf_reset(&c->in);
    return used;
}

void tcp_frame_feed(struct conn *c, const uint8_t *data, size_t len)
{
    while (len > 0 && c->state == CONN_TCP) {
        if (c->in.len > 0) {
            size_t used = finish_partial(c, data, len);
            data += used;
            len -= used;
            continue;
        }
        size_t body = 0;
        if (len >= TCP_FRAME_HEADER && !body_size(c, data, &body))
            return;
        if (len < TCP_FRAME_HEADER || len - TCP_FRAME_HEADER < body) {
            fill(c, len, data, len);
            return;
        }
        conn_frame(c, GATE_MSGPACK, data + TCP_FRAME_HEADER, body);
        data += TCP_FRAME_HEADER + body;
        len -= TCP_FRAME_HEADER + body;
    }
    conn_release_in(c);
}
