/* See json_read.h. */
#include "wire/json_read.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/utf8.h"
#include "wire/wire.h"

enum { NUMBER_MAX = 100, HEAD_SIZE = 5 };

struct level {
    size_t head; /* where the head is in `out`; its count is patched at the end */
    uint32_t count;
    bool map;
};

struct json {
    const char *start;
    const char *at;
    const char *end;
    struct buf *out;
    struct err_detail *detail;
    int depth;
    struct level stack[WIRE_DEPTH_MAX];
};

static int refuse(struct json *j, const char *problem)
{
    return err_set(j->detail, ROOM_E_BAD_FRAME, "json: %s at byte %zu", problem, (size_t)(j->at - j->start));
}

static void skip_space(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
        j->at++;
}

static bool next_is(struct json *j, char c)
{
    skip_space(j);
    if (j->at == j->end || *j->at != c)
        return false;
    j->at++;
    return true;
}

static bool hex4(const char *s, const char *end, unsigned *out)
{
    unsigned v = 0;
    if (end - s < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v << 4 | (unsigned)((c | 32) - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

/* `s` is behind a backslash. Writes the character it stands for and moves `s` on; false: no such escape. */
static bool escape(const char **s, const char *end, char out[4], size_t *len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned code, low;
    if (*s == end)
        return false;
    const char *simple = **s ? strchr(from, **s) : NULL;
    if (simple) {
        out[0] = to[simple - from];
        *len = 1;
        *s += 1;
        return true;
    }
    if (**s != 'u' || !hex4(*s + 1, end, &code))
        return false;
    *s += 5;
    if (code >= 0xD800 && code <= 0xDFFF) {
        bool pair = code < 0xDC00 && end - *s >= 6 && (*s)[0] == '\\' && (*s)[1] == 'u' && hex4(*s + 2, end, &low) &&
                    low >= 0xDC00 && low <= 0xDFFF;
        if (!pair)
            return false;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        *s += 6;
    }
    *len = utf8_put(out, code);
    return true;
}

/* Goes over the string behind its opening quote. With `to` NULL it only checks and measures. Returns the place of the
 * closing quote, or NULL with `j->at` at the fault. */
static const char *walk_string(struct json *j, char *to, size_t *len)
{
    size_t n = 0;
    const char *s = j->at;
    while (s < j->end && *s != '"') {
        char four[4];
        size_t step = 1;
        const char *was = s;
        if ((unsigned char)*s < 0x20) {
            j->at = s;
            return NULL;
        }
        four[0] = *s++;
        if (four[0] == '\\' && !escape(&s, j->end, four, &step)) {
            j->at = was;
            return NULL;
        }
        if (to)
            memcpy(to + n, four, step);
        n += step;
    }
    if (s == j->end) {
        j->at = s;
        return NULL;
    }
    *len = n;
    return s;
}

static int string(struct json *j)
{
    size_t len = 0;
    const char *begin = j->at, *close = walk_string(j, NULL, &len);
    if (!close)
        return refuse(j, "a string has a control character, a bad escape or no end");
    if (!utf8_check(begin, (size_t)(close - begin), NULL))
        return refuse(j, "a string is not UTF-8");
    uint8_t *to = buf_space(j->out, len + HEAD_SIZE);
    if (!to)
        return ROOM_E_TOO_BIG;
    size_t head = len < 32 ? 1 : len < 256 ? 2 : len < 65536 ? 3 : HEAD_SIZE;
    walk_string(j, (char *)to + head, &len);
    if (head == 1)
        to[0] = (uint8_t)(0xA0 | len);
    else
        to[0] = head == 2 ? 0xD9 : head == 3 ? 0xDA : 0xDB;
    for (size_t i = 1; i < head; i++)
        to[i] = (uint8_t)(len >> (8 * (head - 1 - i)));
    buf_added(j->out, head + len);
    j->at = close + 1;
    return 0;
}

static size_t digits(struct json *j)
{
    const char *begin = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9')
        j->at++;
    return (size_t)(j->at - begin);
}

/* strtod() reads the locale's decimal point, so it is never shown one: 12.5e3 is handed over as 125e2. */
static int real(struct json *j, const char *begin, const char *point, const char *exponent)
{
    char text[NUMBER_MAX + 32];
    const char *digits_end = exponent ? exponent : j->at;
    long shift = point ? (long)(digits_end - point - 1) : 0, power = 0;
    size_t n = 0;
    for (const char *s = begin; s < digits_end; s++)
        if (*s != '.')
            text[n++] = *s;
    for (const char *s = exponent ? exponent + 1 : j->at; s < j->at; s++)
        if (*s >= '0' && *s <= '9' && power < 100000)
            power = power * 10 + (*s - '0');
    if (exponent && exponent[1] == '-')
        power = -power;
    snprintf(text + n, sizeof(text) - n, "e%ld", power - shift);
    double d = strtod(text, NULL);
    if (!isfinite(d))
        return refuse(j, "a number is out of range");
    mp_write_double(j->out, d);
    return 0;
}

static bool integer(struct json *j, const char *begin)
{
    bool minus = *begin == '-';
    uint64_t v = 0;
    for (const char *s = begin + minus; s < j->at; s++) {
        uint64_t d = (uint64_t)(*s - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    if (minus && v > (uint64_t)INT64_MAX + 1)
        return false;
    if (minus)
        mp_write_int(j->out, v > INT64_MAX ? INT64_MIN : -(int64_t)v);
    else
        mp_write_uint(j->out, v);
    return true;
}

static int number(struct json *j)
{
    const char *begin = j->at, *point = NULL, *exponent = NULL;
    if (*j->at == '-')
        j->at++;
    const char *first = j->at;
    size_t whole = digits(j);
    bool ok = whole > 0 && (whole == 1 || *first != '0');
    if (ok && j->at < j->end && *j->at == '.') {
        point = j->at++;
        ok = digits(j) > 0;
    }
    if (ok && j->at < j->end && (*j->at | 32) == 'e') {
        exponent = j->at++;
        if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
            j->at++;
        ok = digits(j) > 0;
    }
    if (!ok)
        return refuse(j, "a number is malformed");
    if (j->at - begin > NUMBER_MAX)
        return err_set(j->detail, ROOM_E_TOO_BIG, "json: a number has more than %d characters", NUMBER_MAX);
    if (point || exponent || !integer(j, begin))
        return real(j, begin, point, exponent);
    return 0;
}

static bool word(struct json *j, const char *text)
{
    size_t len = strlen(text);
    if ((size_t)(j->end - j->at) < len || memcmp(j->at, text, len) != 0)
        return false;
    j->at += len;
    return true;
}

static int scalar(struct json *j)
{
    if (next_is(j, '"'))
        return string(j);
    if (j->at < j->end && (*j->at == '-' || (*j->at >= '0' && *j->at <= '9')))
        return number(j);
    if (word(j, "null"))
        mp_write_nil(j->out);
    else if (word(j, "true"))
        mp_write_bool(j->out, true);
    else if (word(j, "false"))
        mp_write_bool(j->out, false);
    else
        return refuse(j, "a value is missing");
    return 0;
}

static int key(struct json *j)
{
    if (!next_is(j, '"'))
        return refuse(j, "a name in quotes is missing");
    int rc = string(j);
    if (rc == 0 && !next_is(j, ':'))
        rc = refuse(j, "':' is missing");
    return rc;
}

/* A map of one pair whose name is $bin and whose value is a string becomes a bin, in its own place: it is shorter. */
static int bin_in_place(struct json *j, size_t head)
{
    static const char name[] = "\xA4$bin";
    uint8_t *map = j->out->data + head, *value = map + HEAD_SIZE + 5;
    struct mp_read r;
    struct mp_token t;
    mp_read_init(&r, value, j->out->len - head - HEAD_SIZE - 5);
    if (memcmp(map + HEAD_SIZE, name, 5) != 0 || mp_next(&r, &t, NULL) != 0 || t.type != MP_STR)
        return 0;
    size_t len;
    if (!base64_decode((const char *)t.data, t.len, map + HEAD_SIZE, &len))
        return refuse(j, "$bin is not base64");
    map[0] = 0xC6;
    for (size_t i = 1; i < HEAD_SIZE; i++)
        map[i] = (uint8_t)(len >> (8 * (4 - i)));
    j->out->len = head + HEAD_SIZE + len;
    return 0;
}

static int close_level(struct json *j)
{
    struct level *l = &j->stack[--j->depth];
    uint8_t *head = j->out->data + l->head;
    head[0] = l->map ? 0xDF : 0xDD;
    for (size_t i = 1; i < HEAD_SIZE; i++)
        head[i] = (uint8_t)(l->count >> (8 * (4 - i)));
    if (l->map && l->count == 1 && j->out->len - l->head > HEAD_SIZE + 5)
        return bin_in_place(j, l->head);
    return 0;
}

static int open_level(struct json *j, bool map)
{
    if (j->depth == WIRE_DEPTH_MAX)
        return err_set(j->detail, ROOM_E_TOO_BIG, "json: nested deeper than %d", WIRE_DEPTH_MAX);
    j->stack[j->depth++] = (struct level){j->out->len, 0, map};
    return buf_write(j->out, "\0\0\0\0", HEAD_SIZE) ? 0 : ROOM_E_TOO_BIG;
}

/* Behind a value: counts it, and closes what ends here. `*more`: another value follows. */
static int after_value(struct json *j, bool *more)
{
    int rc = 0;
    *more = false;
    while (rc == 0 && j->depth > 0) {
        struct level *l = &j->stack[j->depth - 1];
        l->count++;
        if (next_is(j, ',')) {
            *more = true;
            return l->map ? key(j) : 0;
        }
        if (!next_is(j, l->map ? '}' : ']'))
            return refuse(j, l->map ? "',' or '}' is missing" : "',' or ']' is missing");
        rc = close_level(j);
    }
    return rc;
}

static int values(struct json *j)
{
    bool more = true;
    int rc = 0;
    while (rc == 0 && more) {
        bool map = next_is(j, '{'), array = !map && next_is(j, '[');
        if (map || array) {
            rc = open_level(j, map);
            if (rc == 0 && !next_is(j, map ? '}' : ']')) {
                rc = map ? key(j) : 0;
                continue;
            }
            if (rc == 0)
                rc = close_level(j);
        } else {
            rc = scalar(j);
        }
        if (rc == 0)
            rc = after_value(j, &more);
    }
    return rc;
}

int json_read(const char *text, size_t len, struct buf *out, struct err_detail *detail)
{
    struct json j = {.start = text, .at = text, .end = text + len, .out = out, .detail = detail};
    size_t before = out->len;
    if (len > INT_MAX)
        return err_set(detail, ROOM_E_TOO_BIG, "json: the text is longer than 2 GiB");
    int rc = values(&j);
    skip_space(&j);
    if (rc == 0 && j.at != j.end)
        rc = refuse(&j, "something follows the value");
    if (out->failed && (rc == 0 || rc == ROOM_E_TOO_BIG))
        rc = err_set(detail, ROOM_E_TOO_BIG, "json: no room for the value (limit %zu bytes)", out->max);
    if (rc)
        out->len = before;
    return rc;
}
