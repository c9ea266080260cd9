/* See codec.h. */
#include "wire/codec.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/id.h"
#include "base/base64.h"
#include "wire/json_read.h"
#include "wire/json_write.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/utf8.h"
#include "wire/wire.h"

/* The shape of every array of strings, whatever its bound. */
struct strs {
    uint32_t count;
    struct wire_str items[];
};

static bool fits(struct wire_str s, uint32_t max_chars)
{
    size_t chars;
    if (s.len <= max_chars)
        return true;
    return s.len <= (uint64_t)max_chars * 4 && utf8_check(s.data, s.len, &chars) && chars <= max_chars;
}

/* How a message is called in a text for its sender. */
static const char *called(const struct codec_message *t)
{
    return t->op ? t->op_name : t->name;
}

static int bad(const struct codec_message *t, const struct codec_field *f, struct err_detail *d, const char *problem)
{
    return err_set(d, ROOM_E_BAD_FRAME, "%s: field '%s' %s", called(t), f->name, problem);
}

static int big(const struct codec_message *t, const struct codec_field *f, struct err_detail *d, uint32_t max,
               const char *unit)
{
    return err_set(d, ROOM_E_TOO_BIG, "%s: field '%s' has more than %u %s", called(t), f->name, max, unit);
}

/* ---- msgpack -> struct ---- */

static int read_integer(const struct codec_message *t, const struct codec_field *f, const struct mp_token *v,
                        int64_t *out, struct err_detail *d)
{
    int64_t i = v->i;
    /* Languages with one number type may send 3 as 3.0; within 2^53 nothing is lost. */
    if (v->type == MP_FLOAT && v->d >= -0x1p53 && v->d <= 0x1p53 && v->d == floor(v->d))
        i = (int64_t)v->d;
    else if (v->type != MP_INT)
        return bad(t, f, d, "is not an integer of 64 bits");
    if (i < f->low || i > f->high)
        return err_set(d, ROOM_E_BAD_FRAME, "%s: field '%s' is %" PRId64 ", allowed is %" PRId64 " to %" PRId64,
                       called(t), f->name, i, f->low, f->high);
    *out = i;
    return 0;
}

static bool number_ok(const struct codec_field *f, double v)
{
    return isfinite(v) && (f->low == INT64_MIN || v >= (double)f->low) &&
           (f->high == INT64_MAX || v <= (double)f->high);
}

static int read_number(const struct codec_message *t, const struct codec_field *f, const struct mp_token *v,
                       double *out, struct err_detail *d)
{
    double x = v->type == MP_FLOAT ? v->d : v->type == MP_INT ? (double)v->i : v->type == MP_UINT ? (double)v->u : NAN;
    if (!number_ok(f, x))
        return bad(t, f, d, "is not a number within its limits");
    *out = x;
    return 0;
}

static int read_word(const struct codec_message *t, const struct codec_field *f, const struct mp_token *v, int *out,
                     struct err_detail *d)
{
    for (int i = 0; v->type == MP_STR && i < f->word_count; i++) {
        if (strlen(f->words[i]) == v->len && memcmp(f->words[i], v->data, v->len) == 0) {
            *out = i + 1;
            return 0;
        }
    }
    return bad(t, f, d, "is not one of its words");
}

static int read_strs(const struct codec_message *t, const struct codec_field *f, struct mp_read *r, uint32_t count,
                     struct strs *out, struct err_detail *d)
{
    if (count > f->max)
        return big(t, f, d, f->max, "items");
    for (uint32_t i = 0; i < count; i++) {
        struct mp_token v;
        int rc = mp_next(r, &v, d);
        if (rc)
            return rc;
        if (v.type != MP_STR)
            return bad(t, f, d, "has an item that is not a string");
        out->items[i] = (struct wire_str){(const char *)v.data, v.len};
        if (!fits(out->items[i], f->item_max))
            return big(t, f, d, f->item_max, "characters in an item");
    }
    out->count = count;
    return 0;
}

