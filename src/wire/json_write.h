/*
 * msgpack -> JSON text.
 *
 * Decides: how each msgpack value looks in JSON: bin as {"$bin": "<base64>"}, NaN and infinity as null, a double with
 * no fraction with ".0" (so that it stays a double on its way back). Invariant: the text is one valid JSON value, or
 * nothing was written.
 */
#ifndef WIRE_JSON_WRITE_H
#define WIRE_JSON_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the text of one value. ROOM_E_BAD_FRAME: not msgpack, or an ext value, or a key that is not a string;
 * ROOM_E_TOO_BIG: nested deeper than WIRE_DEPTH_MAX, or `out` is full. On failure `out` keeps what it had before. */
int json_write(const uint8_t *data, size_t len, struct buf *out, struct err_detail *detail) MUST_USE;
/* The pieces; they mark `out` as failed when it is full. The string is UTF-8. */
void json_write_str(struct buf *out, const char *s, size_t len);
void json_write_double(struct buf *out, double value);

#endif
