/*
 * Matches that this node makes, because it is first in rank for their queue.
 *
 * Decides: when a match is looked for, and each step of one: its entry, its tickets, its players' consent if the queue wants
 * that, its seats, and the change of its entry that makes it stand. Whatever fails before that, the match is undone: nobody is
 * told of it, and its tickets go on waiting with their age. Must not tell players (ticket.c).
 * Invariant: a match is made only if all its tickets were taken for it, each in the revision in which it waited, and a seat is
 * reserved for each of its players.
 * The oldest ticket is taken first, by itself: where two nodes believe that they are first in rank they meet there, before
 * more is written.
 */
#include "node/matching.h"

#include <stdio.h>

enum { FIND_MS = 500 };

static void next(struct node *n, struct pair *p);

bool pair_mine(const struct node *n, const struct queue *q)
{
    const struct server_info *self = core_self(n->core);
    uint64_t bit = registry_queue_bit(q->name.s);
    char subject[ID_SIZE + 8];
    snprintf(subject, sizeof(subject), "queue %s", q->name.s);
    if (!core_may_serve(n->core) || self->status != SERVER_UP || n->draining)
        return false;
    uint64_t own = view_rank(subject, self->id.s);
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value; map_next(&it)) {
        const struct view_server *v = it.value;
        bool able = strcmp(it.key, self->id.s) != 0 && view_server_usable(v) && v->info.status == SERVER_UP && (v->info.queues & bit);
        if (able && view_rank(subject, it.key) > own)
            return false;
    }
    return true;
}

/* ---- its end ---- */

static void let_go(struct node *n, struct pair *p)
{
    bool failed = p->state != PAIR_MADE;
    for (unsigned i = 0; i < p->ticket_count; i++) {
        struct match_ticket *t = match_get(&n->matching->book, p->tickets[i].s);
        if (!t)
            continue;
        t->busy = false;
        if (failed)
            t->not_before = mono_add_ms(n->now, MATCH_RETRY_MS);
    }
    n->matching->driven--;
    alloc_put(n->alloc, p->driver, sizeof(*p->driver));
    p->driver = NULL;
    p->seen = n->now;
    if (!p->revision)
        matching_pair_free(n, p); /* if it is written after all, the bucket tells of it */
}

void pair_lost(struct node *n, struct pair *p)
{
    if (n->config.log)
        LOG_WRN("match taken away", "match=%s queue=%s step=%d", p->id.s, p->queue->name.s, p->driver->step);
    let_go(n, p);
}

/* A room that was made for it, and that nobody will come to. */
static void close_room(struct node *n, const struct pair *p, const struct id *server)
{
    char subject[SUBJECT_SIZE];
    struct errand e = {.kind = ERRAND_CLOSE};
    struct wire_ctl_request q = {.op = WIRE_CTL_REQUEST_OP_CLOSE, .room = p->room};
    const struct match_ticket *first = match_get(&n->matching->book, p->tickets[0].s);
    uint64_t token;
    buf_reset(&n->scratch);
    if (!server->s[0] || !first || first->seats || wire_ctl_request_to_json(&q, &n->scratch) || !matching_errand(n, &e, &token))
        return;
    subject_server(subject, server->s, "ctl");
    if (bus_request(n->bus, token, subject, n->scratch.data, n->scratch.len, MATCH_KV_MS))
        alloc_put(n->alloc, umap_del(&n->matching->errands, token & TOKEN_MASK), sizeof(struct errand));
}

static void undo(struct node *n, struct pair *p)
{
    struct driver *d = p->driver;
    n->matching->undone++;
    if (n->config.log)
        LOG_INF("match undone", "match=%s queue=%s reason=\"%s\"", p->id.s, p->queue->name.s, d->why ? d->why : "a ticket is gone");
    close_room(n, p, &d->server);
    d->step = DRIVER_UNDO;
    d->pending = 1;
    if (!p->revision || !matching_write_pair(n, p, ERRAND_PAIR, PAIR_UNDONE, p->revision))
        let_go(n, p); /* mend.c goes on */
}

