/*
 * The writing half of codec.h: struct -> msgpack, struct -> JSON.
 *
 * Invariant: a struct is checked against every limit of its schema before the first byte, so that nothing is sent that
 * the other side would refuse.
 */
#include "wire/codec.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/id.h"
#include "base/base64.h"
#include "wire/json_write.h"
#include "wire/mp_write.h"
#include "wire/utf8.h"
#include "wire/wire.h"

struct strs {
    uint32_t count;
    struct wire_str items[];
};

static bool present(const struct codec_field *f, const uint8_t *m)
{
    const void *at = m + f->offset;
    switch (f->kind) {
    case CODEC_ID:
        return ((const struct id *)at)->s[0] != 0;
    case CODEC_STR:
        return ((const struct wire_str *)at)->data != NULL;
    case CODEC_ENUM:
        return *(const int *)at != 0;
    case CODEC_ANY:
    case CODEC_ARRAY:
        return ((const struct wire_raw *)at)->len != 0;
    case CODEC_BYTES:
        return ((const struct wire_bytes *)at)->data != NULL;
    case CODEC_STRS:
        return f->required || ((const struct strs *)at)->count != 0;
    case CODEC_BOOL:
        return f->required || *(const bool *)at;
    default: /* CODEC_CONST, CODEC_INT, CODEC_NUMBER */
        return !f->has_flag || *(const bool *)(m + f->has_offset);
    }
}

static bool text_ok(struct wire_str s, uint32_t max_chars)
{
    size_t chars;
    return s.data && utf8_check(s.data, s.len, &chars) && chars <= max_chars;
}

static bool value_ok(const struct codec_field *f, const uint8_t *m)
{
    const void *at = m + f->offset;
    double number;
    switch (f->kind) {
    case CODEC_ID:
        return id_valid(((const struct id *)at)->s);
    case CODEC_STR:
        return text_ok(*(const struct wire_str *)at, f->max);
    case CODEC_INT:
        return *(const int64_t *)at >= f->low && *(const int64_t *)at <= f->high;
    case CODEC_NUMBER:
        number = *(const double *)at;
        return isfinite(number) && (f->low == INT64_MIN || number >= (double)f->low) &&
               (f->high == INT64_MAX || number <= (double)f->high);
    case CODEC_ENUM:
        return *(const int *)at > 0 && *(const int *)at <= f->word_count;
    case CODEC_BYTES:
        return f->max == 0 || ((const struct wire_bytes *)at)->len <= f->max;
    case CODEC_STRS:
        if (((const struct strs *)at)->count > f->max)
            return false;
        for (uint32_t i = 0; i < ((const struct strs *)at)->count; i++)
            if (!text_ok(((const struct strs *)at)->items[i], f->item_max))
                return false;
        return true;
    default: /* CODEC_CONST, CODEC_BOOL; raw values are the caller's promise */
        return true;
    }
}

static int check(const struct codec_message *t, const uint8_t *m)
{
    for (int i = 0; i < t->field_count; i++) {
        const struct codec_field *f = &t->fields[i];
        bool there = present(f, m);
        if (there ? !value_ok(f, m) : f->required)
            return ROOM_E_INVALID;
    }
    return 0;
}

