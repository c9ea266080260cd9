/*
 * See matching.h: the bucket `matchmaking`.
 *
 * Decides: how a ticket and a match look there, which of what is told of them counts (the newer revision), and where the
 * outcome of a write goes. Must not decide who is matched (core/match.c), nor what becomes of a match (pair.c, mend.c).
 * Invariant: what this node knows of a ticket is never newer than the bucket, and what it writes is refused if it is older.
 */
#include "node/matching.h"

#include <stdio.h>

/* ---- tables ---- */

struct pair *matching_pair(const struct node *n, const char *id)
{
    return map_get(&n->matching->pairs, id);
}

const char *matching_key(char key[MATCH_KEY_SIZE], const struct id *match)
{
    snprintf(key, MATCH_KEY_SIZE, "match-%.57s", match->s);
    return key;
}

void matching_pair_free(struct node *n, struct pair *p)
{
    map_del(&n->matching->pairs, p->id.s);
    alloc_put(n->alloc, p->tickets, p->ticket_count * sizeof(*p->tickets));
    alloc_put(n->alloc, p->players, p->player_count * sizeof(*p->players));
    alloc_put(n->alloc, p->teams, p->player_count);
    alloc_put(n->alloc, p->driver, sizeof(*p->driver));
    alloc_put(n->alloc, p, sizeof(*p));
}

struct pair *matching_pair_new(struct node *n, const char *id, unsigned tickets, unsigned players)
{
    struct pair *p = n->matching->pairs.count < MATCH_TICKETS_MAX ? alloc_get(n->alloc, sizeof(*p)) : NULL;
    if (!p)
        return NULL;
    id_set(&p->id, id);
    p->tickets = alloc_get(n->alloc, tickets * sizeof(*p->tickets));
    p->players = alloc_get(n->alloc, players * sizeof(*p->players));
    p->teams = alloc_get(n->alloc, players);
    p->ticket_count = p->tickets ? tickets : 0;
    p->player_count = p->players && p->teams ? players : 0;
    p->seen = n->now;
    p->sweep = n->matching->sweep;
    if (!p->tickets || !p->players || !p->teams || !map_put_borrowed(&n->matching->pairs, p->id.s, p)) {
        alloc_put(n->alloc, p->players, players * sizeof(*p->players));
        alloc_put(n->alloc, p->teams, players);
        p->players = NULL;
        p->teams = NULL;
        matching_pair_free(n, p);
        return NULL;
    }
    return p;
}

struct errand *matching_errand(struct node *n, const struct errand *e, uint64_t *token)
{
    struct matching *mm = n->matching;
    struct errand *kept = alloc_get(n->alloc, sizeof(*kept));
    if (!kept || !umap_put(&mm->errands, ++mm->last_errand, kept)) {
        alloc_put(n->alloc, kept, sizeof(*kept));
        return NULL;
    }
    *kept = *e;
    *token = mm->last_errand | (uint64_t)TOKEN_MATCH << TOKEN_SHIFT;
    return kept;
}

static bool sent(struct node *n, uint64_t token, int rc)
{
    if (rc == 0)
        return true;
    alloc_put(n->alloc, umap_del(&n->matching->errands, token & TOKEN_MASK), sizeof(struct errand));
    return false;
}

bool matching_ready(const struct node *n)
{
    return n->matching->listed && cluster_has_matchmaking(n) && n->bus_up && core_may_serve(n->core);
}

/* ---- writing ---- */

static int pack_ticket(struct node *n, const char *queue, const struct match_info *i)
{
    char since[TIME_RFC3339_SIZE];
    time_rfc3339(i->since, since);
    struct wire_match_ticket w = {.properties = {i->properties, (uint32_t)i->properties_len}, .since = wire_str(since),
                                  .age_ms = i->age_ms, .server = i->server, .boot = i->boot, .session = i->session,
                                  .match = i->match, .room = i->room, .seats = i->seats, .has_seats = i->seats != 0,
                                  .accepted = i->accepted, .has_accepted = i->accepted != 0, .request = i->request,
                                  .has_request = i->player_count != 0, .players.count = i->player_count,
                                  .state = i->state == MATCH_MATCHED ? WIRE_MATCH_TICKET_STATE_MATCHED
                                                                     : WIRE_MATCH_TICKET_STATE_WAITING};
    id_set(&w.queue, queue);
    for (unsigned k = 0; k < i->player_count; k++)
        w.players.items[k] = wire_str(i->players[k].s);
    buf_reset(&n->scratch);
    return wire_match_ticket_to_json(&w, &n->scratch);
}

