/*
 * JSON text -> msgpack.
 *
 * Decides: what JSON is accepted from outside (RFC 8259, UTF-8 only, no lone surrogates), and what it becomes: integers
 * beyond 64 bits become doubles, {"$bin": "<base64>"} becomes bin. Own code instead of jansson on the way in, because no
 * message may make a node allocate more than a small multiple of its size, and a tree of JSON nodes is some thirty times
 * its text. Invariant: no allocation but in `out`, which grows by less than 3 bytes per byte of text.
 *
 * Names that occur twice in one object are passed on as they are; codec_unpack() refuses them in a message's own fields.
 */
#ifndef WIRE_JSON_READ_H
#define WIRE_JSON_READ_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends one msgpack value. ROOM_E_BAD_FRAME: not JSON, or something follows it; ROOM_E_TOO_BIG: nested deeper than
 * WIRE_DEPTH_MAX, a number of more than 100 characters, or `out` is full. On failure `out` keeps what it had before. */
int json_read(const char *text, size_t len, struct buf *out, struct err_detail *detail) MUST_USE;

#endif
