/*
 * A growing byte buffer with a hard limit.
 *
 * Decides: how a buffer grows (doubling) and that it stops at its limit. After the first failure the buffer is marked
 * `failed`, keeps what it had, and ignores further writes, so that an encoder checks once at its end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max; /* bytes; the buffer never grows past it */
    const struct alloc *alloc;
    bool failed; /* a write did not fit or memory ran out; nothing was written since */
};

/* No memory is taken before the first write. `alloc` is borrowed for the life of the buffer. */
void buf_init(struct buf *b, const struct alloc *alloc, size_t max_bytes);
void buf_deinit(struct buf *b);
/* Empties the buffer and clears `failed`; keeps the memory. */
void buf_reset(struct buf *b);
/* All writers return false (and set `failed`) when the limit is reached or memory runs out. */
bool buf_write(struct buf *b, const void *data, size_t len);
bool buf_byte(struct buf *b, uint8_t byte);
bool buf_text(struct buf *b, const char *s);
bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for `len` more bytes; returns the place to write to, or NULL. buf_added() then says how many were used. */
uint8_t *buf_space(struct buf *b, size_t len);
void buf_added(struct buf *b, size_t len);
/* Drops `len` bytes from the front. */
void buf_consume(struct buf *b, size_t len);

#endif