/* ---- its seats ---- */

static size_t options_of(struct node *n, const struct pair *p)
{
    unsigned teams = p->queue->teams;
    buf_reset(&n->frame);
    mp_write_map(&n->frame, 3);
    mp_write_text(&n->frame, "match");
    mp_write_text(&n->frame, p->id.s);
    mp_write_text(&n->frame, "queue");
    mp_write_text(&n->frame, p->queue->name.s);
    mp_write_text(&n->frame, "teams");
    mp_write_array(&n->frame, teams);
    for (unsigned team = 0; team < teams; team++) {
        uint32_t count = 0;
        for (unsigned i = 0; i < p->player_count; i++)
            count += p->teams[i] == team;
        mp_write_array(&n->frame, count);
        for (unsigned i = 0; i < p->player_count; i++)
            if (p->teams[i] == team)
                mp_write_text(&n->frame, p->players[i].s);
    }
    return n->frame.failed ? 0 : n->frame.len;
}

/* The first seat comes with the room; the creation's id is the match's, so that who asks again finds the same one. */
static bool seat(struct node *n, struct pair *p, unsigned i, bool create)
{
    struct request *r = alloc_get(n->alloc, sizeof(*r));
    uint64_t number = ++n->last_request;
    struct queued *q = NULL;
    if (r && create && (r->options_len = options_of(n, p)) && (r->options = alloc_get(n->alloc, r->options_len)))
        memcpy(r->options, n->frame.data, r->options_len);
    if (r && (r->options || !create) && umap_put(&n->requests, number, r) && !(q = step_event(n, CORE_EV_JOIN)))
        umap_del(&n->requests, number);
    if (!q) {
        if (r)
            r->options_len = r->options ? r->options_len : 0;
        if (r)
            call_free(n, r);
        return false;
    }
    r->match = p->id;
    q->ev.req = number;
    q->ev.join_mode = create ? CORE_CREATE : CORE_JOIN;
    q->call = (struct core_call){.type = p->type, .player = p->players[i], .is_private = true, .options = r->options,
                                 .options_len = r->options_len};
    if (create)
        q->call.create_id = p->id;
    else
        q->call.room = p->room;
    q->ev.call = &q->call;
    return true;
}

static void seats(struct node *n, struct pair *p)
{
    struct driver *d = p->driver;
    const struct match_ticket *first = match_get(&n->matching->book, p->tickets[0].s);
    bool create = first && !first->seats && !d->seated;
    unsigned until = create ? 1 : p->player_count;
    d->step = DRIVER_SEAT;
    for (unsigned i = d->seated; i < until; i++)
        if (seat(n, p, i, create))
            d->pending++;
        else
            d->failed = true;
    if (!d->pending)
        next(n, p);
}

void pair_seated(struct node *n, const struct id *match, const struct core_answer *a)
{
    struct pair *p = n->matching ? matching_pair(n, match->s) : NULL;
    struct driver *d = p ? p->driver : NULL;
    if (!d || d->step != DRIVER_SEAT)
        return; /* the seat's ticket expires */
    d->pending--;
    if (a->code) {
        d->failed = true;
        d->why = room_error_text(a->code);
    } else {
        d->seated++;
        d->server = a->server;
        p->room = a->room;
    }
    if (!d->pending)
        next(n, p);
}

/* ---- its steps ---- */

static void take(struct node *n, struct pair *p, unsigned from, unsigned until)
{
    struct driver *d = p->driver;
    struct errand e = {.kind = ERRAND_TAKE, .match = p->id, .room = p->room, .state = MATCH_MATCHED};
    for (unsigned i = from; i < until; i++) {
        struct match_ticket *t = match_get(&n->matching->book, p->tickets[i].s);
        e.ticket = p->tickets[i];
        if (t && t->state == MATCH_WAITING && !t->sending && matching_write_ticket(n, t, &e))
            d->pending++;
        else
            d->failed = true;
    }
    d->step = from ? DRIVER_TAKE : DRIVER_FIRST;
    if (!d->pending)
        next(n, p);
}

