/*
 * A bounded msgpack reader.
 *
 * Decides: what msgpack is accepted from outside. msgpack-c's unpacker is not used for that, because five bytes
 * (dd ff ff ff ff) make it ask for 128 GiB. Invariant: no allocation; every count is checked against the bytes that
 * are left, nesting against a limit.
 */
#ifndef WIRE_MP_READ_H
#define WIRE_MP_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/wire.h"

enum mp_type { MP_NIL, MP_BOOL, MP_INT, MP_UINT, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT };

struct mp_token {
    enum mp_type type;
    union {
        bool b;
        int64_t i;  /* MP_INT: every integer that fits */
        uint64_t u; /* MP_UINT: only what is above INT64_MAX */
        double d;
        uint32_t count; /* MP_ARRAY: elements, MP_MAP: pairs */
        struct {
            const uint8_t *data; /* borrowed from the input */
            uint32_t len;
        };
    };
};

struct mp_read {
    const uint8_t *at;
    const uint8_t *end;
};

void mp_read_init(struct mp_read *r, const uint8_t *data, size_t len);
/* Reads a scalar or the head of an array or map. ROOM_E_BAD_FRAME: truncated, byte c1, a count larger than what is left,
 * a str that is not UTF-8. Nothing is consumed on failure. */
int mp_next(struct mp_read *r, struct mp_token *out, struct err_detail *detail) MUST_USE;
/* Reads one whole value and borrows its bytes. Besides what mp_next() refuses: nesting above `depth` (<= WIRE_DEPTH_MAX;
 * ROOM_E_TOO_BIG), ext values and keys that are not strings - what JSON cannot say is refused at the door, so that
 * whatever was accepted can always be told to a JSON client. */
int mp_skip(struct mp_read *r, int depth, struct wire_raw *out, struct err_detail *detail) MUST_USE;
/* The same for a whole message of one value: nothing may follow it. */
int mp_check(const uint8_t *data, size_t len, int depth, struct err_detail *detail) MUST_USE;

#endif
