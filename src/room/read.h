/*
 * Reading the arrays of images and journals: one function per field, which says whether it was there and within bounds.
 * What is read may have been damaged or made up; nothing here allocates.
 */
#ifndef ROOM_READ_H
#define ROOM_READ_H

#include "base/id.h"
#include "base/rng.h"
#include "wire/mp_read.h"

enum { READ_DEPTH = WIRE_VALUE_DEPTH };

/* Room times and wall times: below this nothing overflows when counted in microseconds. */
#define READ_TIME_MAX INT64_C(1000000000000000)

static inline bool read_array(struct mp_read *r, uint32_t *count)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0 || t.type != MP_ARRAY)
        return false;
    *count = t.count;
    return true;
}

static inline bool read_int(struct mp_read *r, int64_t min, int64_t max, int64_t *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0 || t.type != MP_INT || t.i < min || t.i > max)
        return false;
    *out = t.i;
    return true;
}

static inline bool read_uint(struct mp_read *r, uint64_t *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0 || (t.type != MP_UINT && (t.type != MP_INT || t.i < 0)))
        return false;
    *out = t.type == MP_UINT ? t.u : (uint64_t)t.i;
    return true;
}

static inline bool read_bool(struct mp_read *r, bool *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0 || t.type != MP_BOOL)
        return false;
    *out = t.b;
    return true;
}

/* nil gives an empty one where that is allowed. */
static inline bool read_id(struct mp_read *r, bool may_be_nil, struct id *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0)
        return false;
    *out = (struct id){{0}};
    return t.type == MP_NIL ? may_be_nil : t.type == MP_STR && id_set_n(out, (const char *)t.data, t.len);
}

/* One value; nil becomes an absent one. */
static inline bool read_raw(struct mp_read *r, size_t max, struct wire_raw *out)
{
    if (mp_skip(r, READ_DEPTH, out, NULL) != 0 || out->len > max)
        return false;
    if (out->len == 1 && out->data[0] == 0xC0)
        out->len = 0;
    return true;
}

/* All zeroes would be random numbers no more. */
static inline bool read_rng(struct mp_read *r, struct rng *out)
{
    uint32_t count;
    if (!read_array(r, &count) || count != 4)
        return false;
    for (int i = 0; i < 4; i++)
        if (!read_uint(r, &out->s[i]))
            return false;
    return out->s[0] | out->s[1] | out->s[2] | out->s[3];
}

#endif
