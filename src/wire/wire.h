/*
 * The values that messages are made of, and what can be said of a frame before it is read.
 *
 * Decides: how a borrowed string, a borrowed msgpack value and borrowed bytes look in C. Everything in wire/ works on
 * memory of the caller: it allocates nothing but through the `struct buf` it is given, keeps no state, and may be used
 * from any thread.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* UTF-8, not NUL-terminated, may hold a NUL. data NULL: absent. */
struct wire_str {
    const char *data;
    uint32_t len;
};

/* One whole msgpack value that mp_skip() has accepted. len 0: absent. */
struct wire_raw {
    const uint8_t *data;
    uint32_t len;
};

/* data NULL: absent. */
struct wire_bytes {
    const uint8_t *data;
    uint32_t len;
};

enum {
    WIRE_DEPTH_MAX = 32,  /* arrays and maps inside each other, in a message as a whole */
    WIRE_VALUE_DEPTH = 24 /* in an `any` field: the relay wraps such a value in a few more arrays */
};

/* Borrows `s`, which may be NULL (absent). */
static inline struct wire_str wire_str(const char *s)
{
    return (struct wire_str){s, s ? (uint32_t)strlen(s) : 0};
}

static inline bool wire_str_is(struct wire_str s, const char *word)
{
    return s.data && strlen(word) == s.len && memcmp(s.data, word, s.len) == 0;
}

/* The op of a msgpack frame, positional or a map with "op". -1: not a frame. 0: a map whose "op" is a word nobody knows.
 * A number is returned as it stands, known or not. Looks at no more than it needs; unpacking does the checking. */
int wire_peek_op(const uint8_t *data, size_t len);

/* The word of an op, for example "hello"; NULL if there is none. */
const char *wire_op_name(int op);

#endif
