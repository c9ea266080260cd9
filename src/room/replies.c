/* See replies.h. */
#include "room/replies.h"

#include <string.h>

#include "base/err.h"

bool replies_find(const struct replies *r, int64_t n, struct replies_answer *out)
{
    if (n <= 0 || n > r->last_n)
        return false;
    *out = (struct replies_answer){.code = n == r->last_n ? r->last_code : 0};
    for (const struct reply *e = r->first; e; e = e->next)
        if (e->n == n)
            *out = (struct replies_answer){e->code, e->data, e->len};
    return true;
}

static void drop_oldest(struct replies *r, const struct alloc *alloc)
{
    struct reply *e = r->first;
    r->first = e->next;
    if (!r->first)
        r->last = NULL;
    r->count--;
    r->bytes -= e->len;
    alloc_put(alloc, e, sizeof(*e) + e->len);
}

void replies_add(struct replies *r, const struct alloc *alloc, int64_t n, int code, const void *data, size_t len)
{
    ASSERT(n > r->last_n);
    r->last_n = n;
    r->last_code = code;
    if (!code && !len)
        return;
    while (r->first && (r->count >= REPLIES_MAX || r->bytes + len > REPLIES_BYTES))
        drop_oldest(r, alloc);
    struct reply *e = alloc_get(alloc, sizeof(*e) + len);
    if (!e)
        return;
    e->n = n;
    e->code = code;
    e->len = (uint32_t)len;
    if (len)
        memcpy(e->data, data, len);
    *(r->last ? &r->last->next : &r->first) = e;
    r->last = e;
    r->count++;
    r->bytes += len;
}

void replies_clear(struct replies *r, const struct alloc *alloc)
{
    while (r->first)
        drop_oldest(r, alloc);
    *r = (struct replies){0};
}
