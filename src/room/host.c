/* See host.h. Starting, joining, leaving, messages and ticks; run.c has what follows from a callback. */
#include "room/host.h"

#include <string.h>

#include "room/lobby.h"
#include "room/room.h"
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
    c->max_rooms = c->max_rooms ? c->max_rooms : 10000;
    c->lobby_max = c->lobby_max ? c->lobby_max : 100000;
    c->callback_max_us = c->callback_max_us > 0 ? c->callback_max_us : 1000000;
    c->fill_random = c->fill_random ? c->fill_random : kernel_random;
    map_init(&h->rooms, c->alloc);
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
        run_discard(h->head, true);
    lobby_destroy(h->lobby);
    map_deinit(&h->rooms);
    alloc_put(h->config.alloc, h->heap, h->heap_cap * sizeof(*h->heap));
    alloc_put(h->config.alloc, h, sizeof(*h));
}

static int check_value(const void *data, size_t len, size_t max, struct err_detail *detail)
{
    if (len > max)
        return err_set(detail, ROOM_E_TOO_BIG, "%zu bytes are more than the limit of %zu", len, max);
    return mp_check(data, len, WIRE_VALUE_DEPTH, detail);
}

static int check_options(const void *data, size_t len, struct err_detail *detail)
{
    return len ? check_value(data, len, HOST_OPTIONS_MAX, detail) : 0;
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
    return check_options(s->options, s->options_len, detail);
}

/* A room in all tables, not yet created by its type. */
static struct room *make_room(struct host *h, const struct host_start *s, const struct room_type_def *def,
                              struct mono now)
{
    size_t id_size = strlen(s->id) + 1;
    if (!due_prepare(h, h->rooms.count + 1))
        return NULL;
    struct room *r = alloc_get(h->config.alloc, sizeof(*r) + id_size);
    if (!r)
        return NULL;
    memcpy(r->id, s->id, id_size);
    if (!map_put_borrowed(&h->rooms, r->id, r)) {
        alloc_put(h->config.alloc, r, sizeof(*r) + id_size);
        return NULL;
    }
    r->host = h;
    r->def = def;
    alloc_budget_init(&r->budget, h->config.alloc, h->config.room_max_bytes);
    seats_init(&r->seats, &r->budget.alloc, def->max_players);
    r->number = h->started++;
    r->epoch = s->epoch;
    r->created = s->created;
    r->started = r->last_tick = r->empty_since = now;
    r->next_tick = mono_add_ms(now, def->tick_ms);
    r->due_at = DUE_NONE;
    r->private_room = s->private_room || def->private_room;
    rng_init(&r->rng, h->config.seed ^ id_hash(r->id, s->epoch));
    r->prev = h->tail;
    *(h->tail ? &h->tail->next : &h->head) = r;
    h->tail = r;
    return r;
}

/* What a type did to its room while creating it. */
static int create_verdict(const struct room *r)
{
    if (r->over_memory)
        return ROOM_E_NO_MEMORY;
    if (r->stuck)
        return ROOM_E_INTERNAL;
    return r->closing ? ROOM_E_CANCELLED : 0;
}

int host_start(struct host *h, const struct host_start *start, struct mono now, struct err_detail *detail)
{
    const struct room_type_def *def = start->type ? types_find(h->config.types, start->type) : NULL;
    h->now = now;
    int rc = check_start(h, start, def, detail);
    if (rc)
        return rc;
    struct room *r = make_room(h, start, def, now);
    if (!r)
        return err_set(detail, ROOM_E_NO_MEMORY, "no memory for room '%s'", start->id);
    if (def->impl->create) {
        run_enter(r);
        rc = def->impl->create(r, start->options, start->options_len);
        run_exit(r);
    }
    rc = rc > 0 ? ROOM_E_INTERNAL : rc;
    int verdict = create_verdict(r);
    if (rc || verdict) {
        run_discard(r, rc == 0);
        rc = rc ? rc : verdict;
        return err_set(detail, rc, "room type '%s' refused to create room '%s': %s", def->name.s, start->id,
                       room_error_text(rc));
    }
    r->dirty = false;
    due_update(r);
    return 0;
}

static struct room *room_of(struct host *h, const char *id, struct mono now)
{
    h->now = now;
    return id ? map_get(&h->rooms, id) : NULL;
}

int host_reserve(struct host *h, const char *id, const char *player, struct mono now, char ticket[HOST_TICKET_SIZE])
{
    struct room *r = room_of(h, id, now);
    uint8_t secret[SEATS_TICKET_BYTES];
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (!player || !id_valid(player))
        return ROOM_E_INVALID;
    seats_expire(&r->seats, now);
    h->config.fill_random(h->config.random_arg, secret, sizeof(secret));
    int rc = seats_reserve(&r->seats, player, r->locked, secret, mono_add_ms(now, h->config.seat_ttl_ms), ticket);
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
    if (seat->who)
        seats_void(&r->seats, seat);
    else
        seats_drop(&r->seats, seat);
    run_settle(r);
    return 0;
}

/* A seated player comes back with a ticket: nothing but the holder changes, and only once the state is there. */
static int move_seat(struct room *r, struct seat *seat, uint64_t who, struct buf *state_out)
{
    struct host *h = r->host;
    int rc = run_state(r, seat->player, state_out);
    if (rc)
        return rc;
    uint64_t former = seats_seat(&r->seats, seat, who);
    h->config.out->left(h->config.out_arg, r, former, seat->player, "replaced");
    return 0;
}

