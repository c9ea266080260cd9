/*
 * See match.h.
 *
 * How fellows are looked for: among all by age, or, where a number must be near, among those near it, whichever is less to look
 * at; both give the same ones. So a queue of n costs about n * sqrt(n) looks where ranges are of middling width, and about n
 * where they are narrow or wide.
 */
#include "core/match.h"

#include <stdlib.h>
#include <string.h>

void match_init(struct match *m, const struct alloc *alloc, const struct queues *queues)
{
    *m = (struct match){.alloc = alloc, .queue_count = queues->count};
    map_init(&m->tickets, alloc);
    map_init(&m->leaders, alloc);
    for (unsigned i = 0; i < queues->count; i++)
        m->queues[i].queue = &queues->items[i];
}

static void free_ticket(struct match *m, struct match_ticket *t)
{
    alloc_put(m->alloc, t->players, t->player_count * sizeof(*t->players));
    alloc_put(m->alloc, t->properties, t->properties_len);
    if (t->equal)
        alloc_put_str(m->alloc, t->equal);
    alloc_put(m->alloc, t, sizeof(*t));
}

void match_deinit(struct match *m)
{
    for (struct map_iter it = map_first(&m->tickets); it.value; map_next(&it))
        free_ticket(m, it.value);
    map_deinit(&m->tickets);
    map_deinit(&m->leaders);
    alloc_put(m->alloc, m->by_age, m->cap * sizeof(*m->by_age));
    alloc_put(m->alloc, m->by_value, m->cap * sizeof(*m->by_value));
    alloc_put(m->alloc, m->picked, m->cap * sizeof(*m->picked));
}

struct match_queue_book *match_queue(struct match *m, const char *queue)
{
    for (unsigned i = 0; i < m->queue_count; i++)
        if (strcmp(m->queues[i].queue->name.s, queue) == 0)
            return &m->queues[i];
    return NULL;
}

static struct match_queue_book *book_of(struct match *m, const struct match_ticket *t)
{
    return match_queue(m, t->queue->name.s);
}

struct match_ticket *match_get(const struct match *m, const char *id)
{
    return map_get(&m->tickets, id);
}

struct match_ticket *match_of_leader(const struct match *m, const char *player)
{
    return map_get(&m->leaders, player);
}

int64_t match_age_ms(const struct match_ticket *t, struct mono now)
{
    int64_t age = mono_diff_ms(t->since, now);
    return age > 0 ? age : 0;
}

/* Three arrays as long as all tickets that there may be, so that looking for a match needs no memory. */
static bool grow(struct match *m)
{
    struct match_ticket **old[] = {m->by_age, m->by_value, m->picked}, **new[3] = {NULL};
    if (m->tickets.count < m->cap)
        return true;
    size_t cap = m->cap ? m->cap * 2 : 64;
    bool ok = true;
    for (int i = 0; i < 3; i++)
        ok = (new[i] = alloc_get(m->alloc, cap * sizeof(*new[i]))) && ok;
    for (int i = 0; i < 3; i++)
        if (ok)
            alloc_put(m->alloc, old[i], m->cap * sizeof(*old[i]));
        else
            alloc_put(m->alloc, new[i], cap * sizeof(*new[i]));
    if (!ok)
        return false;
    m->by_age = new[0];
    m->by_value = new[1];
    m->picked = new[2];
    m->cap = cap;
    return true;
}

