/* See replies.h. */
#include "room/replies.h"

#include <string.h>

#include "base/err.h"
#include "room/error.h"

bool replies_find(const struct replies *r, int64_t n, struct replies_answer *out)
{
    if (n <= 0 || n > r->last_n)
        return false;
    *out = (struct replies_answer){.code = 0};
    for (const struct reply *e = r->first; e; e = e->next)
        if (e->from <= n && n <= e->n)
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

void replies_restore(struct replies *r, const struct alloc *alloc, const struct reply *answer, const void *data)
{
    ASSERT(!r->last || answer->from > r->last->n);
    size_t len = answer->len;
    while (r->first && (r->count >= REPLIES_MAX || r->bytes + len > REPLIES_BYTES))
        drop_oldest(r, alloc);
    struct reply *e = alloc_get(alloc, sizeof(*e) + len);
    if (!e)
        return;
    *e = (struct reply){.from = answer->from, .n = answer->n, .code = answer->code, .len = answer->len};
    if (len)
        memcpy(e->data, data, len);
    *(r->last ? &r->last->next : &r->first) = e;
    r->last = e;
    r->count++;
    r->bytes += len;
}

void replies_add(struct replies *r, const struct alloc *alloc, int64_t n, int code, const void *data, size_t len)
{
    ASSERT(n > r->last_n);
    struct reply passed_over = {.from = r->last_n + 1, .n = n - 1, .code = ROOM_E_CANCELLED};
    struct reply answer = {.from = n, .n = n, .code = code, .len = (uint32_t)len};
    if (passed_over.from <= passed_over.n)
        replies_restore(r, alloc, &passed_over, NULL);
    r->last_n = n;
    if (code || len)
        replies_restore(r, alloc, &answer, data);
}

void replies_clear(struct replies *r, const struct alloc *alloc)
{
    while (r->first)
        drop_oldest(r, alloc);
    *r = (struct replies){0};
}
