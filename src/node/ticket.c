/*
 * Players of this node who wait for a match, and rooms here that wait for players.
 *
 * Decides: who may ask for a match, what he is told and when, and when his ticket leaves the queue: he asked for that, or has
 * waited for too long, or his session has ended. A ticket moves with its session: the gateway that has the session now writes
 * itself into it. What is told may be lost with a connection, so it is told again at the next welcome; a client knows matches
 * and tickets by their ids. Must not decide who is matched.
 *
 * A ticket is removed by compare-and-set, as it is taken for a match: of the two only one can be. So "left" is only said of a
 * ticket that no match can take any more.
 */
#include "node/matching.h"

#include <stdio.h>

enum { TICKET_LOST_MS = 10000 }; /* written, and not heard of since */

struct accept { /* of a player, until it is in his ticket */
    struct id match;
    bool yes;
};

static struct ask *ask_of(const struct node *n, const struct session *s)
{
    return s->match.ticket.s[0] ? map_get(&n->matching->asks, s->match.ticket.s) : NULL;
}

static struct ask *ask_new(struct node *n, const struct id *id, const struct id *queue)
{
    struct ask *a = alloc_get(n->alloc, sizeof(*a));
    if (!a)
        return NULL;
    a->id = *id;
    a->queue = *queue;
    a->since = n->now;
    if (!map_put_borrowed(&n->matching->asks, a->id.s, a)) {
        alloc_put(n->alloc, a, sizeof(*a));
        return NULL;
    }
    return a;
}

static void ask_free(struct node *n, struct ask *a)
{
    struct session *s = umap_get(&n->sessions, a->session);
    if (s && strcmp(s->match.ticket.s, a->id.s) == 0)
        s->match.ticket.s[0] = 0;
    map_del(&n->matching->asks, a->id.s);
    if (a->reply)
        alloc_put_str(n->alloc, a->reply);
    alloc_put(n->alloc, a, sizeof(*a));
}

void ticket_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->matching->asks); it.value; it = map_first(&n->matching->asks))
        ask_free(n, it.value);
    for (struct map_iter it = map_first(&n->matching->accepts); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct accept));
}

/* ---- what a player is told ---- */

static void tell_queued(struct node *n, struct session *s, const struct ask *a)
{
    struct wire_frame_queued f = {.id = a->request, .queue = a->queue, .ticket = a->id};
    session_send(n, s, WIRE_OP_QUEUED, &f);
}

static void tell_unmatched(struct node *n, struct session *s)
{
    struct wire_frame_unmatched f = {.id = s->match.over_request, .queue = s->match.over_queue, .ticket = s->match.over,
                                     .reason = wire_str(s->match.over_reason)};
    session_send(n, s, WIRE_OP_UNMATCHED, &f);
}

static void tell_confirm(struct node *n, struct session *s, const struct pair *p)
{
    int64_t left = p->confirm_ms - mono_diff_ms(p->seen, n->now);
    struct wire_frame_confirm f = {.queue = p->queue->name, .match = p->id, .wait_ms = left > 0 ? left : 0,
                                   .players = p->player_count};
    session_send(n, s, WIRE_OP_CONFIRM, &f);
}

/* His ticket, if it is of this match. */
static struct match_ticket *ticket_in(const struct node *n, const struct pair *p, const struct id *player, unsigned *at)
{
    for (unsigned i = 0; i < p->ticket_count; i++) {
        struct match_ticket *t = match_get(&n->matching->book, p->tickets[i].s);
        for (*at = 0; t && *at < t->player_count; ++*at)
            if (strcmp(t->players[*at].s, player->s) == 0)
                return t;
    }
    return NULL;
}

static void tell_matched(struct node *n, struct session *s, const struct pair *p, unsigned i)
{
    const struct view_server *v = view_server(core_view(n->core), p->server.s);
    const struct ask *a = ask_of(n, s);
    unsigned at;
    const struct match_ticket *t = ticket_in(n, p, &s->player, &at);
    bool own = a && t && strcmp(a->id.s, t->id.s) == 0, again = strcmp(s->match.told.s, p->id.s) == 0;
    struct wire_frame_matched f = {.queue = p->queue->name, .match = p->id, .room_id = p->room, .type = p->type,
                                   .team = p->teams[i], .server = p->server, .id = own ? a->request : 0, .has_id = own,
                                   .players.count = p->player_count};
    if (own)
        f.ticket = a->id;
    if (v && v->info.address[0]) {
        f.address = wire_str(v->info.address);
        f.port = v->info.port;
        f.has_port = true;
    }
    for (unsigned k = 0; k < p->player_count; k++)
        f.players.items[k] = wire_str(p->players[k].s);
    s->match.told = p->id;
    session_send(n, s, WIRE_OP_MATCHED, &f);
    if (!again)
        registry_matched_event(n, &s->player, p->queue->name.s, &p->id, &p->room, &p->type, t ? match_age_ms(t, n->now) : 0);
}

