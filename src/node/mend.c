/*
 * What is left half done in the bucket `matchmaking`, of the queues that this node is first in rank for.
 *
 * Decides: that a match whose maker is gone is undone, that the tickets of one that is undone go back to waiting with their
 * age, that entries which nobody needs are removed, and that tickets whose gateway is gone for longer than a session lives
 * leave the queue. Looks at the whole book once a second. Every write is by compare-and-set: whoever else does the same, or
 * comes back from the dead, is refused or has done it already.
 */
#include "node/matching.h"

enum { LOOK_MS = 1000 };

static bool alive(const struct node *n, const struct id *server, const struct id *boot)
{
    const struct view_server *v = view_server(core_view(n->core), server->s);
    if (strcmp(server->s, core_self(n->core)->id.s) == 0)
        return strcmp(boot->s, core_self(n->core)->boot) == 0;
    return v && v->info.status != SERVER_DOWN && strcmp(v->info.boot, boot->s) <= 0;
}

static void give_back(struct node *n, struct match_ticket *t)
{
    struct errand e = {.kind = ERRAND_TICKET, .ticket = t->id, .state = MATCH_WAITING};
    if (!t->sending)
        (void)matching_write_ticket(n, t, &e);
}

/* How many of its tickets are still its own. */
static unsigned held(struct node *n, const struct pair *p, void (*each)(struct node *n, struct match_ticket *t))
{
    unsigned count = 0;
    for (unsigned i = 0; i < p->ticket_count; i++) {
        struct match_ticket *t = match_get(&n->matching->book, p->tickets[i].s);
        if (!t || t->state != MATCH_MATCHED || strcmp(t->match.s, p->id.s) != 0)
            continue;
        count++;
        if (each)
            each(n, t);
    }
    return count;
}

void mend_undone(struct node *n, struct pair *p)
{
    if (p->state == PAIR_UNDONE)
        (void)held(n, p, give_back);
}

static void end(struct node *n, struct match_ticket *t)
{
    (void)matching_end_ticket(n, t);
}

static void look_at_pair(struct node *n, struct pair *p)
{
    int64_t age = mono_diff_ms(p->seen, n->now);
    if (p->driver || p->sending || !pair_mine(n, p->queue))
        return;
    if (p->state < PAIR_MADE) {
        bool own = strcmp(p->boot.s, core_self(n->core)->boot) == 0;
        int64_t patience = MATCH_FOREIGN_MS + p->confirm_ms;
        if (own || !alive(n, &p->server, &p->boot) || age > patience)
            p->sending = matching_write_pair(n, p, ERRAND_MEND_PAIR, PAIR_UNDONE, p->revision);
    } else if (p->state == PAIR_UNDONE) {
        if (!held(n, p, give_back) && age > MATCH_LATE_MS)
            p->sending = matching_end_pair(n, p);
    } else if (!held(n, p, age > MATCH_MADE_KEEP_MS ? end : NULL)) {
        p->sending = matching_end_pair(n, p);
    }
}

/* True: it is so for longer than `ms`. */
static bool so_for(struct node *n, struct match_ticket *t, bool so, int64_t ms)
{
    if (so && !t->orphan)
        t->orphan_since = n->now;
    t->orphan = so;
    return so && mono_diff_ms(t->orphan_since, n->now) > ms;
}

static void look_at_ticket(struct node *n, struct match_ticket *t)
{
    if (t->busy || t->sending)
        return;
    if (t->state == MATCH_MATCHED) {
        if (so_for(n, t, !matching_pair(n, t->match.s), MATCH_LATE_MS) && matching_look(n, &t->match))
            t->orphan = false;
        return;
    }
    if (so_for(n, t, !alive(n, &t->server, &t->boot), n->config.hold_ms))
        end(n, t);
}

void mend_looked(struct node *n, const struct errand *e, const struct bus_event *ev)
{
    const struct matching *mm = n->matching;
    if (ev->result != BUS_NOT_FOUND || matching_pair(n, e->match.s))
        return;
    for (struct map_iter it = map_first(&mm->book.tickets); it.value; map_next(&it)) {
        struct match_ticket *t = it.value;
        if (t->state == MATCH_MATCHED && strcmp(t->match.s, e->match.s) == 0)
            give_back(n, t);
    }
}

void mend_tick(struct node *n)
{
    struct matching *mm = n->matching;
    if (!mono_reached(n->now, mm->next_mend))
        return;
    mm->next_mend = mono_add_ms(n->now, LOOK_MS);
    for (struct map_iter it = map_first(&mm->pairs); it.value;) {
        struct pair *p = it.value;
        map_next(&it);
        look_at_pair(n, p);
    }
    for (unsigned i = 0; i < mm->book.queue_count; i++) {
        struct match_queue_book *q = &mm->book.queues[i];
        if (!q->count || !pair_mine(n, q->queue))
            continue;
        for (struct match_ticket *t = q->first, *after; t; t = after) {
            after = t->next;
            look_at_ticket(n, t);
        }
    }
}