static void myself(const struct node *n, struct id *server, struct id *boot)
{
    *server = core_self(n->core)->id;
    id_set(boot, core_self(n->core)->boot);
}

static struct match_info info_of(const struct node *n, const struct match_ticket *t)
{
    struct match_info i = {.id = t->id, .server = t->server, .boot = t->boot, .session = t->session, .match = t->match,
                           .room = t->room, .state = t->state, .revision = t->revision, .since = t->since_wall,
                           .age_ms = match_age_ms(t, n->now), .seats = t->seats, .player_count = t->player_count,
                           .accepted = t->accepted, .request = t->request, .properties = t->properties,
                           .properties_len = t->properties_len};
    for (unsigned k = 0; k < t->player_count; k++)
        i.players[k] = t->players[k];
    return i;
}

/* As the errand will have it. A room that wants players is named in its ticket all the time. */
static void change(const struct node *n, const struct match_ticket *t, const struct errand *e, struct match_info *i)
{
    i->state = e->state;
    i->match = e->match;
    i->accepted = e->accepted;
    if (!t->seats)
        i->room = e->room;
    if (e->mine)
        myself(n, &i->server, &i->boot);
}

bool matching_write_ticket(struct node *n, struct match_ticket *t, const struct errand *e)
{
    uint64_t token;
    struct match_info i = info_of(n, t);
    change(n, t, e, &i);
    if (pack_ticket(n, t->queue->name.s, &i) || !matching_errand(n, e, &token))
        return false;
    t->sending = sent(n, token, bus_kv_put(n->bus, token, "matchmaking", t->id.s, t->revision, n->scratch.data, n->scratch.len,
                                           MATCH_KV_MS));
    return t->sending;
}

bool matching_write_new(struct node *n, const struct queue *q, const struct match_info *info)
{
    uint64_t token;
    struct errand e = {.kind = ERRAND_NEW_TICKET, .ticket = info->id};
    return pack_ticket(n, q->name.s, info) == 0 && matching_errand(n, &e, &token) &&
           sent(n, token, bus_kv_put(n->bus, token, "matchmaking", info->id.s, 0, n->scratch.data, n->scratch.len, MATCH_KV_MS));
}

bool matching_end_ticket(struct node *n, struct match_ticket *t)
{
    uint64_t token;
    struct errand e = {.kind = ERRAND_END_TICKET, .ticket = t->id};
    if (t->sending || !matching_errand(n, &e, &token))
        return false;
    t->sending = sent(n, token, bus_kv_delete(n->bus, token, "matchmaking", t->id.s, t->revision, MATCH_KV_MS));
    return t->sending;
}

static int pack_pair(struct node *n, const struct pair *p, enum pair_state state)
{
    struct wire_match_entry w = {.queue = p->queue->name, .type = p->type, .room = p->room, .server = p->server,
                                 .boot = p->boot, .since = wire_str(p->since), .tickets.count = p->ticket_count,
                                 .players.count = p->player_count, .confirm_ms = p->confirm_ms,
                                 .has_confirm_ms = p->confirm_ms != 0,
                                 .state = (enum wire_match_entry_state)(state - PAIR_OPEN + WIRE_MATCH_ENTRY_STATE_OPEN)};
    for (unsigned i = 0; i < p->ticket_count; i++)
        w.tickets.items[i] = wire_str(p->tickets[i].s);
    buf_reset(&n->frame);
    mp_write_array(&n->frame, p->player_count);
    for (unsigned i = 0; i < p->player_count; i++) {
        w.players.items[i] = wire_str(p->players[i].s);
        mp_write_uint(&n->frame, p->teams[i]);
    }
    w.teams = (struct wire_raw){n->frame.data, (uint32_t)n->frame.len};
    buf_reset(&n->scratch);
    return n->frame.failed ? ROOM_E_NO_MEMORY : wire_match_entry_to_json(&w, &n->scratch);
}

bool matching_write_pair(struct node *n, struct pair *p, enum errand_kind kind, enum pair_state state, uint64_t expected)
{
    char key[MATCH_KEY_SIZE];
    uint64_t token;
    struct errand e = {.kind = kind, .match = p->id, .pair_state = state};
    return pack_pair(n, p, state) == 0 && matching_errand(n, &e, &token) &&
           sent(n, token, bus_kv_put(n->bus, token, "matchmaking", matching_key(key, &p->id), expected, n->scratch.data,
                                     n->scratch.len, MATCH_KV_MS));
}

