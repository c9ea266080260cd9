/* See host.h. Life of the host, starting and ending rooms, tickets, messages and ticks; the others are named in room.h. */
#include "room/host.h"

#include <string.h>

#include "room/journal.h"
#include "room/lobby.h"
#include "wire/mp_read.h"

_Static_assert((int)HOST_TICKET_SIZE == (int)SEATS_TICKET_SIZE, "a ticket is a ticket");

static void kernel_random(void *arg, void *out, size_t len)
{
    (void)arg;
    rng_secret(out, len);
}

struct host *host_create(const struct host_config *config)
{
    struct host *h = alloc_get(config->alloc, sizeof(*h));
    if (!h)
        return NULL;
    struct host_config *c = &h->config;
    *c = *config;
    c->seat_ttl_ms = c->seat_ttl_ms > 0 ? c->seat_ttl_ms : 15000;
    c->room_max_bytes = c->room_max_bytes ? c->room_max_bytes : (size_t)8 << 20;
    c->hold_ms = c->hold_ms > 0 ? c->hold_ms : 30000;
    c->max_rooms = c->max_rooms ? c->max_rooms : 10000;
    c->lobby_max = c->lobby_max ? c->lobby_max : 100000;
    c->callback_max_us = c->callback_max_us > 0 ? c->callback_max_us : 1000000;
    c->fill_random = c->fill_random ? c->fill_random : kernel_random;
    map_init(&h->rooms, c->alloc);
    buf_init(&h->reply, c->alloc, ROOM_DATA_MAX);
    h->lobby = lobby_create(c->alloc, c->lobby_max);
    if (!h->lobby) {
        host_destroy(h);
        return NULL;
    }
    return h;
}

void host_destroy(struct host *h)
{
    if (!h)
        return;
    while (h->head)
        run_discard(h->head);
    lobby_destroy(h->lobby);
    map_deinit(&h->rooms);
    buf_deinit(&h->reply);
    alloc_put(h->config.alloc, h->heap, h->heap_cap * sizeof(*h->heap));
    alloc_put(h->config.alloc, h, sizeof(*h));
}

int room_check_value(const void *data, size_t len, size_t max, struct err_detail *detail)
{
    if (len > max)
        return err_set(detail, ROOM_E_TOO_BIG, "%zu bytes are more than the limit of %zu", len, max);
    return mp_check(data, len, WIRE_VALUE_DEPTH, detail);
}

static int check_start(const struct host *h, const struct host_start *s, const struct room_type_def *def,
                       struct err_detail *detail)
{
    if (!s->id || !id_valid(s->id))
        return err_set(detail, ROOM_E_INVALID, "'%.80s' is not a room id", s->id ? s->id : "");
    if (!def)
        return err_set(detail, ROOM_E_UNKNOWN_TYPE, "no room type '%.80s' on this server", s->type ? s->type : "");
    if (map_get(&h->rooms, s->id))
        return err_set(detail, ROOM_E_EXISTS, "room '%s' runs here already", s->id);
    if (h->rooms.count >= h->config.max_rooms)
        return err_set(detail, ROOM_E_FULL, "this server runs its limit of %u rooms", h->config.max_rooms);
    return s->options_len ? room_check_value(s->options, s->options_len, HOST_OPTIONS_MAX, detail) : 0;
}

static const struct room_type no_type;
const struct room_type_def room_no_type = {.impl = &no_type};

struct room *room_make(struct host *h, const char *id, uint64_t epoch, const struct room_type_def *def)
{
    size_t id_size = strlen(id) + 1;
    if (!due_prepare(h, h->rooms.count + 1))
        return NULL;
    struct room *r = alloc_get(h->config.alloc, sizeof(*r) + id_size);
    if (!r)
        return NULL;
    memcpy(r->id, id, id_size);
    if (!map_put_borrowed(&h->rooms, r->id, r)) {
        alloc_put(h->config.alloc, r, sizeof(*r) + id_size);
        return NULL;
    }
    r->host = h;
    r->def = &room_no_type;
    alloc_budget_init(&r->budget, h->config.alloc, h->config.room_max_bytes);
    seats_init(&r->seats, &r->budget.alloc, h->config.alloc, 0);
    r->number = h->started++;
    r->epoch = epoch;
    r->started = r->empty_since = h->now;
    r->due_at = DUE_NONE;
    r->prev = h->tail;
    *(h->tail ? &h->tail->next : &h->head) = r;
    h->tail = r;
    if (room_set_type(r, def, false))
        return r;
    run_discard(r);
    return NULL;
}