static struct match_ticket *make(struct match *m, struct match_queue_book *q, const struct match_info *info, struct mono now)
{
    struct match_ticket *t = alloc_get(m->alloc, sizeof(*t));
    if (!t)
        return NULL;
    t->player_count = info->player_count;
    t->properties_len = info->properties_len;
    t->players = info->player_count ? alloc_get(m->alloc, info->player_count * sizeof(*t->players)) : NULL;
    t->properties = info->properties_len ? alloc_get(m->alloc, info->properties_len) : NULL;
    t->equal = alloc_str(m->alloc, info->equal);
    t->id = info->id;
    bool ok = (t->players || !info->player_count) && (t->properties || !info->properties_len) && t->equal && grow(m);
    if (!ok || !map_put_borrowed(&m->tickets, t->id.s, t)) {
        t->player_count = t->players ? t->player_count : 0;
        t->properties_len = t->properties ? t->properties_len : 0;
        free_ticket(m, t);
        return NULL;
    }
    t->queue = q->queue;
    t->since = mono_add_ms(now, -info->age_ms);
    t->not_before = t->since;
    memcpy(t->values, info->values, sizeof(t->values));
    if (info->properties_len)
        memcpy(t->properties, info->properties, info->properties_len);
    for (unsigned i = 0; i < info->player_count; i++)
        t->players[i] = info->players[i];
    if (t->player_count)
        (void)map_put_borrowed(&m->leaders, t->players[0].s, t); /* without memory nobody is found by his name */
    t->prev = q->last;
    *(q->last ? &q->last->next : &q->first) = t;
    q->last = t;
    q->count++;
    return t;
}

struct match_ticket *match_put(struct match *m, const char *queue, const struct match_info *info, struct mono now)
{
    struct match_queue_book *q = match_queue(m, queue);
    struct match_ticket *t = match_get(m, info->id.s);
    if (t && info->revision < t->revision) {
        t->sweep = m->sweep;
        return t;
    }
    if (!q || (t && t->queue != q->queue) || (!t && m->tickets.count >= MATCH_TICKETS_MAX))
        return NULL;
    bool waited = t && t->state == MATCH_WAITING;
    if (!t && !(t = make(m, q, info, now)))
        return NULL;
    t->server = info->server;
    t->boot = info->boot;
    t->session = info->session;
    t->match = info->match;
    t->room = info->room;
    t->state = info->state;
    t->revision = info->revision;
    t->seats = info->seats;
    t->accepted = info->accepted;
    t->request = info->request;
    t->since_wall = info->since;
    t->sweep = m->sweep;
    t->orphan = false;
    q->waiting += t->state == MATCH_WAITING;
    q->waiting -= waited;
    q->dirty |= t->state == MATCH_WAITING;
    return t;
}

void match_del(struct match *m, const char *id)
{
    struct match_ticket *t = match_get(m, id);
    if (!t)
        return;
    struct match_queue_book *q = book_of(m, t);
    *(t->prev ? &t->prev->next : &q->first) = t->next;
    *(t->next ? &t->next->prev : &q->last) = t->prev;
    q->count--;
    q->waiting -= t->state == MATCH_WAITING;
    if (t->player_count && map_get(&m->leaders, t->players[0].s) == t)
        map_del(&m->leaders, t->players[0].s);
    map_del(&m->tickets, t->id.s);
    free_ticket(m, t);
}

void match_sync_begin(struct match *m)
{
    m->sweep++;
}

bool match_keep(struct match *m, const char *id)
{
    struct match_ticket *t = match_get(m, id);
    if (t)
        t->sweep = m->sweep;
    return t != NULL;
}

void match_sync_end(struct match *m)
{
    for (struct map_iter it = map_first(&m->tickets); it.value;) {
        const struct match_ticket *t = it.value;
        map_next(&it);
        if (t->sweep != m->sweep)
            match_del(m, t->id.s);
    }
}

/* ---- looking for a match ---- */

enum { PICKS = 8 }; /* so many are looked for one by one before all are sorted: mostly fewer are wanted */

struct search {
    struct match *m;
    const struct queue *queue;
    struct mono now;
    struct match_ticket *first; /* of those still free, the oldest */
    size_t count, free_count, budget;
    struct match_ticket *group[QUEUE_MATCH_MAX];
    uint8_t teams[QUEUE_MATCH_MAX];
    unsigned filled[QUEUE_MATCH_MAX], in_group, players;
};

static int by_age(const void *a, const void *b)
{
    const struct match_ticket *x = *(struct match_ticket *const *)a, *y = *(struct match_ticket *const *)b;
    return x->since.us != y->since.us ? (x->since.us < y->since.us ? -1 : 1) : strcmp(x->id.s, y->id.s);
}