bool matching_end_pair(struct node *n, struct pair *p)
{
    char key[MATCH_KEY_SIZE];
    uint64_t token;
    struct errand e = {.kind = ERRAND_END_PAIR, .match = p->id};
    return matching_errand(n, &e, &token) &&
           sent(n, token, bus_kv_delete(n->bus, token, "matchmaking", matching_key(key, &p->id), p->revision, MATCH_KV_MS));
}

bool matching_look(struct node *n, const struct id *match)
{
    char key[MATCH_KEY_SIZE];
    uint64_t token;
    struct errand e = {.kind = ERRAND_LOOK, .match = *match};
    return matching_errand(n, &e, &token) &&
           sent(n, token, bus_kv_get(n->bus, token, "matchmaking", matching_key(key, match), MATCH_KV_MS));
}

/* ---- reading ---- */

/* The member `name` of a map; false: there is none. */
static bool member(struct wire_raw map, const char *name, struct mp_token *out)
{
    struct mp_read r;
    struct mp_token head, key;
    struct wire_raw skipped;
    mp_read_init(&r, map.data, map.len);
    if (!map.len || mp_next(&r, &head, NULL) || head.type != MP_MAP)
        return false;
    for (uint32_t i = 0; i < head.count; i++) {
        if (mp_next(&r, &key, NULL) || key.type != MP_STR)
            return false;
        if (key.len == strlen(name) && memcmp(key.data, name, key.len) == 0)
            return mp_next(&r, out, NULL) == 0;
        if (mp_skip(&r, WIRE_DEPTH_MAX, &skipped, NULL))
            return false;
    }
    return false;
}

static bool printable(const uint8_t *s, uint32_t len)
{
    while (len && s[len - 1] >= ' ')
        len--;
    return !len;
}

int matching_properties(const struct queue *q, struct wire_raw properties, struct match_info *out, struct err_detail *detail)
{
    struct mp_token t;
    size_t at = 0;
    if (properties.len > MATCH_PROPERTIES_MAX)
        return err_set(detail, ROOM_E_TOO_BIG, "properties of a match may have %d bytes at most", MATCH_PROPERTIES_MAX);
    for (unsigned i = 0; i < q->equal_count; i++) {
        if (!member(properties, q->equals[i], &t) || t.type != MP_STR || t.len > QUEUE_VALUE_MAX || !printable(t.data, t.len))
            return err_set(detail, ROOM_E_INVALID, "queue '%s' matches by '%s': give it in properties, as a text of %d bytes at most",
                           q->name.s, q->equals[i], QUEUE_VALUE_MAX);
        memcpy(out->equal + at, t.data, t.len);
        at += t.len;
        out->equal[at++] = '\n'; /* which is in none of them */
    }
    out->equal[at] = 0;
    for (unsigned i = 0; i < q->range_count; i++) {
        bool there = member(properties, q->ranges[i].name, &t);
        if (!there || (t.type != MP_INT && !(t.type == MP_FLOAT && t.d >= -1e15 && t.d <= 1e15)))
            return err_set(detail, ROOM_E_INVALID, "queue '%s' matches by '%s': give it in properties, as a number", q->name.s,
                           q->ranges[i].name);
        out->values[i] = t.type == MP_INT ? (double)t.i : t.d;
    }
    out->properties = properties.data;
    out->properties_len = properties.len;
    return 0;
}

static bool read_ticket(struct node *n, const struct bus_event *ev, struct match_info *i, struct id *queue)
{
    struct wire_match_ticket w;
    *i = (struct match_info){.revision = ev->revision};
    if (!id_set(&i->id, ev->key) || wire_match_ticket_from_json(&w, (const char *)ev->data, ev->len, &n->scratch, NULL) ||
        w.players.count > QUEUE_PARTY_MAX || (!w.players.count && !w.has_seats))
        return false;
    const struct queue *q = queues_find(n->config.queues, w.queue.s);
    for (i->player_count = 0; i->player_count < w.players.count; i->player_count++)
        if (!id_set_n(&i->players[i->player_count], w.players.items[i->player_count].data,
                      w.players.items[i->player_count].len))
            return false;
    if (!q || i->player_count > q->team_size || matching_properties(q, w.properties, i, NULL))
        return false;
    *queue = w.queue;
    i->server = w.server;
    i->boot = w.boot;
    i->session = w.session;
    i->match = w.match;
    i->room = w.room;
    i->state = w.state == WIRE_MATCH_TICKET_STATE_MATCHED ? MATCH_MATCHED : MATCH_WAITING;
    i->age_ms = w.age_ms;
    i->seats = w.players.count ? 0 : (unsigned)w.seats;
    i->accepted = (unsigned)w.accepted;
    i->request = w.request;
    (void)time_from_rfc3339(w.since.data, w.since.len, &i->since);
    return i->state == MATCH_WAITING || (w.match.s[0] && w.room.s[0]);
}