static void pack_field(const struct codec_field *f, const uint8_t *m, struct buf *out)
{
    const void *at = m + f->offset;
    const struct wire_str *s = at;
    const struct strs *list = at;
    const struct wire_bytes *bytes = at;
    switch (f->kind) {
    case CODEC_CONST:
        mp_write_text(out, f->words[0]);
        return;
    case CODEC_ID:
        mp_write_text(out, ((const struct id *)at)->s);
        return;
    case CODEC_STR:
        mp_write_str(out, s->data, s->len);
        return;
    case CODEC_INT:
        mp_write_int(out, *(const int64_t *)at);
        return;
    case CODEC_NUMBER:
        mp_write_double(out, *(const double *)at);
        return;
    case CODEC_BOOL:
        mp_write_bool(out, *(const bool *)at);
        return;
    case CODEC_ENUM:
        mp_write_text(out, f->words[*(const int *)at - 1]);
        return;
    case CODEC_BYTES:
        mp_write_bin(out, bytes->data, bytes->len);
        return;
    case CODEC_STRS:
        mp_write_array(out, list->count);
        for (uint32_t i = 0; i < list->count; i++)
            mp_write_str(out, list->items[i].data, list->items[i].len);
        return;
    default: /* CODEC_ANY, CODEC_ARRAY */
        mp_write_raw(out, *(const struct wire_raw *)at);
    }
}

static int finish(struct buf *out, size_t before, int rc)
{
    if (rc == 0 && out->failed)
        rc = ROOM_E_TOO_BIG;
    if (rc)
        out->len = before;
    return rc;
}

int codec_pack(const struct codec_message *t, const void *m, struct buf *out)
{
    size_t before = out->len;
    int rc = check(t, m);
    if (rc)
        return rc;
    mp_write_array(out, (uint32_t)t->field_count + (t->op ? 1 : 0));
    if (t->op)
        mp_write_int(out, t->op);
    for (int i = 0; i < t->field_count; i++) {
        if (present(&t->fields[i], m))
            pack_field(&t->fields[i], m, out);
        else
            mp_write_nil(out);
    }
    return finish(out, before, 0);
}

static int json_field(const struct codec_field *f, const uint8_t *m, struct buf *out)
{
    const void *at = m + f->offset;
    const struct wire_str *s = at;
    const struct strs *list = at;
    const struct wire_raw *raw = at;
    const struct wire_bytes *bytes = at;
    const char *word = f->kind == CODEC_CONST ? f->words[0] : f->kind == CODEC_ENUM ? f->words[*(const int *)at - 1] : at;
    switch (f->kind) {
    case CODEC_CONST:
    case CODEC_ENUM:
    case CODEC_ID:
        json_write_str(out, word, strlen(word));
        return 0;
    case CODEC_STR:
        json_write_str(out, s->data, s->len);
        return 0;
    case CODEC_INT:
        buf_printf(out, "%" PRId64, *(const int64_t *)at);
        return 0;
    case CODEC_NUMBER:
        json_write_double(out, *(const double *)at);
        return 0;
    case CODEC_BOOL:
        buf_text(out, *(const bool *)at ? "true" : "false");
        return 0;
    case CODEC_BYTES:
        buf_text(out, "{\"$bin\":\"");
        base64_encode(bytes->data, bytes->len, out);
        buf_text(out, "\"}");
        return 0;
    case CODEC_STRS:
        buf_byte(out, '[');
        for (uint32_t i = 0; i < list->count; i++) {
            buf_text(out, i ? "," : "");
            json_write_str(out, list->items[i].data, list->items[i].len);
        }
        buf_byte(out, ']');
        return 0;
    default: /* CODEC_ANY, CODEC_ARRAY */
        return json_write(raw->data, raw->len, out, NULL);
    }
}

int codec_to_json(const struct codec_message *t, const void *m, struct buf *out)
{
    size_t before = out->len;
    int rc = check(t, m);
    if (rc)
        return rc;
    buf_byte(out, '{');
    if (t->op) {
        buf_text(out, "\"op\":");
        json_write_str(out, t->op_name, strlen(t->op_name));
    }
    bool first = t->op == 0;
    for (int i = 0; rc == 0 && i < t->field_count; i++) {
        const struct codec_field *f = &t->fields[i];
        if (!present(f, m))
            continue;
        buf_text(out, first ? "" : ",");
        first = false;
        json_write_str(out, f->name, f->name_len);
        buf_byte(out, ':');
        rc = json_field(f, m, out);
    }
    buf_byte(out, '}');
    return finish(out, before, rc);
}
