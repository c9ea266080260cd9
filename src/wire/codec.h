/*
 * The engine behind wire_gen.h: structs <-> bytes, driven by one table per message.
 *
 * Decides: how a field of each kind is read, checked and written, in msgpack and in JSON. Knows no message by name; the
 * tables come from tools/schemac.py. Invariant: what _pack accepts, _unpack reads back to the same struct; every limit
 * of a schema is enforced in both directions.
 */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum codec_kind {
    CODEC_CONST, /* a fixed word; has no member */
    CODEC_ID,
    CODEC_STR,
    CODEC_INT,
    CODEC_NUMBER,
    CODEC_BOOL,
    CODEC_ENUM,
    CODEC_ANY,
    CODEC_ARRAY, /* as CODEC_ANY, but an array */
    CODEC_BYTES,
    CODEC_STRS
};

struct codec_field {
    const char *name;
    uint8_t name_len;
    uint8_t kind; /* enum codec_kind */
    bool required;
    bool has_flag; /* absence is told by a bool at has_offset */
    uint8_t depth; /* any, array: nesting allowed */
    uint8_t word_count;
    uint16_t offset;
    uint16_t has_offset;
    uint32_t max;      /* string: characters; bytes: bytes, 0 = no limit; array: items */
    uint32_t item_max; /* characters of an item */
    int64_t low;
    int64_t high;
    const char *const *words; /* enum, const */
};

struct codec_message {
    const char *name;
    const char *op_name; /* "" if it is not a frame */
    const struct codec_field *fields;
    size_t size; /* of the struct */
    int op;      /* 0 if it is not a frame */
    uint8_t field_count; /* 32 at most */
};

/* Every message there is, by name. */
extern const struct codec_message *const codec_messages[];
extern const size_t codec_message_count;

/* The message with this op, or NULL. */
const struct codec_message *codec_by_op(int op);

/* As described in wire_gen.h; `m` is the struct of the message. */
int codec_pack(const struct codec_message *t, const void *m, struct buf *out) MUST_USE;
int codec_unpack(const struct codec_message *t, void *m, const uint8_t *data, size_t len, struct err_detail *detail) MUST_USE;
int codec_to_json(const struct codec_message *t, const void *m, struct buf *out) MUST_USE;
int codec_from_json(const struct codec_message *t, void *m, const char *text, size_t len, struct buf *scratch,
                    struct err_detail *detail) MUST_USE;

#endif
