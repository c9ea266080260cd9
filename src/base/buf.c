/* See buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

enum { FIRST_CAP = 64 };

void buf_init(struct buf *b, const struct alloc *alloc, size_t max_bytes)
{
    *b = (struct buf){.max = max_bytes, .alloc = alloc};
}

void buf_deinit(struct buf *b)
{
    if (b->alloc)
        alloc_put(b->alloc, b->data, b->cap);
    *b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

uint8_t *buf_space(struct buf *b, size_t len)
{
    if (b->failed || len > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    if (b->cap - b->len < len) {
        size_t cap = b->cap ? b->cap : FIRST_CAP;
        while (cap - b->len < len)
            cap = cap > b->max / 2 ? b->max : cap * 2;
        uint8_t *data = alloc_resize(b->alloc, b->data, b->cap, cap);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_added(struct buf *b, size_t len)
{
    ASSERT(len <= b->cap - b->len);
    b->len += len;
}

bool buf_write(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return !b->failed;
    uint8_t *to = buf_space(b, len);
    if (!to)
        return false;
    memcpy(to, data, len);
    b->len += len;
    return true;
}

bool buf_byte(struct buf *b, uint8_t byte)
{
    return buf_write(b, &byte, 1);
}

bool buf_text(struct buf *b, const char *s)
{
    return buf_write(b, s, strlen(s));
}

bool buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    uint8_t *to = need < 0 ? NULL : buf_space(b, (size_t)need + 1);
    if (!to) {
        b->failed = true;
        return false;
    }
    va_start(args, format);
    vsnprintf((char *)to, (size_t)need + 1, format, args);
    va_end(args);
    b->len += (size_t)need;
    return true;
}

void buf_consume(struct buf *b, size_t len)
{
    ASSERT(len <= b->len);
    b->len -= len;
    if (b->len)
        memmove(b->data, b->data + len, b->len);
}