/* -1: he is not in it. */
static int place_of(const struct pair *p, const struct id *player)
{
    for (unsigned i = 0; i < p->player_count; i++)
        if (strcmp(p->players[i].s, player->s) == 0)
            return (int)i;
    return -1;
}

void ticket_pair(struct node *n, struct pair *p)
{
    for (unsigned i = 0; i < p->player_count; i++) {
        struct session *s = map_get(&n->matching->by_player, p->players[i].s);
        if (s && p->state == PAIR_MADE && strcmp(s->match.told.s, p->id.s) != 0) {
            tell_matched(n, s, p, i);
        } else if (s && p->state == PAIR_ASKING && strcmp(s->match.asked.s, p->id.s) != 0) {
            s->match.asked = p->id;
            tell_confirm(n, s, p);
        }
    }
}

/* Whoever waits for a match, was asked, or has one, hears so again. */
static void tell_again(struct node *n, struct session *s)
{
    const struct ask *a = ask_of(n, s);
    const struct match_ticket *t = a ? match_get(&n->matching->book, a->id.s) : NULL;
    if (a && a->written && (!t || t->state == MATCH_WAITING))
        tell_queued(n, s, a);
    if (s->match.over.s[0])
        tell_unmatched(n, s);
    for (struct map_iter it = map_first(&n->matching->pairs); it.value; map_next(&it)) {
        const struct pair *p = it.value;
        int i = p->state == PAIR_MADE || p->state == PAIR_ASKING ? place_of(p, &s->player) : -1;
        unsigned at;
        if (i >= 0 && p->state == PAIR_MADE && ticket_in(n, p, &s->player, &at))
            tell_matched(n, s, p, (unsigned)i);
        else if (i >= 0 && p->state == PAIR_ASKING)
            tell_confirm(n, s, p);
    }
}

/* A ticket of this session, by way of another gateway. */
static void take_over(struct node *n, struct session *s, const struct match_ticket *t)
{
    struct ask *a = ask_new(n, &t->id, &t->queue->name);
    if (!a)
        return; /* it waits on, until its gateway is found to be gone */
    a->session = s->serial;
    a->request = t->request;
    a->written = a->there = true;
    if (t->queue->max_wait_ms)
        a->deadline = mono_add_ms(t->since, t->queue->max_wait_ms);
    s->match.ticket = t->id;
}

void ticket_welcome(struct node *n, struct session *s, bool resumed)
{
    struct match_ticket *t = n->matching ? match_of_leader(&n->matching->book, s->player.s) : NULL;
    if (!n->matching)
        return;
    if (t && strcmp(t->session.s, s->id.s) != 0) {
        if (!resumed)
            (void)matching_end_ticket(n, t); /* of a session that is no more */
    } else if (t && !s->match.ticket.s[0] && !map_get(&n->matching->asks, t->id.s)) {
        take_over(n, s, t);
    }
    if (resumed)
        tell_again(n, s);
}

/* ---- what a player says ---- */

static int read_party(struct node *n, const struct session *s, const struct queue *q, const struct wire_frame_match *m,
                      struct match_info *out, struct err_detail *detail)
{
    out->players[0] = s->player;
    out->player_count = 1;
    for (uint32_t i = 0; i < m->party.count; i++) {
        struct id player;
        if (!id_set_n(&player, m->party.items[i].data, m->party.items[i].len))
            return err_set(detail, ROOM_E_INVALID, "party: '%.*s' is no player's id", (int)m->party.items[i].len,
                           m->party.items[i].data);
        if (strcmp(player.s, s->player.s) == 0)
            continue;
        for (unsigned k = 0; k < out->player_count; k++)
            if (strcmp(out->players[k].s, player.s) == 0)
                return err_set(detail, ROOM_E_INVALID, "party: '%s' is named twice", player.s);
        if (out->player_count == QUEUE_PARTY_MAX)
            return err_set(detail, ROOM_E_TOO_BIG, "a party has %d players at most", QUEUE_PARTY_MAX);
        out->players[out->player_count++] = player;
    }
    if (out->player_count > q->team_size)
        return err_set(detail, ROOM_E_TOO_BIG, "a party of %u does not fit into a team of queue '%s', which has %u players",
                       out->player_count, q->name.s, q->team_size);
    return 0;
}

