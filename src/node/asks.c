/*
 * What one session has asked of services: open requests, the answers of the last ones, and how often it may ask.
 *
 * Decides: that a number is used once - numbers grow, what is open or answered is never sent again, and the answer is repeated
 * while it is remembered. Must not know services. Invariant: every limit here is a limit per session, but for two of the
 * node: open calls, and bytes.
 */
#include "node/route.h"

struct asks *asks_of(struct node *n, struct session *s)
{
    unsigned routes = n->router->routes->count;
    if (s->asks)
        return s->asks;
    s->asks = alloc_get(n->alloc, sizeof(*s->asks) + routes * sizeof(s->asks->route_rates[0]));
    if (s->asks) {
        s->asks->route_count = routes;
        s->asks->kept_last = &s->asks->kept_first;
    }
    return s->asks;
}

struct asked *asks_open(const struct asks *a, int64_t id)
{
    struct asked *q = a->first;
    while (q && q->id != id)
        q = q->next;
    return q;
}

bool asks_repeat(struct node *n, struct session *s, int64_t id)
{
    union {
        struct wire_frame_reply reply;
        struct wire_frame_error error;
    } m;
    const struct answered *k = s->asks->kept_first;
    while (k && k->id != id)
        k = k->next;
    int op = k ? wire_peek_op(k->frame, k->len) : -1;
    if (op < 0 || codec_unpack(codec_by_op(op), &m, k->frame, k->len, NULL))
        return false;
    session_send(n, s, op, &m);
    return true;
}

int asks_allowed(struct node *n, struct asks *a, const struct route *route, const char **why)
{
    const struct router *r = n->router;
    if (a->open >= ROUTE_OPEN_MAX)
        *why = "too many requests of this session are open: wait for an answer";
    else if (r->calls.count + r->waiting >= ROUTE_CALLS_MAX || r->bytes >= ROUTE_BYTES_MAX)
        *why = "too many requests are open on this server: try again in a second";
    else if (!rate_take(&a->rate, n->config.rate_requests, n->now))
        *why = "too many requests in a second";
    else if (!rate_take(&a->route_rates[route->number], route->per_s, n->now))
        *why = "too many requests in a second on this route";
    else
        return 0;
    return ROOM_E_RATE_LIMITED;
}

void asks_add(struct asks *a, struct asked *q)
{
    a->highest = q->id;
    q->next = a->first;
    a->first = q;
    a->open++;
}

void asks_remove(struct asks *a, struct asked *q)
{
    struct asked **at = &a->first;
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    a->open--;
}

static void drop_oldest(struct node *n, struct asks *a)
{
    struct answered *k = a->kept_first;
    a->kept_first = k->next;
    if (!k->next)
        a->kept_last = &a->kept_first;
    a->kept--;
    a->kept_bytes -= k->len;
    n->router->kept_bytes -= k->len;
    alloc_put(n->alloc, k, sizeof(*k) + k->len);
}

/* What does not fit is not remembered: repeated, its number is refused. */
void asks_keep(struct node *n, struct asks *a, int64_t id, int op, const void *message)
{
    buf_reset(&n->scratch);
    if (codec_pack(codec_by_op(op), message, &n->scratch))
        return;
    size_t len = n->scratch.len;
    if (len > ROUTE_KEPT_BYTES)
        return;
    while (a->kept && (a->kept >= ROUTE_KEPT_MAX || a->kept_bytes + len > ROUTE_KEPT_BYTES ||
                       n->router->kept_bytes + len > ROUTE_KEPT_ALL))
        drop_oldest(n, a);
    struct answered *k = n->router->kept_bytes + len <= ROUTE_KEPT_ALL ? alloc_get(n->alloc, sizeof(*k) + len) : NULL;
    if (!k)
        return;
    k->id = id;
    k->len = len;
    memcpy(k->frame, n->scratch.data, len);
    *a->kept_last = k;
    a->kept_last = &k->next;
    a->kept++;
    a->kept_bytes += len;
    n->router->kept_bytes += len;
}

void asks_free(struct node *n, struct session *s)
{
    struct asks *a = s->asks;
    if (!a)
        return;
    while (a->kept)
        drop_oldest(n, a);
    alloc_put(n->alloc, a, sizeof(*a) + a->route_count * sizeof(a->route_rates[0]));
    s->asks = NULL;
}