bool room_set_type(struct room *r, const struct room_type_def *def, bool is_private)
{
    r->def = def;
    r->seats.max = def->max_players;
    r->private_room = is_private || def->private_room;
    bool journal = r->host->config.journal && (def == &room_no_type || def->durability == ROOM_DURABILITY_JOURNAL);
    return !journal || r->journal || journal_begin(r);
}

bool room_is_nil(const void *data, size_t len)
{
    return len == 1 && *(const uint8_t *)data == 0xC0;
}

/* The type is asked, and the journal begins with its answer. */
static int create(struct room *r, const struct host_start *start)
{
    struct rng rng = r->rng;
    journal_open(r);
    int rc = run_create(r, start->options, start->options_len);
    if (rc)
        return rc;
    r->alive = true;
    rc = run_verdict(r);
    if (rc)
        return rc;
    journal_known(r);
    journal_start(r, &rng, start->options, start->options_len);
    return run_verdict(r); /* no memory to record it */
}

int host_start(struct host *h, const struct host_start *start, struct mono now, struct err_detail *detail)
{
    const struct room_type_def *def = start->type ? types_find(h->config.types, start->type) : NULL;
    struct host_start plain = *start;
    h->now = now;
    int rc = check_start(h, start, def, detail);
    if (rc)
        return rc;
    if (room_is_nil(start->options, start->options_len))
        plain.options_len = 0;
    start = &plain;
    struct room *r = room_make(h, start->id, start->epoch, def);
    if (!r)
        return err_set(detail, ROOM_E_NO_MEMORY, "no memory for room '%s'", start->id);
    r->created = start->created;
    r->private_room |= start->private_room;
    r->next_tick = mono_add_ms(now, def->tick_ms);
    rng_init(&r->rng, h->config.seed ^ id_hash(r->id, start->epoch));
    r->running = true;
    rc = journal_reserve(r, start->options_len) ? create(r, start) : ROOM_E_NO_MEMORY;
    if (rc) {
        run_discard(r);
        return err_set(detail, rc, "room type '%s' refused to create room '%s': %s", def->name.s, start->id,
                       room_error_text(rc));
    }
    r->changes++;
    r->dirty = false;
    r->told_topics = r->topics_version;
    due_update(r);
    journal_flush(r);
    return 0;
}

struct room *room_of(struct host *h, const char *id, struct mono now)
{
    h->now = now;
    struct room *r = id ? map_get(&h->rooms, id) : NULL;
    return r && !r->ending ? r : NULL;
}

int room_usable(const struct room *r)
{
    return !r ? ROOM_E_NOT_FOUND : r->running && !r->frozen ? 0 : ROOM_E_UNAVAILABLE;
}

int host_reserve(struct host *h, const char *id, const char *player, struct mono now, char ticket[HOST_TICKET_SIZE])
{
    struct room *r = room_of(h, id, now);
    uint8_t secret[SEATS_TICKET_BYTES];
    int rc = room_usable(r);
    if (rc)
        return rc;
    if (!player || !id_valid(player))
        return ROOM_E_INVALID;
    seats_expire(&r->seats, now);
    h->config.fill_random(h->config.random_arg, secret, sizeof(secret));
    rc = seats_reserve(&r->seats, player, r->locked, secret, mono_add_ms(now, h->config.seat_ttl_ms), ticket);
    run_settle(r);
    return rc;
}

