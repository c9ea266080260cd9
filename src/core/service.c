/* See service.h. */
#include "core/service.h"

#include <string.h>

/* One ping may be on its way; two in a row are not missed by a process that runs. */
enum { UNANSWERED_OK = 1, PENALTY_DOUBLINGS = 5 };

static struct service_instance *find(struct service *s, const char *name)
{
    for (unsigned i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name.s, name) == 0)
            return &s->items[i];
    return NULL;
}

const struct service_instance *service_find(const struct service *s, const char *name)
{
    for (unsigned i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name.s, name) == 0)
            return &s->items[i];
    return NULL;
}

static void forget(struct service *s, unsigned i)
{
    s->count--;
    memmove(&s->items[i], &s->items[i + 1], (s->count - i) * sizeof(s->items[0]));
    if (s->turn > i)
        s->turn--;
}

bool service_heard(struct service *s, const char *name, struct mono now)
{
    struct service_instance *i = find(s, name);
    if (!i) {
        if (s->count == SERVICE_INSTANCES_MAX || !id_valid(name))
            return false;
        i = &s->items[s->count++];
        *i = (struct service_instance){0};
        id_set(&i->name, name);
    }
    i->unanswered = 0;
    i->heard = now;
    return true;
}

void service_pinged(struct service *s, struct mono now)
{
    for (unsigned i = s->count; i-- > 0;) {
        s->items[i].unanswered++;
        if (s->items[i].open == 0 && mono_diff_ms(s->items[i].heard, now) >= SERVICE_FORGET_MS)
            forget(s, i);
    }
}

void service_doubt(struct service *s)
{
    for (unsigned i = 0; i < s->count; i++)
        s->items[i].unanswered = UNANSWERED_OK + 1;
}

bool service_alive(const struct service *s)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->items[i].unanswered <= UNANSWERED_OK)
            return true;
    return false;
}

/* Lower is better: it is well, or may prove itself; its penalty lasts; it answers no pings. */
static int rank(const struct service_instance *i, struct mono now)
{
    if (i->unanswered > UNANSWERED_OK)
        return 2;
    if (!i->missed)
        return 0;
    return mono_reached(now, i->penalty_until) && !i->probing ? 0 : 1;
}

const struct service_instance *service_next(struct service *s, struct mono now)
{
    const struct service_instance *best = NULL;
    int best_rank = 0;
    unsigned at = 0;
    for (unsigned k = 0; k < s->count; k++) {
        unsigned i = (s->turn + k) % s->count;
        const struct service_instance *c = &s->items[i];
        int r = rank(c, now);
        if (best && (r > best_rank || (r == best_rank && c->open >= best->open)))
            continue;
        best = c;
        best_rank = r;
        at = i;
    }
    if (best)
        s->turn = (at + 1) % s->count;
    return best;
}

void service_sent(struct service *s, const char *name, struct mono now)
{
    struct service_instance *i = find(s, name);
    if (!i)
        return;
    i->open++;
    if (i->missed && mono_reached(now, i->penalty_until))
        i->probing = true;
}

static void closed(struct service_instance *i)
{
    if (i->open)
        i->open--;
}

void service_answered(struct service *s, const char *name, struct mono now)
{
    struct service_instance *i = find(s, name);
    if (!i)
        return;
    closed(i);
    i->missed = i->unanswered = 0;
    i->probing = false;
    i->heard = now;
}

/* What was sent before the penalty began times out one after the other: that is one failure, not many. */
bool service_missed(struct service *s, const char *name, struct mono now)
{
    struct service_instance *i = find(s, name);
    if (!i)
        return false;
    closed(i);
    i->probing = false;
    if (i->missed && !mono_reached(now, i->penalty_until))
        return false;
    unsigned doublings = i->missed < PENALTY_DOUBLINGS ? i->missed : PENALTY_DOUBLINGS;
    int64_t ms = (int64_t)SERVICE_PENALTY_MS << doublings;
    i->missed++;
    i->penalty_until = mono_add_ms(now, ms < SERVICE_PENALTY_MAX_MS ? ms : SERVICE_PENALTY_MAX_MS);
    return true;
}

void service_gone(struct service *s, const char *name)
{
    struct service_instance *i = find(s, name);
    if (i)
        forget(s, (unsigned)(i - s->items));
}

void service_dropped(struct service *s, const char *name)
{
    struct service_instance *i = find(s, name);
    if (i) {
        closed(i);
        i->probing = false;
    }
}
