/*
 * Writing msgpack into a bounded buffer, through msgpack-c's packer.
 *
 * Decides: nothing but that the shortest form is written. A write that does not fit marks the buffer as failed; check
 * `out->failed` once at the end. Strings are the caller's promise to be UTF-8, raw values to be one valid value.
 */
#ifndef WIRE_MP_WRITE_H
#define WIRE_MP_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/wire.h"

void mp_write_nil(struct buf *out);
void mp_write_bool(struct buf *out, bool value);
void mp_write_int(struct buf *out, int64_t value);
void mp_write_uint(struct buf *out, uint64_t value);
void mp_write_double(struct buf *out, double value);
void mp_write_str(struct buf *out, const char *s, size_t len);
void mp_write_text(struct buf *out, const char *s);
void mp_write_bin(struct buf *out, const void *data, size_t len);
/* Heads; `count` elements or pairs must follow. */
void mp_write_array(struct buf *out, uint32_t count);
void mp_write_map(struct buf *out, uint32_t count);
/* An absent value is written as nil. */
void mp_write_raw(struct buf *out, struct wire_raw value);

#endif