static int read_raw(const struct codec_message *t, const struct codec_field *f, struct mp_read *r, struct wire_raw *out,
                    struct err_detail *d)
{
    struct err_detail inner = {{0}};
    uint8_t first = *r->at;
    if (f->kind == CODEC_ARRAY && !(first >= 0x90 && first <= 0x9F) && first != 0xDC && first != 0xDD)
        return bad(t, f, d, "is not an array");
    int rc = mp_skip(r, f->depth, out, &inner);
    if (rc)
        err_set(d, rc, "%s: field '%s': %s", called(t), f->name, inner.text);
    return rc;
}

static int read_scalar(const struct codec_message *t, const struct codec_field *f, struct mp_read *r, void *to,
                       struct err_detail *d)
{
    struct mp_token v;
    int word;
    int rc = mp_next(r, &v, d);
    if (rc)
        return rc;
    struct wire_str s = {v.type == MP_STR ? (const char *)v.data : NULL, v.type == MP_STR ? v.len : 0};
    switch (f->kind) {
    case CODEC_CONST:
        return read_word(t, f, &v, &word, d);
    case CODEC_ENUM:
        return read_word(t, f, &v, to, d);
    case CODEC_ID:
        if (s.data && id_set_n(to, s.data, s.len))
            return 0;
        return bad(t, f, d, "is not an id ([A-Za-z0-9_-], 1 to 64, not 'all')");
    case CODEC_STR:
        if (!s.data)
            return bad(t, f, d, "is not a string");
        *(struct wire_str *)to = s;
        return fits(s, f->max) ? 0 : big(t, f, d, f->max, "characters");
    case CODEC_INT:
        return read_integer(t, f, &v, to, d);
    case CODEC_NUMBER:
        return read_number(t, f, &v, to, d);
    case CODEC_BOOL:
        *(bool *)to = v.type == MP_BOOL && v.b;
        return v.type == MP_BOOL ? 0 : bad(t, f, d, "is not a boolean");
    case CODEC_BYTES:
        if (v.type != MP_BIN)
            return bad(t, f, d, "is not bytes");
        *(struct wire_bytes *)to = (struct wire_bytes){v.data, v.len};
        return f->max == 0 || v.len <= f->max ? 0 : big(t, f, d, f->max, "bytes");
    default: /* CODEC_STRS */
        return v.type == MP_ARRAY ? read_strs(t, f, r, v.count, to, d) : bad(t, f, d, "is not an array");
    }
}

/* One value. nil is "absent", except where any value is required: there it is a value. `*present` says which. */
static int read_field(const struct codec_message *t, const struct codec_field *f, uint8_t *m, struct mp_read *r,
                      bool *present, struct err_detail *d)
{
    bool any = f->kind == CODEC_ANY || f->kind == CODEC_ARRAY;
    *present = false;
    if (r->at < r->end && *r->at == 0xC0 && !(f->kind == CODEC_ANY && f->required)) {
        r->at++;
        return 0;
    }
    if (r->at == r->end)
        return bad(t, f, d, "is cut off");
    int rc = any ? read_raw(t, f, r, (struct wire_raw *)(m + f->offset), d) : read_scalar(t, f, r, m + f->offset, d);
    if (rc == 0 && f->has_flag)
        *(bool *)(m + f->has_offset) = true;
    *present = rc == 0;
    return rc;
}

static int skip_value(struct mp_read *r, struct err_detail *d)
{
    struct wire_raw ignored;
    return mp_skip(r, WIRE_DEPTH_MAX - 1, &ignored, d);
}

static int check_op(const struct codec_message *t, int64_t op, struct err_detail *d)
{
    if (op == t->op)
        return 0;
    const char *name = op > 0 && op < INT32_MAX ? wire_op_name((int)op) : NULL;
    if (!name)
        return err_set(d, ROOM_E_UNKNOWN_OP, "op %" PRId64 " is unknown", op);
    return err_set(d, ROOM_E_BAD_FRAME, "op is '%s' where '%s' was expected", name, t->op_name);
}

