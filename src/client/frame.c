/*
 * See frame.h. Decides frame borders on a byte stream; must not know sockets. Invariant: a failed frame leaves no byte in
 * the buffer.
 */
#include "client/frame.h"

int frame_next(const uint8_t *data, size_t len, size_t max, size_t *at, const uint8_t **frame, size_t *frame_len)
{
    size_t left = len - *at;
    if (left < FRAME_HEAD)
        return 0;
    const uint8_t *p = data + *at;
    size_t size = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (size > max)
        return ROOM_E_TOO_BIG;
    if (size == 0)
        return ROOM_E_BAD_FRAME;
    if (left - FRAME_HEAD < size)
        return 0;
    *frame = p + FRAME_HEAD;
    *frame_len = size;
    *at += FRAME_HEAD + size;
    return 1;
}

size_t frame_begin(struct buf *out)
{
    size_t begin = out->len;
    buf_write(out, "\0\0\0", FRAME_HEAD);
    return begin;
}

int frame_end(struct buf *out, size_t begin, int rc)
{
    if (rc == ROOM_E_TOO_BIG || (rc == 0 && out->failed))
        rc = ROOM_E_FULL;
    if (rc != 0) {
        out->len = begin;
        out->failed = false;
        return rc;
    }
    size_t size = out->len - begin - FRAME_HEAD;
    uint8_t *p = out->data + begin;
    p[0] = (uint8_t)(size >> 24);
    p[1] = (uint8_t)(size >> 16);
    p[2] = (uint8_t)(size >> 8);
    p[3] = (uint8_t)size;
    return 0;
}
