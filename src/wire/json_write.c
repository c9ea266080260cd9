/* See json_write.h. */
#include "wire/json_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "wire/mp_read.h"
#include "wire/wire.h"

void json_write_str(struct buf *out, const char *s, size_t len)
{
    size_t plain = 0;
    buf_byte(out, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_write(out, s + plain, i - plain);
        plain = i + 1;
        if (c >= 0x20)
            buf_printf(out, "\\%c", c);
        else if (c == '\n')
            buf_text(out, "\\n");
        else
            buf_printf(out, "\\u%04x", c);
    }
    buf_write(out, s + plain, len - plain);
    buf_byte(out, '"');
}

void json_write_double(struct buf *out, double value)
{
    char text[40];
    if (!isfinite(value)) {
        buf_text(out, "null");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    /* Whatever the locale writes as decimal point becomes one. */
    bool whole = true;
    size_t n = 0;
    for (const char *s = text; *s; s++) {
        bool part = (*s >= '0' && *s <= '9') || *s == '-' || *s == '+' || *s == 'e';
        if (*s == 'e')
            whole = false;
        if (part)
            text[n++] = *s;
        else if (whole)
            text[n++] = '.';
        whole = whole && part;
    }
    buf_write(out, text, n);
    if (whole)
        buf_text(out, ".0");
}

static void write_bin(struct buf *out, const uint8_t *data, size_t len)
{
    buf_text(out, "{\"$bin\":\"");
    base64_encode(data, len, out);
    buf_text(out, "\"}");
}

static int scalar(const struct mp_token *t, struct buf *out, struct err_detail *detail)
{
    switch (t->type) {
    case MP_NIL:
        buf_text(out, "null");
        return 0;
    case MP_BOOL:
        buf_text(out, t->b ? "true" : "false");
        return 0;
    case MP_INT:
        buf_printf(out, "%" PRId64, t->i);
        return 0;
    case MP_UINT:
        buf_printf(out, "%" PRIu64, t->u);
        return 0;
    case MP_FLOAT:
        json_write_double(out, t->d);
        return 0;
    case MP_STR:
        json_write_str(out, (const char *)t->data, t->len);
        return 0;
    case MP_BIN:
        write_bin(out, t->data, t->len);
        return 0;
    default:
        return err_set(detail, ROOM_E_BAD_FRAME, "a msgpack ext value has no json form");
    }
}

struct level {
    uint64_t left; /* values still to come; in a map names count too */
    bool map;
    bool first;
};

/* What stands before the next value: a comma, or the colon behind a name. */
static void separate(struct level *l, struct buf *out)
{
    if (l->map && l->left % 2 == 1)
        buf_byte(out, ':');
    else if (!l->first)
        buf_byte(out, ',');
    l->first = false;
    l->left--;
}

static int values(struct mp_read *r, struct buf *out, struct err_detail *detail)
{
    struct level stack[WIRE_DEPTH_MAX];
    int depth = 0;
    do {
        struct mp_token t;
        int rc = mp_next(r, &t, detail);
        if (rc)
            return rc;
        struct level *l = depth > 0 ? &stack[depth - 1] : NULL;
        if (l && l->map && l->left % 2 == 0 && t.type != MP_STR)
            return err_set(detail, ROOM_E_BAD_FRAME, "a map key is not a string");
        if (l)
            separate(l, out);
        if (t.type == MP_ARRAY || t.type == MP_MAP) {
            bool map = t.type == MP_MAP;
            if (depth == WIRE_DEPTH_MAX)
                return err_set(detail, ROOM_E_TOO_BIG, "values are nested deeper than %d", WIRE_DEPTH_MAX);
            stack[depth++] = (struct level){map ? (uint64_t)t.count * 2 : t.count, map, true};
            buf_byte(out, map ? '{' : '[');
        } else if ((rc = scalar(&t, out, detail)) != 0) {
            return rc;
        }
        while (depth > 0 && stack[depth - 1].left == 0)
            buf_byte(out, stack[--depth].map ? '}' : ']');
    } while (depth > 0 && !out->failed);
    return 0;
}

int json_write(const uint8_t *data, size_t len, struct buf *out, struct err_detail *detail)
{
    struct mp_read r;
    size_t before = out->len;
    mp_read_init(&r, data, len);
    int rc = values(&r, out, detail);
    if (rc == 0 && out->failed)
        rc = err_set(detail, ROOM_E_TOO_BIG, "json: no room for the text (limit %zu bytes)", out->max);
    if (rc == 0 && r.at != r.end)
        rc = err_set(detail, ROOM_E_BAD_FRAME, "%zu bytes follow the value", (size_t)(r.end - r.at));
    if (rc)
        out->len = before;
    return rc;
}