static bool fill_pair(struct pair *p, const struct wire_match_entry *w)
{
    struct mp_read r;
    struct mp_token t;
    mp_read_init(&r, w->teams.data, w->teams.len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY || t.count != p->player_count)
        return false;
    for (unsigned i = 0; i < p->player_count; i++) {
        if (mp_next(&r, &t, NULL) || t.type != MP_INT || t.i < 0 || t.i >= QUEUE_MATCH_MAX ||
            !id_set_n(&p->players[i], w->players.items[i].data, w->players.items[i].len))
            return false;
        p->teams[i] = (uint8_t)t.i;
    }
    for (unsigned i = 0; i < p->ticket_count; i++)
        if (!id_set_n(&p->tickets[i], w->tickets.items[i].data, w->tickets.items[i].len))
            return false;
    return true;
}

/* As the bucket has it now. */
static void read_pair(struct node *n, const char *id, const struct bus_event *ev)
{
    struct wire_match_entry w;
    struct pair *p = matching_pair(n, id);
    if (p)
        p->sweep = n->matching->sweep;
    if ((p && ev->revision <= p->revision) || !id_valid(id) ||
        wire_match_entry_from_json(&w, (const char *)ev->data, ev->len, &n->scratch, NULL) || !w.tickets.count || !w.players.count)
        return;
    const struct queue *q = queues_find(n->config.queues, w.queue.s);
    enum pair_state state = (enum pair_state)(w.state - WIRE_MATCH_ENTRY_STATE_OPEN + PAIR_OPEN);
    bool mine = p && p->driver && strcmp(w.boot.s, core_self(n->core)->boot) == 0 &&
                (state != PAIR_UNDONE || p->driver->step == DRIVER_UNDO);
    if (mine && state != PAIR_MADE) { /* what this node has written itself: its outcome comes by itself, too */
        p->revision = ev->revision;
        p->state = state;
        return;
    }
    if (p && p->driver && !mine) {
        pair_lost(n, p);
        p = matching_pair(n, id);
    }
    if (!q || (!p && !(p = matching_pair_new(n, id, w.tickets.count, w.players.count))))
        return;
    if (!p->revision && !p->driver && !fill_pair(p, &w)) {
        matching_pair_free(n, p);
        return;
    }
    p->queue = q;
    p->type = w.type;
    p->room = w.room;
    p->server = w.server;
    p->boot = w.boot;
    p->state = state;
    p->confirm_ms = w.confirm_ms;
    p->revision = ev->revision;
    p->seen = n->now;
    snprintf(p->since, sizeof(p->since), "%.*s", (int)w.since.len, w.since.data ? w.since.data : "");
    ticket_pair(n, p);
}

static void gone_pair(struct node *n, const char *id)
{
    struct pair *p = matching_pair(n, id);
    if (p && p->driver)
        pair_lost(n, p);
    if ((p = matching_pair(n, id)))
        matching_pair_free(n, p);
}

static void entry(struct node *n, const struct bus_event *ev)
{
    bool there = ev->data && ev->len;
    bool pair = strncmp(ev->key, "match-", 6) == 0;
    struct match_info info;
    struct id queue;
    if (pair && there)
        read_pair(n, ev->key + 6, ev);
    else if (pair)
        gone_pair(n, ev->key + 6);
    else if (!there || !read_ticket(n, ev, &info, &queue))
        match_del(&n->matching->book, ev->key);
    else
        (void)match_put(&n->matching->book, queue.s, &info, n->now);
}

static void listed(struct node *n)
{
    struct matching *mm = n->matching;
    match_sync_end(&mm->book);
    for (struct map_iter it = map_first(&mm->pairs); it.value;) {
        struct pair *p = it.value;
        map_next(&it);
        if (p->sweep != mm->sweep && !p->driver)
            matching_pair_free(n, p);
    }
    mm->listed = true;
}

void matching_event(struct node *n, const struct bus_event *ev)
{
    struct matching *mm = n->matching;
    if (!mm)
        return;
    if (ev->kind == BUS_EV_SYNC) {
        match_sync_begin(&mm->book);
        mm->sweep++;
    } else if (ev->kind == BUS_EV_SYNCED) {
        listed(n);
    } else if (ev->kind == BUS_EV_ENTRY) {
        entry(n, ev);
    } else if (ev->kind == BUS_EV_KEPT && !match_keep(&mm->book, ev->key) && strncmp(ev->key, "match-", 6) == 0) {
        struct pair *p = matching_pair(n, ev->key + 6);
        if (p)
            p->sweep = mm->sweep;
    }
}