static int may_wait(struct node *n, const struct session *s, const struct queue *q, struct err_detail *detail)
{
    if (!q)
        return err_set(detail, ROOM_E_NOT_FOUND, "no such matchmaking queue on this node; see its --queue options");
    if (s && s->match.ticket.s[0])
        return err_set(detail, ROOM_E_ALREADY, "this session has a ticket already: say unmatch first");
    if (n->draining || n->stopping)
        return err_set(detail, ROOM_E_DRAINING, "this node takes nothing new; go where `reconnect` says");
    if (!matching_ready(n))
        return err_set(detail, ROOM_E_UNAVAILABLE, "the registry of matchmaking cannot be reached now; try again in a second");
    if (n->matching->book.tickets.count >= MATCH_TICKETS_MAX)
        return err_set(detail, ROOM_E_FULL, "%d tickets wait already; try again later", MATCH_TICKETS_MAX);
    return 0;
}

static struct ask *write_ticket(struct node *n, const struct queue *q, struct match_info *info)
{
    char id[ULID_SIZE];
    id_ulid(id, n->wall, &n->rng);
    id_set(&info->id, id);
    info->server = core_self(n->core)->id;
    id_set(&info->boot, core_self(n->core)->boot);
    info->state = MATCH_WAITING;
    info->since = n->wall;
    struct ask *a = ask_new(n, &info->id, &q->name);
    if (a && !matching_write_new(n, q, info)) {
        ask_free(n, a);
        a = NULL;
    }
    if (a && q->max_wait_ms)
        a->deadline = mono_add_ms(n->now, q->max_wait_ms - info->age_ms);
    return a;
}

void ticket_match(struct node *n, struct session *s, const struct wire_frame_match *m)
{
    struct err_detail detail = {""};
    struct match_info info = {.session = s->id, .request = m->id};
    if (!n->matching) {
        session_error(n, s, m->id, ROOM_E_UNSUPPORTED, "this node has no matchmaking queues");
        return;
    }
    struct ask *a = ask_of(n, s);
    if (a && s->resumed && a->request == m->id) { /* asked again, because the answer may have been lost */
        if (a->written && !a->made)
            tell_queued(n, s, a);
        return;
    }
    if (s->resumed && s->match.over.s[0] && s->match.over_request == m->id) {
        tell_unmatched(n, s);
        return;
    }
    const struct queue *q = queues_find(n->config.queues, m->queue.s);
    int code = may_wait(n, s, q, &detail);
    if (!code)
        code = read_party(n, s, q, m, &info, &detail);
    if (!code)
        code = matching_properties(q, m->properties, &info, &detail);
    if (!code && !(a = write_ticket(n, q, &info)))
        code = err_set(&detail, ROOM_E_UNAVAILABLE, "the ticket could not be written now; try again in a second");
    if (code) {
        session_error(n, s, m->id, code, detail.text);
        return;
    }
    a->session = s->serial;
    a->request = m->id;
    s->match.ticket = a->id;
    s->match.over.s[0] = 0;
}

void ticket_unmatch(struct node *n, struct session *s, const struct wire_frame_unmatch *m)
{
    struct ask *a = n->matching ? ask_of(n, s) : NULL;
    if (!n->matching)
        session_error(n, s, m->id, ROOM_E_UNSUPPORTED, "this node has no matchmaking queues");
    else if (!a || strcmp(a->queue.s, m->queue.s) != 0)
        session_error(n, s, m->id, ROOM_E_NOT_FOUND, "this session has no ticket in that queue");
    else if (a->made)
        session_error(n, s, m->id, ROOM_E_ALREADY, "too late: it is matched");
    else if (!a->reason) { /* at the next look it leaves, if it can */
        a->reason = "left";
        a->leave = m->id;
    }
}