static int new_seat(struct room *r, struct seat *seat, const struct host_join *j, struct buf *state_out)
{
    struct host *h = r->host;
    int rc = 0;
    if (r->def->impl->join) {
        run_enter(r);
        rc = r->def->impl->join(r, j->player, j->options, j->options_len);
        run_exit(r);
    }
    if (rc) {
        seats_drop(&r->seats, seat);
        return rc > 0 ? ROOM_E_INTERNAL : rc;
    }
    rc = run_state(r, j->player, state_out);
    if (rc) {
        seats_drop(&r->seats, seat);
        run_leave(r, j->player, "refused");
        return rc;
    }
    seats_seat(&r->seats, seat, j->who);
    h->players++;
    return 0;
}

int host_join(struct host *h, const struct host_join *join, struct mono now, struct buf *state_out)
{
    struct room *r = room_of(h, join->id, now);
    struct seat *seat;
    size_t mark = state_out->len;
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (!join->player || !id_valid(join->player) || !join->who)
        return ROOM_E_INVALID;
    int rc = check_options(join->options, join->options_len, NULL);
    if (rc)
        return rc;
    seats_expire(&r->seats, now);
    rc = seats_by_who(&r->seats, join->who) ? ROOM_E_ALREADY : 0;
    if (!rc)
        rc = seats_claim(&r->seats, join->player, join->ticket, r->locked, now, &seat);
    if (!rc)
        rc = seat->who ? move_seat(r, seat, join->who, state_out) : new_seat(r, seat, join, state_out);
    bool ended = run_settle(r) != 0;
    if (rc == 0 && (ended || !seats_by_who(&r->seats, join->who))) {
        state_out->len = mark;
        rc = ROOM_E_CANCELLED; /* whatever ended it: left() was called for `who`, and that is what the caller must know */
    }
    return rc;
}

int host_leave(struct host *h, const char *id, uint64_t who, const char *reason, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r ? seats_by_who(&r->seats, who) : NULL;
    struct id player;
    char why[ROOM_REASON_MAX + 1];
    if (!seat)
        return ROOM_E_NOT_FOUND;
    id_set(&player, seat->player);
    seats_drop(&r->seats, seat);
    h->players--;
    run_reason(why, reason, "left");
    run_leave(r, player.s, why);
    run_settle(r);
    return 0;
}

int host_kick(struct host *h, const char *id, const char *player, const char *reason, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r && player ? seats_by_player(&r->seats, player) : NULL;
    if (!seat)
        return ROOM_E_NOT_FOUND;
    if (seat->who)
        room_kick(r, player, reason);
    else
        seats_drop(&r->seats, seat);
    run_settle(r);
    return 0;
}

int host_message(struct host *h, const char *id, uint64_t who, const void *data, size_t len, struct mono now,
                 struct buf *result_out)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r ? seats_by_who(&r->seats, who) : NULL;
    size_t mark = result_out->len;
    struct id player;
    if (!seat)
        return ROOM_E_NOT_FOUND;
    int rc = check_value(data, len, HOST_MESSAGE_MAX, NULL);
    if (rc)
        return rc;
    id_set(&player, seat->player);
    rc = run_message(r, player.s, data, len, result_out);
    int ended = run_settle(r);
    if (ended && ended != ROOM_E_CANCELLED) {
        result_out->len = mark;
        rc = ended;
    }
    return rc;
}

int host_lock(struct host *h, const char *id, bool locked, struct mono now)
{
    struct room *r = room_of(h, id, now);
    if (!r)
        return ROOM_E_NOT_FOUND;
    if (locked)
        room_lock(r);
    else
        room_unlock(r);
    run_settle(r);
    return 0;
}

int host_stop(struct host *h, const char *id, const char *reason, struct mono now)
{
    struct room *r = room_of(h, id, now);
    if (!r)
        return ROOM_E_NOT_FOUND;
    run_end(r, reason);
    return 0;
}

static bool is_forgotten(const struct room *r, struct mono now)
{
    int64_t empty_ms = r->host->config.empty_ms;
    return r->def->auto_dispose && empty_ms > 0 && r->seats.taken + r->seats.reserved == 0 &&
           mono_reached(now, mono_add_ms(r->empty_since, empty_ms));
}

static void serve(struct room *r, struct mono now)
{
    uint64_t version = r->seats.version;
    seats_expire(&r->seats, now);
    if (r->seats.version != version && r->seats.taken + r->seats.reserved == 0)
        r->empty_since = now;
    if (is_forgotten(r, now)) {
        run_end(r, "empty");
        return;
    }
    if (r->def->tick_ms && r->def->impl->tick && mono_reached(now, r->next_tick)) {
        int64_t dt_ms = mono_diff_ms(r->last_tick, now);
        r->last_tick = now;
        r->next_tick = mono_add_ms(r->next_tick, r->def->tick_ms);
        if (mono_reached(now, r->next_tick))
            r->next_tick = mono_add_ms(now, r->def->tick_ms);
        run_enter(r);
        r->def->impl->tick(r, mono_diff_ms(r->started, now), dt_ms);
        run_exit(r);
    }
    run_settle(r);
}

void host_tick(struct host *h, struct mono now)
{
    h->now = now;
    for (int i = 0; i < HOST_TICK_ROOMS && h->heap_len && mono_reached(now, h->heap[0]->due); i++)
        serve(h->heap[0], now);
}
