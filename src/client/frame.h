/*
 * Frames on a TCP stream: a 4-byte big-endian length, then that many bytes.
 *
 * Decides: where a frame begins and ends. Knows neither sockets nor what is in a frame. Invariant: a length above the
 * limit is refused as soon as its four bytes are there, before anything is stored for it.
 */
#ifndef CLIENT_FRAME_H
#define CLIENT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { FRAME_HEAD = 4 };

/* The frame at `*at`, borrowed from `data`; moves `*at` behind it. 1: there is one, 0: not yet whole,
 * ROOM_E_TOO_BIG: longer than `max`, ROOM_E_BAD_FRAME: empty. */
int frame_next(const uint8_t *data, size_t len, size_t max, size_t *at, const uint8_t **frame, size_t *frame_len) MUST_USE;

/* Reserves the length; returns where the frame began, to be handed to frame_end(). */
size_t frame_begin(struct buf *out);
/* Writes the length. If `rc` is a failure, or the buffer failed, the buffer is as it was at frame_begin() and the code is
 * returned: `rc`, or ROOM_E_FULL if it did not fit. */
int frame_end(struct buf *out, size_t begin, int rc) MUST_USE;

#endif