void ticket_accept(struct node *n, struct session *s, const struct wire_frame_accept *m)
{
    const struct pair *p = n->matching ? matching_pair(n, m->match.s) : NULL;
    if (!p || p->state != PAIR_ASKING || place_of(p, &s->player) < 0) {
        session_error(n, s, m->id, ROOM_E_NOT_FOUND, "this player is not asked about that match, or not any more");
        return;
    }
    struct accept *x = map_get(&n->matching->accepts, s->player.s);
    if (!x && (!(x = alloc_get(n->alloc, sizeof(*x))) || !map_put(&n->matching->accepts, s->player.s, x))) {
        alloc_put(n->alloc, x, sizeof(*x));
        session_error(n, s, m->id, ROOM_E_NO_MEMORY, NULL);
        return;
    }
    *x = (struct accept){.match = m->match, .yes = m->accept};
}

/* Until it is in the ticket, over any other write of it. */
static bool accepting(struct node *n, const char *player, const struct accept *x)
{
    const struct pair *p = matching_pair(n, x->match.s);
    struct id id;
    unsigned at;
    id_set(&id, player);
    struct match_ticket *t = p && p->state == PAIR_ASKING ? ticket_in(n, p, &id, &at) : NULL;
    if (!t || (x->yes && (t->accepted & 1u << at)))
        return false;
    struct errand e = {.kind = ERRAND_TICKET, .ticket = t->id, .match = p->id, .room = p->room, .state = MATCH_MATCHED,
                       .accepted = t->accepted | 1u << at};
    if (t->state != MATCH_MATCHED || strcmp(t->match.s, p->id.s) != 0 || t->sending)
        return true;
    if (x->yes)
        (void)matching_write_ticket(n, t, &e);
    else
        (void)matching_end_ticket(n, t);
    return true;
}

/* ---- a room that wants players ---- */

int ticket_backfill(struct node *n, const struct wire_ctl_request *q, const char *reply, struct err_detail *detail)
{
    const struct queue *queue = n->matching ? queues_find(n->config.queues, q->queue.s) : NULL;
    struct match_info info = {.seats = q->has_count ? (unsigned)q->count : 0, .room = q->room};
    if (!n->matching)
        return err_set(detail, ROOM_E_UNSUPPORTED, "this node has no matchmaking queues");
    if (!host_find(n->host, q->room.s))
        return err_set(detail, ROOM_E_NOT_FOUND, "room '%s' does not run on this node", q->room.s);
    if (!info.seats)
        return err_set(detail, ROOM_E_INVALID, "backfill needs count: how many players the room wants");
    int code = may_wait(n, NULL, queue, detail);
    if (!code)
        code = matching_properties(queue, q->properties, &info, detail);
    struct ask *a = code ? NULL : write_ticket(n, queue, &info);
    if (!code && !a)
        return err_set(detail, ROOM_E_UNAVAILABLE, "the ticket could not be written now; try again in a second");
    if (a) {
        a->seats = info.seats;
        a->reply = alloc_str(n->alloc, reply); /* without memory there is no answer */
    }
    return code;
}

/* ---- what becomes of tickets ---- */

void ticket_written(struct node *n, const struct id *ticket, bool ok, uint64_t revision)
{
    struct ask *a = map_get(&n->matching->asks, ticket->s);
    if (!a)
        return; /* its session was gone before: look() ends it */
    struct session *s = umap_get(&n->sessions, a->session);
    if (!ok && !a->there) {
        if (s)
            session_error(n, s, a->request, ROOM_E_UNAVAILABLE, "the registry did not take the ticket; try again");
        if (a->reply)
            ctl_backfilled(n, a->reply, NULL);
        ask_free(n, a);
        return;
    }
    a->written = true;
    if (s && !a->reason)
        tell_queued(n, s, a);
    if (a->reply)
        ctl_backfilled(n, a->reply, &a->id);
}

/* Its ticket is gone from the bucket. */
static void over(struct node *n, struct ask *a)
{
    struct session *s = umap_get(&n->sessions, a->session);
    if (s && !a->made) {
        s->match.over = a->id;
        s->match.over_queue = a->queue;
        s->match.over_request = a->request;
        s->match.over_reason = a->reason ? a->reason : a->asked ? "unconfirmed" : "withdrawn";
        tell_unmatched(n, s);
    }
    ask_free(n, a);
}

/* The players of a match that is made have no use for its ticket once they are in the room, or their seats are lost. */
static bool of_no_use(const struct node *n, const struct ask *a, const struct match_ticket *t)
{
    const struct session *s = umap_get(&n->sessions, a->session);
    if (!s || mono_reached(n->now, a->gone_at))
        return true;
    for (const struct place *p = s->places; p && t->player_count == 1; p = p->next)
        if (p->joined && strcmp(p->room.s, t->room.s) == 0)
            return true;
    return false;
}