static void write_entry(struct node *n, struct pair *p, enum driver_step step, enum pair_state state)
{
    struct driver *d = p->driver;
    d->step = step;
    d->pending = 1;
    if (matching_write_pair(n, p, ERRAND_PAIR, state, p->revision))
        return;
    d->pending = 0;
    d->failed = true;
    next(n, p);
}

static void commit(struct node *n, struct pair *p)
{
    struct id self = p->server;
    p->server = p->driver->server;
    write_entry(n, p, DRIVER_MAKE, PAIR_MADE);
    if (matching_pair(n, p->id.s) == p && p->driver)
        p->server = self;
}

static void made(struct node *n, struct pair *p)
{
    fault_point("match_made");
    n->matching->made++;
    p->server = p->driver->server;
    p->state = PAIR_MADE;
    if (n->config.log)
        LOG_INF("match made", "match=%s queue=%s room=%s server=%s players=%u", p->id.s, p->queue->name.s, p->room.s, p->server.s,
                p->player_count);
    let_go(n, p);
    ticket_pair(n, p);
}

/* What was under way is done: on to what comes after it. */
static void next(struct node *n, struct pair *p)
{
    struct driver *d = p->driver;
    if (d->failed) {
        undo(n, p);
        return;
    }
    switch (d->step) {
    case DRIVER_WRITE:
        fault_point("match_written");
        take(n, p, 0, 1);
        return;
    case DRIVER_FIRST:
        fault_point("match_half");
        if (p->ticket_count > 1) {
            take(n, p, 1, p->ticket_count);
            return;
        }
        /* fall through */
    case DRIVER_TAKE:
        fault_point("match_taken");
        if (!p->queue->confirm_ms) {
            seats(n, p);
            return;
        }
        p->confirm_ms = p->queue->confirm_ms;
        write_entry(n, p, DRIVER_ASK, PAIR_ASKING);
        return;
    case DRIVER_ASK:
        d->step = DRIVER_ACCEPT;
        d->deadline = mono_add_ms(n->now, p->confirm_ms);
        p->state = PAIR_ASKING;
        ticket_pair(n, p);
        return;
    case DRIVER_SEAT:
        if (d->seated < p->player_count) {
            seats(n, p);
            return;
        }
        fault_point("match_seated");
        commit(n, p);
        return;
    default: /* DRIVER_MAKE */
        made(n, p);
        return;
    }
}

/* A write of the entry, or of one of its tickets, by its driver. */
void pair_done(struct node *n, const struct errand *e, const struct bus_event *ev)
{
    struct pair *p = matching_pair(n, e->match.s);
    struct driver *d = p ? p->driver : NULL;
    bool entry = e->kind == ERRAND_PAIR, ok = ev->result == BUS_OK;
    if (!d || (entry ? d->step == DRIVER_TAKE || d->step == DRIVER_FIRST : d->step != DRIVER_TAKE && d->step != DRIVER_FIRST))
        return;
    d->pending--;
    d->failed |= !ok;
    if (!ok && ev->result != BUS_CONFLICT)
        d->why = "the bucket did not answer";
    if (entry && ok && ev->revision > p->revision)
        p->revision = ev->revision;
    if (d->step == DRIVER_UNDO) {
        p->state = ok ? PAIR_UNDONE : p->state;
        let_go(n, p);
        if (ok)
            mend_undone(n, p);
    } else if (d->step == DRIVER_MAKE && !ok) {
        let_go(n, p); /* made or not: the bucket tells, or mend.c undoes it by the same compare-and-set */
    } else if (!d->pending) {
        next(n, p);
    }
}