static int read_array(const struct codec_message *t, uint8_t *m, struct mp_read *r, uint32_t count, uint32_t *seen,
                      struct err_detail *d)
{
    struct mp_token op;
    int rc = 0;
    if (t->op) {
        if (count == 0)
            return err_set(d, ROOM_E_BAD_FRAME, "the frame is empty");
        rc = mp_next(r, &op, d);
        if (rc == 0)
            rc = op.type == MP_INT ? check_op(t, op.i, d) : err_set(d, ROOM_E_BAD_FRAME, "op is not a number");
        count--;
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        bool present = false;
        rc = i < t->field_count ? read_field(t, &t->fields[i], m, r, &present, d) : skip_value(r, d);
        *seen |= present ? (uint32_t)1 << i : 0;
    }
    return rc;
}

static int read_member(const struct codec_message *t, uint8_t *m, struct mp_read *r, struct mp_token name,
                       uint32_t *seen, struct err_detail *d)
{
    for (uint32_t i = 0; i < t->field_count; i++) {
        const struct codec_field *f = &t->fields[i];
        bool present;
        if (f->name_len != name.len || memcmp(f->name, name.data, name.len) != 0)
            continue;
        if (*seen & ((uint32_t)1 << i))
            return bad(t, f, d, "occurs twice");
        int rc = read_field(t, f, m, r, &present, d);
        *seen |= present ? (uint32_t)1 << i : 0;
        return rc;
    }
    return skip_value(r, d);
}

static int read_map(const struct codec_message *t, uint8_t *m, struct mp_read *r, uint32_t count, uint32_t *seen,
                    struct err_detail *d)
{
    bool op_seen = t->op == 0;
    for (uint32_t i = 0; i < count; i++) {
        struct mp_token name, op;
        int rc = mp_next(r, &name, d);
        if (rc == 0 && name.type != MP_STR)
            rc = err_set(d, ROOM_E_BAD_FRAME, "a map key is not a string");
        if (rc == 0 && t->op && name.len == 2 && memcmp(name.data, "op", 2) == 0) {
            rc = mp_next(r, &op, d);
            if (rc == 0 && op.type != MP_STR)
                rc = err_set(d, ROOM_E_BAD_FRAME, "op is not a word");
            if (rc == 0 && (op.len != strlen(t->op_name) || memcmp(op.data, t->op_name, op.len) != 0))
                rc = err_set(d, ROOM_E_UNKNOWN_OP, "op is '%.*s' where '%s' was expected",
                             op.len < 64 ? (int)op.len : 64, (const char *)op.data, t->op_name);
            op_seen = true;
        } else if (rc == 0) {
            rc = read_member(t, m, r, name, seen, d);
        }
        if (rc)
            return rc;
    }
    return op_seen ? 0 : err_set(d, ROOM_E_BAD_FRAME, "the frame has no op");
}

int codec_unpack(const struct codec_message *t, void *m, const uint8_t *data, size_t len, struct err_detail *detail)
{
    struct mp_read r;
    struct mp_token head;
    uint32_t seen = 0;
    memset(m, 0, t->size);
    mp_read_init(&r, data, len);
    int rc = mp_next(&r, &head, detail);
    if (rc == 0 && head.type == MP_ARRAY)
        rc = read_array(t, m, &r, head.count, &seen, detail);
    else if (rc == 0 && head.type == MP_MAP)
        rc = read_map(t, m, &r, head.count, &seen, detail);
    else if (rc == 0)
        rc = err_set(detail, ROOM_E_BAD_FRAME, "%s: neither an array nor a map", t->name);
    if (rc == 0 && r.at != r.end)
        rc = err_set(detail, ROOM_E_BAD_FRAME, "%s: %zu bytes follow the message", t->name, (size_t)(r.end - r.at));
    for (uint32_t i = 0; rc == 0 && i < t->field_count; i++)
        if (t->fields[i].required && !(seen & ((uint32_t)1 << i)))
            rc = bad(t, &t->fields[i], detail, "is missing");
    if (rc)
        memset(m, 0, t->size);
    return rc;
}

int codec_from_json(const struct codec_message *t, void *m, const char *text, size_t len, struct buf *scratch,
                    struct err_detail *detail)
{
    buf_reset(scratch);
    memset(m, 0, t->size);
    int rc = json_read(text, len, scratch, detail);
    return rc ? rc : codec_unpack(t, m, scratch->data, scratch->len, detail);
}
