/* See mp_read.h. */
#include "wire/mp_read.h"

#include <string.h>

#include "wire/utf8.h"

void mp_read_init(struct mp_read *r, const uint8_t *data, size_t len)
{
    r->at = data;
    r->end = data + len;
}

static uint64_t big_endian(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static int truncated(struct err_detail *detail)
{
    return err_set(detail, ROOM_E_BAD_FRAME, "msgpack ends in the middle of a value");
}

/* cc..d3 and ca, cb; `p` is behind the first byte. */
static void number(uint8_t first, const uint8_t *p, struct mp_token *t)
{
    uint64_t v = big_endian(p, first <= 0xCB ? (first == 0xCA ? 4 : 8) : (size_t)1 << (first & 3));
    uint32_t low = (uint32_t)v;
    float f;
    t->type = first <= 0xCB ? MP_FLOAT : MP_INT;
    switch (first) {
    case 0xCA:
        memcpy(&f, &low, sizeof(f));
        t->d = (double)f;
        return;
    case 0xCB:
        memcpy(&t->d, &v, sizeof(v));
        return;
    case 0xD0:
        t->i = (int8_t)v;
        return;
    case 0xD1:
        t->i = (int16_t)v;
        return;
    case 0xD2:
        t->i = (int32_t)v;
        return;
    default: /* unsigned, and d3 */
        if (first != 0xD3 && v > INT64_MAX) {
            t->type = MP_UINT;
            t->u = v;
        } else {
            t->i = (int64_t)v;
        }
    }
}

/* What the first byte says: the type, how many bytes of a number or length follow, and for fix forms the length itself. */
struct head {
    enum mp_type type;
    uint8_t follow; /* bytes of a number or length */
    uint8_t fixed;  /* length or count when `follow` is 0; for fixext the data without the type byte */
};

static bool head_of(uint8_t first, struct head *h)
{
    static const struct head table[32] = {
        [0x00] = {MP_NIL, 0, 0},    [0x02] = {MP_BOOL, 0, 0},   [0x03] = {MP_BOOL, 0, 1},
        [0x04] = {MP_BIN, 1, 0},    [0x05] = {MP_BIN, 2, 0},    [0x06] = {MP_BIN, 4, 0},
        [0x07] = {MP_EXT, 1, 0},    [0x08] = {MP_EXT, 2, 0},    [0x09] = {MP_EXT, 4, 0},
        [0x0A] = {MP_FLOAT, 4, 0},  [0x0B] = {MP_FLOAT, 8, 0},  [0x0C] = {MP_INT, 1, 0},
        [0x0D] = {MP_INT, 2, 0},    [0x0E] = {MP_INT, 4, 0},    [0x0F] = {MP_INT, 8, 0},
        [0x10] = {MP_INT, 1, 0},    [0x11] = {MP_INT, 2, 0},    [0x12] = {MP_INT, 4, 0},
        [0x13] = {MP_INT, 8, 0},    [0x14] = {MP_EXT, 0, 1},    [0x15] = {MP_EXT, 0, 2},
        [0x16] = {MP_EXT, 0, 4},    [0x17] = {MP_EXT, 0, 8},    [0x18] = {MP_EXT, 0, 16},
        [0x19] = {MP_STR, 1, 0},    [0x1A] = {MP_STR, 2, 0},    [0x1B] = {MP_STR, 4, 0},
        [0x1C] = {MP_ARRAY, 2, 0},  [0x1D] = {MP_ARRAY, 4, 0},  [0x1E] = {MP_MAP, 2, 0},
        [0x1F] = {MP_MAP, 4, 0},
    };
    if (first == 0xC1)
        return false;
    if (first < 0x80 || first >= 0xE0)
        *h = (struct head){MP_INT, 0, 0};
    else if (first < 0x90)
        *h = (struct head){MP_MAP, 0, first & 15};
    else if (first < 0xA0)
        *h = (struct head){MP_ARRAY, 0, first & 15};
    else if (first < 0xC0)
        *h = (struct head){MP_STR, 0, first & 31};
    else
        *h = table[first - 0xC0];
    return true;
}

/* str, bin and ext: the bytes; array and map: the count against what is left (one byte per element at least). */
static int body(struct mp_token *t, const uint8_t **at, const uint8_t *end, uint64_t size, struct err_detail *detail)
{
    size_t left = (size_t)(end - *at);
    if (t->type == MP_ARRAY || t->type == MP_MAP) {
        if (size * (t->type == MP_MAP ? 2 : 1) > left)
            return err_set(detail, ROOM_E_BAD_FRAME, "msgpack announces %llu elements, but only %zu bytes are left",
                           (unsigned long long)size, left);
        t->count = (uint32_t)size;
        return 0;
    }
    uint64_t need = size + (t->type == MP_EXT ? 1 : 0);
    if (need > left)
        return truncated(detail);
    if (t->type == MP_STR && !utf8_check((const char *)*at, (size_t)size, NULL))
        return err_set(detail, ROOM_E_BAD_FRAME, "a msgpack string is not UTF-8");
    t->data = *at + (need - size);
    t->len = (uint32_t)size;
    *at += need;
    return 0;
}

int mp_next(struct mp_read *r, struct mp_token *out, struct err_detail *detail)
{
    const uint8_t *at = r->at;
    struct mp_token t;
    struct head h;
    int rc = 0;
    if (at == r->end)
        return truncated(detail);
    uint8_t first = *at++;
    if (!head_of(first, &h))
        return err_set(detail, ROOM_E_BAD_FRAME, "byte c1 is no msgpack");
    if ((size_t)(r->end - at) < h.follow)
        return truncated(detail);
    t.type = h.type;
    if (h.type == MP_BOOL) {
        t.b = h.fixed;
    } else if (h.type == MP_INT && h.follow == 0) {
        t.i = (int8_t)first;
    } else if (h.type == MP_INT || h.type == MP_FLOAT) {
        number(first, at, &t);
        at += h.follow;
    } else if (h.type != MP_NIL) {
        uint64_t size = h.follow ? big_endian(at, h.follow) : h.fixed;
        at += h.follow;
        rc = body(&t, &at, r->end, size, detail);
    }
    if (rc == 0) {
        r->at = at;
        *out = t;
    }
    return rc;
}

/* One open array or map: how many values are still to come, and whether every other one is a key. */
struct open {
    uint64_t left;
    bool map;
};

static int refuse_unsayable(const struct mp_token *t, bool key, struct err_detail *detail)
{
    if (t->type == MP_EXT)
        return err_set(detail, ROOM_E_BAD_FRAME, "msgpack ext values are not accepted");
    if (key && t->type != MP_STR)
        return err_set(detail, ROOM_E_BAD_FRAME, "a map key is not a string");
    return 0;
}

int mp_skip(struct mp_read *r, int depth, struct wire_raw *out, struct err_detail *detail)
{
    struct open stack[WIRE_DEPTH_MAX];
    struct mp_read in = *r;
    int level = 0;
    do {
        struct mp_token t;
        bool key = level > 0 && stack[level - 1].map && stack[level - 1].left % 2 == 0;
        int rc = mp_next(&in, &t, detail);
        if (rc == 0)
            rc = refuse_unsayable(&t, key, detail);
        if (rc)
            return rc;
        if (level > 0)
            stack[level - 1].left--;
        if (t.type == MP_ARRAY || t.type == MP_MAP) {
            if (level >= depth || level >= WIRE_DEPTH_MAX)
                return err_set(detail, ROOM_E_TOO_BIG, "values are nested deeper than %d", depth);
            bool map = t.type == MP_MAP;
            stack[level++] = (struct open){map ? (uint64_t)t.count * 2 : t.count, map};
        }
        while (level > 0 && stack[level - 1].left == 0)
            level--;
    } while (level > 0);
    if ((size_t)(in.at - r->at) > UINT32_MAX)
        return err_set(detail, ROOM_E_TOO_BIG, "a value is larger than 4 GiB");
    *out = (struct wire_raw){r->at, (uint32_t)(in.at - r->at)};
    r->at = in.at;
    return 0;
}

int mp_check(const uint8_t *data, size_t len, int depth, struct err_detail *detail)
{
    struct mp_read r;
    struct wire_raw whole;
    mp_read_init(&r, data, len);
    int rc = mp_skip(&r, depth, &whole, detail);
    if (rc == 0 && r.at != r.end)
        rc = err_set(detail, ROOM_E_BAD_FRAME, "%zu bytes follow the message", (size_t)(r.end - r.at));
    return rc;
}
