/*
 * join_or_create for the room types this node allocates.
 *
 * Decides: which open room a request gets, or that one more room is made and how many requests may wait for it. Requests
 * of a type come to one node (rank hash of the type over live nodes), which counts what it has handed out, so that they
 * neither overfill nor scatter. It is an optimisation: the seat itself is given by the room's owner, and two allocators at
 * once (while views differ) can only scatter. Must not count seats by itself beyond requests in flight.
 */
#include "core/state.h"

#include <string.h>

enum { TRIES_MAX = 16, MAKE_TRIES_MAX = 3, WAITING_MAX = 16384 };

static void seat(struct core *c, struct wanting *w);

static void answer(struct core *c, struct wanting *w, const struct core_answer *a)
{
    if (w->join) {
        join_answer(c, w->join, a);
    } else {
        struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
        if (fx) {
            fx->req = w->req;
            fx->answer = *a;
        }
    }
    core_drop_options(c, &w->call, w->options);
    alloc_put(c->alloc, w, sizeof(*w));
    c->waiting--;
}

static void fail(struct core *c, struct wanting *w, int code)
{
    answer(c, w, &(struct core_answer){.code = code, .type = w->call.type});
}

static bool call_create(struct core *c, struct making *m)
{
    struct core_call call = m->first->call;
    call.kind = CORE_CALL_CREATE;
    call.room = m->room;
    call.generated = m->tries == 0; /* a repeated creation must find the room that the first may have made */
    return op_call(c, OP_MAKE, m, m->server.s, &call, core_create_ms(c, &call));
}

static void unlink_making(struct core *c, struct making *m)
{
    struct making **at = &c->making;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
}

/* Everybody who waited goes on with the search, or is told why not. */
static void made(struct core *c, struct making *m, int code)
{
    unlink_making(c, m);
    struct wanting *w = m->first, *next;
    alloc_put(c->alloc, m, sizeof(*m));
    for (; w; w = next) {
        next = w->next;
        w->next = NULL;
        if (code)
            fail(c, w, code);
        else
            seat(c, w);
    }
}

static void make(struct core *c, struct wanting *w)
{
    uint32_t seats = c->config.type_max_players(c->config.type_arg, w->call.type.s);
    struct making *m = alloc_get(c->alloc, sizeof(*m));
    if (!m) {
        fail(c, w, ROOM_E_NO_MEMORY);
        return;
    }
    m->type = w->call.type;
    m->seats = seats;
    m->count = 1;
    m->first = w;
    m->last = &w->next;
    char room[ULID_SIZE];
    id_ulid(room, c->wall, &c->rng);
    id_set(&m->room, room);
    m->next = c->making;
    c->making = m;
    int code = core_place(c, NULL, 0, &m->server);
    if (code)
        made(c, m, code);
    else if (!call_create(c, m))
        made(c, m, ROOM_E_FULL);
}

static struct making *making_with_space(struct core *c, const char *type)
{
    for (struct making *m = c->making; m; m = m->next)
        if (m->count < m->seats && strcmp(m->type.s, type) == 0)
            return m;
    return NULL;
}

/* The next step for one request: an open room, a room that is being made, or a new one. */
static void seat(struct core *c, struct wanting *w)
{
    if (w->tries++ >= TRIES_MAX) {
        fail(c, w, ROOM_E_UNAVAILABLE);
        return;
    }
    struct view_room *r = view_open_room(&c->view, w->call.type.s);
    if (r) {
        struct core_call call = {.kind = CORE_CALL_RESERVE, .room = r->info.id, .player = w->call.player};
        if (op_call(c, OP_SEAT, w, r->info.owner.s, &call, c->config.call_ms)) {
            r->in_flight++;
            view_reindex(&c->view, r);
        } else {
            fail(c, w, ROOM_E_FULL);
        }
        return;
    }
    struct making *m = making_with_space(c, w->call.type.s);
    if (m) {
        *m->last = w;
        m->last = &w->next;
        m->count++;
    } else {
        make(c, w);
    }
}

void allocate_request(struct core *c, uint64_t req, struct join *join, const struct core_call *call)
{
    int code = c->waiting >= WAITING_MAX                                             ? ROOM_E_FULL
               : !c->config.type_max_players(c->config.type_arg, call->type.s)       ? ROOM_E_UNKNOWN_TYPE
               : !self_serves(c)                                                     ? ROOM_E_UNAVAILABLE
                                                                                     : ROOM_E_OK;
    struct wanting *w = code ? NULL : alloc_get(c->alloc, sizeof(*w));
    struct core_answer refusal = {.code = code ? code : ROOM_E_NO_MEMORY, .type = call->type};
    bool kept = false;
    if (w) {
        w->call = *call;
        w->options = core_keep_options(c, &w->call, &kept);
        if (!kept)
            alloc_put(c->alloc, w, sizeof(*w));
    }
    if (!kept) {
        if (join) {
            join_answer(c, join, &refusal);
        } else {
            struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
            if (fx) {
                fx->req = req;
                fx->answer = refusal;
            }
        }
        return;
    }
    c->waiting++;
    w->req = req;
    w->join = join;
    seat(c, w);
}

static void learn(struct core *c, const struct core_answer *a, const char *owner)
{
    struct view_room *r = view_room(&c->view, a->room.s);
    if (!r) {
        struct room_info info = {.id = a->room, .type = a->type, .epoch = a->epoch, .seats = a->seats,
                                 .players = a->players, .seats_version = a->seats_version,
                                 .max_players = a->max_players, .state = ROOM_RUNNING};
        id_set(&info.owner, owner);
        view_put_room(&c->view, &info, 0);
        return;
    }
    view_seats(&c->view, r, a->seats, a->seats_version, a->max_players);
}

void allocate_made(struct core *c, const struct op *op, const struct core_answer *a)
{
    struct making *m = op->owner;
    if (a->code == ROOM_E_OK) {
        struct wanting *first = m->first;
        m->first = first->next;
        learn(c, a, m->server.s);
        answer(c, first, a);
        made(c, m, ROOM_E_OK);
        return;
    }
    if (a->code == ROOM_E_EXISTS) { /* an earlier try made it after all: its listing or the next search finds it */
        made(c, m, ROOM_E_OK);
        return;
    }
    if (room_error_retryable(a->code) && ++m->tries < MAKE_TRIES_MAX) {
        struct id avoid = m->server;
        if (core_place(c, &avoid, 1, &m->server) == 0 && call_create(c, m))
            return;
    }
    made(c, m, a->code);
}

void allocate_seated(struct core *c, const struct op *op, const struct core_answer *a)
{
    struct wanting *w = op->owner;
    struct view_room *r = view_room(&c->view, op->room.s);
    if (r && r->in_flight) {
        r->in_flight--;
        view_reindex(&c->view, r);
    }
    if (a->code == ROOM_E_OK) {
        learn(c, a, op->server.s);
        answer(c, w, a);
        return;
    }
    if (r && a->max_players) {
        view_seats(&c->view, r, a->seats, a->seats_version, a->max_players);
    } else if (r) {
        view_hide(&c->view, r, a->code == ROOM_E_NOT_FOUND);
    }
    if (r && a->code == ROOM_E_ROOM_LOCKED) {
        r->info.locked = true;
        view_reindex(&c->view, r);
    }
    seat(c, w);
}

void allocate_deinit(struct core *c)
{
    while (c->making)
        made(c, c->making, ROOM_E_CANCELLED);
}