/* A room that has got fewer players than it wants goes on waiting, as long as it has. */
static void want_the_rest(struct node *n, const struct ask *a, const struct match_ticket *t, unsigned got)
{
    struct match_info info = {.seats = a->seats - got, .room = t->room, .age_ms = match_age_ms(t, n->now)};
    struct wire_raw properties = {t->properties, (uint32_t)t->properties_len};
    struct ask *rest = NULL;
    if (got < a->seats && matching_properties(t->queue, properties, &info, NULL) == 0 && (rest = write_ticket(n, t->queue, &info)))
        rest->seats = info.seats;
}

static void look(struct node *n, struct ask *a)
{
    struct match_ticket *t = match_get(&n->matching->book, a->id.s);
    const struct pair *p = t && t->state == MATCH_MATCHED ? matching_pair(n, t->match.s) : NULL;
    a->there |= t != NULL;
    if (!t) {
        if (a->there || (a->written && mono_diff_ms(a->since, n->now) > TICKET_LOST_MS))
            over(n, a);
        return;
    }
    a->asked |= p && p->state == PAIR_ASKING;
    if (p && p->state == PAIR_MADE && !a->made) {
        a->made = true;
        a->gone_at = mono_add_ms(n->now, n->config.seat_ttl_ms);
        if (a->seats)
            want_the_rest(n, a, t, p->player_count);
        struct session *s = a->leave ? umap_get(&n->sessions, a->session) : NULL;
        if (s)
            session_error(n, s, a->leave, ROOM_E_ALREADY, "too late: it is matched");
    }
    if (!a->reason && !a->made && a->deadline.us && mono_reached(n->now, a->deadline))
        a->reason = "timeout";
    if (a->seats && !host_find(n->host, t->room.s))
        a->reason = "room_ended";
    if (t->sending)
        return;
    bool mine = strcmp(t->boot.s, core_self(n->core)->boot) == 0;
    if (a->made ? of_no_use(n, a, t) : a->reason && t->state == MATCH_WAITING) {
        (void)matching_end_ticket(n, t);
    } else if (!mine && t->state == MATCH_WAITING) {
        struct errand e = {.kind = ERRAND_TICKET, .ticket = t->id, .state = MATCH_WAITING, .mine = true};
        (void)matching_write_ticket(n, t, &e);
    }
}

/* Tickets that name this node, and nobody here knows of: written when that was not known any more, or their session went to
 * another gateway, and has not come there. */
static void look_for_strays(struct node *n)
{
    const struct match *book = &n->matching->book;
    for (struct map_iter it = map_first(&book->tickets); it.value; map_next(&it)) {
        struct match_ticket *t = it.value;
        bool stray = strcmp(t->boot.s, core_self(n->core)->boot) == 0 && !map_get(&n->matching->asks, t->id.s);
        if (stray && !t->stray)
            t->stray_since = n->now;
        t->stray = stray;
        if (stray && t->state == MATCH_WAITING && !t->busy && mono_diff_ms(t->stray_since, n->now) > n->config.hold_ms)
            (void)matching_end_ticket(n, t);
    }
}

void ticket_tick(struct node *n)
{
    struct matching *mm = n->matching;
    for (struct map_iter it = map_first(&mm->asks); it.value;) {
        struct ask *a = it.value;
        map_next(&it);
        look(n, a);
    }
    for (struct map_iter it = map_first(&mm->accepts); it.value;) {
        struct accept *x = it.value;
        struct map_iter at = it;
        map_next(&it);
        if (accepting(n, at.key, x))
            continue;
        map_del(&mm->accepts, at.key);
        alloc_put(n->alloc, x, sizeof(*x));
    }
    if (mono_reached(n->now, mm->next_mend) && matching_ready(n))
        look_for_strays(n);
}

void ticket_session_gone(struct node *n, struct session *s)
{
    if (!n->matching)
        return;
    struct ask *a = ask_of(n, s);
    if (map_get(&n->matching->by_player, s->player.s) == s)
        map_del(&n->matching->by_player, s->player.s);
    if (a && s->moved) {
        ask_free(n, a); /* its next gateway takes it over */
    } else if (a) {
        a->session = 0;
        a->reason = "gone";
    }
}