static int by_value(const void *a, const void *b)
{
    const struct match_ticket *x = *(struct match_ticket *const *)a, *y = *(struct match_ticket *const *)b;
    int equal = strcmp(x->equal, y->equal);
    if (equal)
        return equal;
    return x->values[0] != y->values[0] ? (x->values[0] < y->values[0] ? -1 : 1) : x->rank < y->rank ? -1 : 1;
}

static int by_rank(const void *a, const void *b)
{
    const struct match_ticket *x = *(struct match_ticket *const *)a, *y = *(struct match_ticket *const *)b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* All who may be matched now, by age; and by group and value, each with the bounds of its group there. */
static void prepare(struct search *s, const struct match_queue_book *q)
{
    struct match *m = s->m;
    for (struct match_ticket *t = q->first; t; t = t->next) {
        t->free = t->state == MATCH_WAITING && !t->busy && mono_reached(s->now, t->not_before);
        if (t->free)
            m->by_age[s->count++] = t;
    }
    s->free_count = s->count;
    qsort(m->by_age, s->count, sizeof(*m->by_age), by_age);
    for (size_t i = 0; i < s->count; i++) {
        struct match_ticket *t = m->by_age[i];
        t->rank = (uint32_t)i;
        t->older = i ? m->by_age[i - 1] : NULL;
        t->younger = i + 1 < s->count ? m->by_age[i + 1] : NULL;
        m->by_value[i] = t;
    }
    s->first = s->count ? m->by_age[0] : NULL;
    if (s->queue->equal_count || s->queue->range_count)
        qsort(m->by_value, s->count, sizeof(*m->by_value), by_value);
    for (size_t low = 0, at = 0; low < s->count; low = at) {
        while (at < s->count && strcmp(m->by_value[at]->equal, m->by_value[low]->equal) == 0)
            at++;
        for (size_t i = low; i < at; i++) {
            m->by_value[i]->low = (uint32_t)low;
            m->by_value[i]->high = (uint32_t)at;
        }
    }
}

/* The first place from `low` on whose value is not below `value` (or, `above`, is above it). */
static size_t bound(const struct match *m, size_t low, size_t high, double value, bool above)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        double v = m->by_value[middle]->values[0];
        if (v < value || (above && v == value))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool fits(const struct search *s, const struct match_ticket *anchor, const struct match_ticket *t)
{
    if (t->seats || strcmp(t->equal, anchor->equal) != 0)
        return false;
    int64_t waited = match_age_ms(anchor, s->now);
    for (unsigned i = 0; i < s->queue->range_count; i++) {
        double far = t->values[i] - anchor->values[i];
        if ((far < 0 ? -far : far) > queue_tolerance(s->queue, i, waited))
            return false;
    }
    return true;
}

/* Is one of its players in the group already, by another ticket? */
static bool twice(const struct search *s, const struct match_ticket *t)
{
    for (unsigned g = 0; g < s->in_group; g++)
        for (unsigned i = 0; i < s->group[g]->player_count; i++)
            for (unsigned k = 0; k < t->player_count; k++)
                if (strcmp(s->group[g]->players[i].s, t->players[k].s) == 0)
                    return true;
    return false;
}

/* Into the team that it fills best. True: the match is whole. */
static bool add(struct search *s, struct match_ticket *t)
{
    const struct match_ticket *anchor = s->in_group ? s->group[0] : t;
    unsigned teams = anchor->seats ? 1 : s->queue->teams, size = anchor->seats ? anchor->seats : s->queue->team_size;
    unsigned best = teams;
    for (unsigned i = 0; i < teams && t->player_count; i++)
        if (s->filled[i] + t->player_count <= size && (best == teams || s->filled[i] > s->filled[best]))
            best = i;
    if (t != anchor && (best == teams || twice(s, t)))
        return false;
    s->group[s->in_group] = t;
    s->teams[s->in_group++] = (uint8_t)(best < teams ? best : 0);
    if (best < teams) {
        s->filled[best] += t->player_count;
        s->players += t->player_count;
    }
    return s->players == teams * size;
}

/* The oldest of those from place `i` on gets there. */
static void oldest_to(struct match_ticket **list, size_t i, size_t n)
{
    size_t best = i;
    for (size_t k = i + 1; k < n; k++)
        if (list[k]->rank < list[best]->rank)
            best = k;
    struct match_ticket *t = list[best];
    list[best] = list[i];
    list[i] = t;
}

static bool near(struct search *s, struct match_ticket *anchor, size_t low, size_t high)
{
    struct match *m = s->m;
    size_t n = 0;
    for (size_t i = low; i < high; i++) {
        struct match_ticket *t = m->by_value[i];
        if (t->free && t != anchor && fits(s, anchor, t))
            m->picked[n++] = t;
    }
    s->budget -= high - low < s->budget ? high - low : s->budget;
    for (size_t i = 0; i < n; i++) {
        if (i < PICKS)
            oldest_to(m->picked, i, n);
        else if (i == PICKS)
            qsort(m->picked + i, n - i, sizeof(*m->picked), by_rank);
        if (add(s, m->picked[i]))
            return true;
    }
    return false;
}

static bool oldest(struct search *s, struct match_ticket *anchor)
{
    for (struct match_ticket *t = s->first; t && s->budget; t = t->younger, s->budget--)
        if (t != anchor && fits(s, anchor, t) && add(s, t))
            return true;
    return false;
}

/* Fills s->group. A room that asks for players takes fewer, too. */
static bool search_for(struct search *s, struct match_ticket *anchor)
{
    struct match *m = s->m;
    size_t low = anchor->low, high = anchor->high;
    s->in_group = s->players = 0;
    memset(s->filled, 0, sizeof(s->filled));
    if (add(s, anchor))
        return true;
    if (s->queue->range_count) {
        double far = queue_tolerance(s->queue, 0, match_age_ms(anchor, s->now));
        low = bound(m, anchor->low, anchor->high, anchor->values[0] - far, false);
        high = bound(m, anchor->low, anchor->high, anchor->values[0] + far, true);
    }
    size_t window = high - low, wanted = queue_size(s->queue);
    bool whole = window > 1 && (window * window <= wanted * s->free_count ? near(s, anchor, low, high) : oldest(s, anchor));
    return whole || (anchor->seats && s->players);
}

static void take_out(struct search *s, struct match_ticket *t)
{
    *(t->older ? &t->older->younger : &s->first) = t->younger;
    if (t->younger)
        t->younger->older = t->older;
    t->free = false;
    s->free_count--;
}

/* The first to be looked at: the oldest, or who comes after the last who was looked at when the budget was spent. */
static struct match_ticket *begin(const struct search *s, const struct match_queue_book *q)
{
    struct match_ticket *t = s->first;
    while (q->after_id.s[0] && t &&
           (t->since.us < q->after.us || (t->since.us == q->after.us && strcmp(t->id.s, q->after_id.s) <= 0)))
        t = t->younger;
    return t;
}

bool match_find(struct match *m, struct match_queue_book *q, struct mono now, match_found *found, void *arg)
{
    struct search s = {.m = m, .queue = q->queue, .now = now, .budget = MATCH_BUDGET};
    bool more = false;
    if (!q->waiting)
        return false;
    prepare(&s, q);
    struct match_ticket *at = begin(&s, q), *next;
    q->after_id.s[0] = 0;
    for (; at && !more; at = next) {
        next = at->younger;
        bool whole = search_for(&s, at);
        if (whole && !found(arg, s.group, s.teams, s.in_group)) {
            more = true;
            break;
        }
        for (unsigned i = 0; i < s.in_group && whole; i++) {
            if (s.group[i] == next)
                next = next->younger;
            s.group[i]->busy = true;
            take_out(&s, s.group[i]);
        }
        more = !s.budget && next;
        if (more) {
            q->after = at->since;
            q->after_id = at->id;
        }
    }
    m->looked += MATCH_BUDGET - s.budget;
    return more;
}