/* ---- what came of a write ---- */

static void ticket_done(struct node *n, const struct errand *e, const struct bus_event *ev)
{
    struct match_ticket *t = match_get(&n->matching->book, e->ticket.s);
    if (!t)
        return;
    t->sending = false;
    if (ev->result != BUS_OK)
        return; /* the bucket tells how it is */
    if (e->kind == ERRAND_END_TICKET) {
        match_del(&n->matching->book, e->ticket.s);
        return;
    }
    struct match_info i = info_of(n, t);
    change(n, t, e, &i);
    i.revision = ev->revision;
    (void)match_put(&n->matching->book, t->queue->name.s, &i, n->now);
}

static void mended(struct node *n, const struct errand *e, const struct bus_event *ev)
{
    struct pair *p = matching_pair(n, e->match.s);
    if (!p)
        return;
    p->sending = false;
    if (ev->result != BUS_OK || p->driver || ev->revision <= p->revision)
        return;
    p->state = e->pair_state;
    p->revision = ev->revision;
    p->seen = n->now;
    mend_undone(n, p);
}

void matching_done(struct node *n, const struct bus_event *ev)
{
    struct errand *kept = n->matching ? umap_del(&n->matching->errands, ev->token & TOKEN_MASK) : NULL;
    if (!kept)
        return;
    struct errand e = *kept;
    alloc_put(n->alloc, kept, sizeof(*kept));
    switch (e.kind) {
    case ERRAND_NEW_TICKET:
        ticket_written(n, &e.ticket, ev->result == BUS_OK, ev->revision);
        break;
    case ERRAND_TICKET:
    case ERRAND_END_TICKET:
        ticket_done(n, &e, ev);
        break;
    case ERRAND_TAKE:
        ticket_done(n, &e, ev);
        pair_done(n, &e, ev);
        break;
    case ERRAND_PAIR:
        pair_done(n, &e, ev);
        break;
    case ERRAND_MEND_PAIR:
        mended(n, &e, ev);
        break;
    case ERRAND_END_PAIR: {
        struct pair *p = matching_pair(n, e.match.s);
        if (p)
            p->sending = false;
        if (p && !p->driver && ev->result == BUS_OK)
            matching_pair_free(n, p);
        break;
    }
    case ERRAND_LOOK:
        mend_looked(n, &e, ev);
        break;
    case ERRAND_CLOSE:
        break;
    }
}

/* ---- life ---- */

void matching_session(struct node *n, struct session *s)
{
    if (n->matching)
        (void)map_put_borrowed(&n->matching->by_player, s->player.s, s); /* without memory he is told at his next welcome */
}

void matching_tick(struct node *n)
{
    struct matching *mm = n->matching;
    if (!mm)
        return;
    if (!mm->watched && cluster_has_matchmaking(n))
        mm->watched = bus_kv_watch(n->bus, "matchmaking") == 0;
    ticket_tick(n);
    if (!matching_ready(n))
        return;
    mend_tick(n);
    pair_tick(n);
}

bool matching_init(struct node *n)
{
    if (!n->config.queues || !n->config.queues->count)
        return true;
    struct matching *mm = n->matching = alloc_get(n->alloc, sizeof(*mm));
    if (!mm)
        return false;
    match_init(&mm->book, n->alloc, n->config.queues);
    map_init(&mm->pairs, n->alloc);
    map_init(&mm->asks, n->alloc);
    map_init(&mm->by_player, n->alloc);
    map_init(&mm->accepts, n->alloc);
    umap_init(&mm->errands, n->alloc);
    return true;
}

void matching_deinit(struct node *n)
{
    struct matching *mm = n->matching;
    if (!mm)
        return;
    for (struct map_iter it = map_first(&mm->pairs); it.value; it = map_first(&mm->pairs))
        matching_pair_free(n, it.value);
    for (struct umap_iter it = umap_first(&mm->errands); it.value; umap_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct errand));
    ticket_deinit(n);
    match_deinit(&mm->book);
    map_deinit(&mm->pairs);
    map_deinit(&mm->asks);
    map_deinit(&mm->by_player);
    map_deinit(&mm->accepts);
    umap_deinit(&mm->errands);
    alloc_put(n->alloc, mm, sizeof(*mm));
    n->matching = NULL;
}
