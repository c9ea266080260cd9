/* See http.h. */
#include "wire/http.h"

#include <string.h>
#include <strings.h>

#include "room/error.h"

static bool is_token(char ch)
{
    return (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
           (ch != 0 && strchr("!#$%&'*+-.^_`|~", ch) != NULL);
}

static struct http_text text(const char *from, const char *to)
{
    return (struct http_text){from, (size_t)(to - from)};
}

static struct http_text trim(struct http_text t)
{
    while (t.len > 0 && (t.s[0] == ' ' || t.s[0] == '\t')) {
        t.s++;
        t.len--;
    }
    while (t.len > 0 && (t.s[t.len - 1] == ' ' || t.s[t.len - 1] == '\t'))
        t.len--;
    return t;
}

static bool same_word(struct http_text t, const char *s)
{
    return t.len == strlen(s) && strncasecmp(t.s, s, t.len) == 0;
}

bool http_is(struct http_text t, const char *s)
{
    return t.len == strlen(s) && memcmp(t.s, s, t.len) == 0;
}

size_t http_end(const void *data, size_t len, size_t fresh)
{
    size_t from = len - fresh > 3 ? len - fresh - 3 : 0;
    const char *end = memmem((const char *)data + from, len - from, "\r\n\r\n", 4);
    return end ? (size_t)(end - (const char *)data) + 4 : 0;
}

static bool parse_line(struct http_text line, struct http_request *r)
{
    const char *s = line.s, *end = line.s + line.len;
    while (s < end && is_token(*s))
        s++;
    r->method = text(line.s, s);
    if (r->method.len == 0 || s == end || *s != ' ')
        return false;
    const char *target = ++s;
    while (s < end && *s > ' ' && *s < 127)
        s++;
    if (s == target || *target != '/' || end - s != 9 || memcmp(s, " HTTP/1.", 8) != 0)
        return false;
    if (s[8] != '0' && s[8] != '1')
        return false;
    r->minor = s[8] - '0';
    const char *mark = memchr(target, '?', (size_t)(s - target));
    r->path = text(target, mark ? mark : s);
    r->query = mark ? text(mark + 1, s) : text(s, s);
    return true;
}

static bool parse_field(struct http_text line, struct http_field *out)
{
    const char *s = line.s, *end = line.s + line.len;
    while (s < end && is_token(*s))
        s++;
    out->name = text(line.s, s);
    if (out->name.len == 0 || s == end || *s != ':')
        return false;
    out->value = trim(text(s + 1, end));
    for (const char *v = out->value.s; v < out->value.s + out->value.len; v++)
        if (((unsigned char)*v < ' ' && *v != '\t') || *v == 127)
            return false;
    return true;
}

long http_parse(const void *data, size_t len, struct http_request *out)
{
    size_t total = http_end(data, len, len);
    const char *s = data;
    if (total == 0)
        return 0;
    const char *end = s + total - 2; /* without the empty line */
    bool first = true;
    out->field_count = 0;
    while (s < end) {
        const char *cr = memmem(s, (size_t)(end - s), "\r\n", 2);
        struct http_text line = text(s, cr);
        s = cr + 2;
        if (first) {
            if (!parse_line(line, out))
                return ROOM_E_BAD_FRAME;
            first = false;
            continue;
        }
        if (out->field_count == HTTP_MAX_HEADERS)
            return ROOM_E_TOO_BIG;
        if (!parse_field(line, &out->fields[out->field_count++]))
            return ROOM_E_BAD_FRAME;
    }
    return first ? ROOM_E_BAD_FRAME : (long)total;
}

const struct http_text *http_field(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (same_word(r->fields[i].name, name))
            return &r->fields[i].value;
    return NULL;
}

bool http_has_word(const struct http_request *r, const char *name, const char *word)
{
    for (size_t i = 0; i < r->field_count; i++) {
        if (!same_word(r->fields[i].name, name))
            continue;
        const char *s = r->fields[i].value.s, *end = s + r->fields[i].value.len;
        while (s < end) {
            const char *comma = memchr(s, ',', (size_t)(end - s));
            const char *stop = comma ? comma : end;
            if (same_word(trim(text(s, stop)), word))
                return true;
            s = comma ? comma + 1 : end;
        }
    }
    return false;
}