/* Has everybody said that he is there? */
static void look_at_consent(struct node *n, struct pair *p)
{
    struct driver *d = p->driver;
    bool late = mono_reached(n->now, d->deadline), all = true;
    for (unsigned i = 0; i < p->ticket_count; i++) {
        struct match_ticket *t = match_get(&n->matching->book, p->tickets[i].s);
        bool ours = t && t->state == MATCH_MATCHED && strcmp(t->match.s, p->id.s) == 0;
        bool accepted = ours && t->accepted == (1u << t->player_count) - 1;
        all = all && accepted;
        d->failed |= !ours;
        if (ours && !accepted && late)
            (void)matching_end_ticket(n, t);
    }
    if (late && !all)
        d->failed = true;
    if (d->failed)
        d->why = "not all have accepted";
    if (d->failed)
        undo(n, p);
    else if (all)
        seats(n, p);
}

/* ---- its beginning ---- */

static void name_players(struct pair *p, const struct queue *q, struct match_ticket *const *tickets, const uint8_t *teams)
{
    unsigned at = 0;
    for (unsigned team = 0; team < q->teams; team++)
        for (unsigned i = 0; i < p->ticket_count; i++)
            for (unsigned k = 0; teams[i] == team && k < tickets[i]->player_count; k++) {
                p->teams[at] = (uint8_t)team;
                p->players[at++] = tickets[i]->players[k];
            }
    for (unsigned i = 0; i < p->ticket_count; i++)
        p->tickets[i] = tickets[i]->id;
}

static bool found(void *arg, struct match_ticket *const *tickets, const uint8_t *teams, unsigned count)
{
    struct node *n = arg;
    const struct queue *q = tickets[0]->queue;
    char id[ULID_SIZE], room[ULID_SIZE];
    unsigned players = 0;
    for (unsigned i = 0; i < count; i++)
        players += tickets[i]->player_count;
    if (n->matching->driven >= MATCH_PAIRS_MAX)
        return false;
    id_ulid(id, n->wall, &n->rng);
    id_derived(room, q->type.s, id);
    struct pair *p = matching_pair_new(n, id, count, players);
    if (!p || !(p->driver = alloc_get(n->alloc, sizeof(*p->driver)))) {
        if (p)
            matching_pair_free(n, p);
        return false;
    }
    p->queue = q;
    p->type = q->type;
    p->state = PAIR_OPEN;
    id_set(&p->room, tickets[0]->seats ? tickets[0]->room.s : room);
    p->server = core_self(n->core)->id;
    id_set(&p->boot, core_self(n->core)->boot);
    time_rfc3339(n->wall, p->since);
    name_players(p, q, tickets, teams);
    n->matching->driven++;
    p->driver->step = DRIVER_WRITE;
    p->driver->pending = 1;
    if (matching_write_pair(n, p, ERRAND_PAIR, PAIR_OPEN, 0))
        return true;
    let_go(n, p);
    return false;
}

void pair_tick(struct node *n)
{
    struct matching *mm = n->matching;
    bool again = mono_reached(n->now, mm->next_find);
    for (struct map_iter it = map_first(&mm->pairs); it.value && mm->driven;) {
        struct pair *p = it.value;
        map_next(&it);
        if (p->driver && p->driver->step == DRIVER_ACCEPT)
            look_at_consent(n, p);
    }
    for (unsigned i = 0; i < mm->book.queue_count; i++) {
        struct match_queue_book *q = &mm->book.queues[i];
        if (!q->waiting || !(again || q->dirty) || mm->driven >= MATCH_PAIRS_MAX || !pair_mine(n, q->queue))
            continue;
        q->dirty = false;
        q->dirty = match_find(&mm->book, q, n->now, found, n);
    }
    if (again)
        mm->next_find = mono_add_ms(n->now, FIND_MS);
    step_run(n);
}