int host_unreserve(struct host *h, const char *id, const char *player, const char *ticket, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r && player ? seats_by_player(&r->seats, player) : NULL;
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (!seat || !ticket || !seats_ticket_is(seat, ticket))
        return ROOM_E_BAD_TICKET;
    if (seat->taken)
        seats_void(&r->seats, seat);
    else
        seats_drop(&r->seats, seat);
    run_settle(r);
    return 0;
}

/* The message is for the room: the type's answer, and after it all that follows from it. */
static int deliver(struct room *r, struct seat *seat, int64_t n, const void *data, size_t len)
{
    struct host *h = r->host;
    struct id player;
    uint64_t who = seat->who;
    id_set(&player, seat->player);
    if (!journal_reserve(r, len))
        return ROOM_E_NO_MEMORY;
    journal_open(r);
    r->changes++;
    int rc = run_message(r, player.s, data, len);
    journal_message(r, player.s, n, rc, data, len);
    int verdict = run_verdict(r);
    if (verdict && verdict != ROOM_E_CANCELLED) {
        buf_reset(&h->reply);
        rc = verdict;
    }
    if (n > 0) /* the type has noted at most that the seat is to end: it is still there */
        replies_add(&seat->replies, h->config.alloc, n, rc, h->reply.data, h->reply.len);
    out_sent(r, who, player.s, n, rc, h->reply.data, h->reply.len);
    run_settle(r);
    return 0;
}

int host_message(struct host *h, const char *id, uint64_t who, int64_t n, const void *data, size_t len, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r ? seats_by_who(&r->seats, who) : NULL;
    struct replies_answer answer;
    if (!seat)
        return r && !r->running ? ROOM_E_UNAVAILABLE : ROOM_E_NOT_FOUND;
    int rc = room_usable(r);
    if (rc)
        return rc;
    if (replies_find(&seat->replies, n, &answer)) {
        if (!out_has_sent(r, who, n)) /* else the answer comes when it is durable */
            out_sent(r, who, seat->player, n, answer.code, answer.data, answer.len);
        return 0;
    }
    rc = room_check_value(data, len, HOST_MESSAGE_MAX, NULL);
    if (rc)
        return rc;
    return journal_busy(r) ? ROOM_E_RATE_LIMITED : deliver(r, seat, n, data, len);
}

int host_event(struct host *h, const char *id, const struct room_event *event, const char *reply, struct mono now)
{
    struct room *r = room_of(h, id, now);
    bool topic = event->kind == ROOM_EVENT_TOPIC;
    bool message = event->kind == ROOM_EVENT_SEND || event->kind == ROOM_EVENT_TELL || topic;
    int rc = room_usable(r);
    if (!rc && !r->def->impl->event)
        rc = ROOM_E_UNSUPPORTED;
    if (!rc && ((event->from && !topic && !id_valid(event->from)) || (topic && !topics_valid(event->from, false)) || (reply && strlen(reply) > HOST_REPLY_MAX)))
        rc = ROOM_E_INVALID;
    if (!rc && (message || event->len))
        rc = room_check_value(event->data, event->len, HOST_MESSAGE_MAX, NULL);
    if (!rc && message && journal_busy(r))
        rc = ROOM_E_RATE_LIMITED;
    if (!rc && !journal_reserve(r, event->len))
        rc = ROOM_E_NO_MEMORY;
    if (rc)
        return rc;
    journal_open(r);
    r->changes++;
    rc = run_event(r, event);
    journal_event(r, event, 0, rc);
    int verdict = run_verdict(r);
    if (verdict && verdict != ROOM_E_CANCELLED) {
        buf_reset(&h->reply);
        rc = verdict;
    }
    if (reply)
        out_answered(r, reply, rc, h->reply.data, h->reply.len);
    run_settle(r);
    return 0;
}

/* The type hears of it as the journal will tell it: nil is nothing. */
static void tell_done(struct room *r, const struct host_ask *ask, const struct room_event *what)
{
    struct room_event event = {.kind = ask->kind == HOST_ASK_SERVICE ? ROOM_EVENT_SERVICE : ROOM_EVENT_SHARED,
                               .from = ask->target, .request = ask->request, .code = what->code, .token = what->token};
    if (!room_is_nil(what->data, what->len)) {
        event.data = what->data;
        event.len = what->len;
    }
    int rc = event.request && r->def->impl->event ? run_event(r, &event) : 0;
    journal_event(r, &event, ask->number, rc);
}

int host_done(struct host *h, const char *id, uint64_t number, const struct room_event *event, struct mono now)
{
    struct room *r = room_of(h, id, now);
    int rc = room_usable(r);
    if (!rc && !open_find(r, number))
        rc = ROOM_E_NOT_FOUND;
    if (!rc && !journal_reserve(r, event->len))
        rc = ROOM_E_NO_MEMORY;
    if (rc)
        return rc;
    struct open_ask *o = open_take(r, number);
    journal_open(r);
    r->changes++;
    tell_done(r, &o->ask, event);
    open_free(r, o);
    run_settle(r);
    return 0;
}

int host_lock(struct host *h, const char *id, bool locked, struct mono now)
{
    struct room *r = room_of(h, id, now);
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (!r->running)
        return ROOM_E_UNAVAILABLE;
    if (r->locked != locked) {
        (locked ? room_lock : room_unlock)(r);
        r->changes++;
        journal_lock(r);
    }
    run_settle(r);
    return 0;
}

int host_stop(struct host *h, const char *id, const char *reason, struct mono now)
{
    struct room *r = room_of(h, id, now);
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (!r->running) { /* it wrote nothing, and is heard for the first time */
        journal_drop(r);
        r->running = true;
    }
    run_end(r, reason);
    return 0;
}

int host_discard(struct host *h, const char *id)
{
    struct room *r = id ? map_get(&h->rooms, id) : NULL;
    if (!r)
        return ROOM_E_NOT_FOUND;
    run_discard(r);
    return 0;
}

int host_freeze(struct host *h, const char *id, bool frozen, struct mono now)
{
    struct room *r = room_of(h, id, now);
    if (!r)
        return ROOM_E_NOT_FOUND;
    r->frozen = frozen;
    if (r->running)
        run_settle(r);
    return 0;
}

static bool is_forgotten(const struct room *r, struct mono now)
{
    int64_t empty_ms = r->host->config.empty_ms;
    return r->def->auto_dispose && empty_ms > 0 && r->seats.taken + r->seats.reserved == 0 &&
           mono_reached(now, mono_add_ms(r->empty_since, empty_ms));
}

static void tick(struct room *r)
{
    struct mono now = r->host->now;
    int64_t now_ms = room_now_ms(r), dt_ms = now_ms - r->last_tick_ms;
    r->next_tick = mono_add_ms(r->next_tick, r->def->tick_ms);
    if (mono_reached(now, r->next_tick))
        r->next_tick = mono_add_ms(now, r->def->tick_ms);
    if (journal_busy(r))
        return; /* the next one makes up for it: dt tells */
    r->last_tick_ms = now_ms;
    r->changes++;
    journal_open(r);
    run_tick(r, now_ms, dt_ms);
    journal_tick(r, dt_ms);
}

static void serve(struct room *r, struct mono now)
{
    uint64_t version = r->seats.version;
    seats_expire(&r->seats, now);
    member_expire(r);
    if (r->seats.version != version && r->seats.taken + r->seats.reserved == 0)
        r->empty_since = now;
    if (!run_verdict(r) && is_forgotten(r, now)) {
        run_end(r, "empty");
        return;
    }
    if (r->def->tick_ms && r->def->impl->tick && mono_reached(now, r->next_tick) && !run_verdict(r))
        tick(r);
    run_settle(r);
}

void host_tick(struct host *h, struct mono now)
{
    h->now = now;
    for (int i = 0; i < HOST_TICK_ROOMS && h->heap_len && mono_reached(now, h->heap[0]->due); i++)
        serve(h->heap[0], now);
}
