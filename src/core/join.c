/*
 * A player's way into a room: join, create, join_or_create.
 *
 * Decides: whom to ask next and when to give up; at the end there is a seat (with its ticket) on some server, or one
 * reason. Whether the player is then served here, redirected or relayed is the node's business.
 * The view says where to ask first; the owner's answer is what counts. When the view was wrong, the registry's leader is
 * asked, and only then the join fails.
 */
#include "core/state.h"

#include <string.h>

enum { STEP_LEADER = 100, TRIES_MAX = 8, PATIENCE_MS = 3000, PAUSE_MS = 50, PAUSES_GROW = 3, SURE_AFTER = 2,
       UNLISTED_TRIES = 2 };

static void proceed(struct core *c, struct join *j);

void join_answer(struct core *c, struct join *j, const struct core_answer *a)
{
    struct core_fx *fx = core_fx(c, CORE_FX_JOIN_RESULT);
    if (fx) {
        fx->req = j->req;
        fx->answer = *a;
    }
    core_drop_options(c, &j->call, j->options);
    alloc_put(c->alloc, j, sizeof(*j));
}

static void fail(struct core *c, struct join *j, int code)
{
    join_answer(c, j, &(struct core_answer){.code = code, .room = j->call.room, .type = j->call.type});
}

/* Tries again a little later, each time twice as late, up to PAUSES_GROW times: a NATS server that dies takes the calls on
 * it along, and is replaced within milliseconds; a dead owner's room is free, or elsewhere, half a second after. */
static void pause(struct core *c, struct join *j)
{
    if (mono_reached(c->now, j->deadline)) {
        fail(c, j, ROOM_E_UNAVAILABLE);
        return;
    }
    j->due = mono_add_ms(c->now, PAUSE_MS << j->pauses);
    j->pauses += j->pauses < PAUSES_GROW;
    j->next = c->paused;
    c->paused = j;
}

/* Without an owner that runs it, and kept, or on its way to a new owner: it will come back, and nobody may make another of
 * its name meanwhile. */
static bool away(const struct core *c, const struct room_info *info)
{
    const struct view_server *v = view_server(&c->view, info->owner.s);
    bool dead = !v || v->info.status == SERVER_DOWN || strcmp(info->boot, v->info.boot) < 0;
    return info->durability ? info->state != ROOM_RUNNING || dead : info->state == ROOM_STARTING && !dead;
}

static void wait_for(struct core *c, struct join *j, const struct room_info *info)
{
    if (j->mode == CORE_CREATE && !j->call.create_id.s[0])
        fail(c, j, ROOM_E_EXISTS);
    else if (info->state == ROOM_PARKED)
        fail(c, j, ROOM_E_UNAVAILABLE);
    else
        pause(c, j);
}

void join_tick(struct core *c)
{
    struct join *j = c->paused, *next;
    c->paused = NULL;
    for (; j; j = next) {
        next = j->next;
        if (mono_reached(c->now, j->due)) {
            proceed(c, j);
        } else {
            j->next = c->paused;
            c->paused = j;
        }
    }
}

void join_deinit(struct core *c)
{
    while (c->paused) {
        struct join *j = c->paused;
        c->paused = j->next;
        fail(c, j, ROOM_E_CANCELLED);
    }
}

static void ask_leader(struct core *c, struct join *j)
{
    if (!op_get(c, OP_JOIN, j, STEP_LEADER, NULL, j->call.room.s))
        fail(c, j, ROOM_E_FULL);
}

static void reserve(struct core *c, struct join *j, const char *owner)
{
    struct core_call call = {.kind = CORE_CALL_RESERVE, .room = j->call.room, .player = j->call.player};
    if (!op_call(c, OP_JOIN, j, owner, &call, c->config.call_ms))
        fail(c, j, ROOM_E_FULL);
}

static void create(struct core *c, struct join *j)
{
    struct core_call call = j->call;
    call.kind = CORE_CALL_CREATE;
    if (!call.room.s[0]) {
        char room[ULID_SIZE];
        id_ulid(room, c->wall, &c->rng);
        id_set(&call.room, room);
        call.generated = true;
        j->call.room = call.room; /* a repeated creation asks for the same room, by name */
    }
    struct id server;
    int code = core_place(c, &j->tried, 1, &server);
    if (code && j->tried.s[0] && !mono_reached(c->now, j->deadline)) /* nobody else: the same one again */
        code = core_place(c, NULL, 0, &server);
    if (code)
        fail(c, j, code);
    else if (!op_call(c, OP_JOIN, j, server.s, &call, core_create_ms(c, &call)))
        fail(c, j, ROOM_E_FULL);
}

/* The type's allocator: first in rank of the live nodes, leaving out one that did not answer. */
static void allocate(struct core *c, struct join *j)
{
    const char *best = NULL;
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it)) {
        struct view_server *v = it.value;
        if (!view_server_usable(v) || v->info.status != SERVER_UP || strcmp(it.key, j->tried.s) == 0)
            continue;
        if (!best || view_rank(j->call.type.s, it.key) > view_rank(j->call.type.s, best))
            best = it.key;
    }
    if (!best || strcmp(best, c->self.info.id.s) == 0 || j->tries >= 2) {
        allocate_request(c, 0, j, &j->call);
        return;
    }
    struct core_call call = j->call;
    call.kind = CORE_CALL_ALLOCATE;
    if (!op_call(c, OP_JOIN, j, best, &call, 3 * c->config.call_ms))
        fail(c, j, ROOM_E_FULL);
}

static void proceed(struct core *c, struct join *j)
{
    if (!j->call.room.s[0]) {
        if (j->mode == CORE_JOIN)
            fail(c, j, ROOM_E_NOT_FOUND);
        else if (j->mode == CORE_CREATE)
            create(c, j);
        else
            allocate(c, j);
        return;
    }
    const struct view_room *r = view_room(&c->view, j->call.room.s);
    if (r && away(c, &r->info)) {
        wait_for(c, j, &r->info);
        return;
    }
    bool there = r && r->info.state == ROOM_RUNNING && view_server_usable(view_server(&c->view, r->info.owner.s));
    if (there && j->mode == CORE_CREATE && !j->call.create_id.s[0])
        fail(c, j, ROOM_E_EXISTS);
    else if (there)
        reserve(c, j, r->info.owner.s);
    else if (j->mode == CORE_JOIN)
        ask_leader(c, j);
    else
        create(c, j); /* the claim finds out if it is there after all */
}

void join_start(struct core *c, const struct core_event *ev)
{
    struct join *j = alloc_get(c->alloc, sizeof(*j));
    bool kept = false;
    if (j) {
        j->req = ev->req;
        j->mode = ev->join_mode;
        j->deadline = mono_add_ms(c->now, PATIENCE_MS);
        j->call = *ev->call;
        j->options = core_keep_options(c, &j->call, &kept);
    }
    if (!kept) {
        if (j)
            alloc_put(c->alloc, j, sizeof(*j));
        struct core_fx *fx = core_fx(c, CORE_FX_JOIN_RESULT);
        if (fx) {
            fx->req = ev->req;
            fx->answer.code = ROOM_E_NO_MEMORY;
        }
        return;
    }
    if (!j->call.room.s[0] && j->call.create_id.s[0]) {
        char room[ULID_SIZE];
        id_derived(room, j->call.type.s, j->call.create_id.s);
        id_set(&j->call.room, room);
    }
    if (!self_serves(c))
        fail(c, j, ROOM_E_UNAVAILABLE);
    else if (j->mode != CORE_JOIN && !c->config.type_max_players(c->config.type_arg, j->call.type.s))
        fail(c, j, ROOM_E_UNKNOWN_TYPE);
    else
        proceed(c, j);
}

static bool nobody_there(int code)
{
    return code == ROOM_E_NO_RESPONDERS || code == ROOM_E_TIMEOUT || code == ROOM_E_UNAVAILABLE ||
           code == ROOM_E_FENCED || code == ROOM_E_DRAINING || code == ROOM_E_FULL;
}

/* Tries are quick but for a silent registry, which keeps each of them waiting for create_ms. */
static bool another_try(struct core *c, struct join *j)
{
    return j->tries++ < TRIES_MAX && !mono_reached(c->now, mono_add_ms(j->deadline, c->config.create_ms));
}

static void created(struct core *c, struct join *j, const struct op *op, const struct core_answer *a)
{
    if (a->code == ROOM_E_EXISTS && (j->mode == CORE_JOIN_OR_CREATE || j->call.create_id.s[0] || j->tries > 0)) {
        j->call.room = a->room;
        reserve(c, j, a->server.s);
    } else if (a->code == ROOM_E_UNAVAILABLE && a->epoch && !mono_reached(c->now, j->deadline)) {
        pause(c, j); /* the name is in use, by a room that is coming or going */
    } else if (nobody_there(a->code) && another_try(c, j)) {
        j->tried = op->server;
        create(c, j);
    } else {
        join_answer(c, j, a);
    }
}

void join_call_done(struct core *c, const struct op *op, const struct core_answer *a)
{
    struct join *j = op->owner;
    switch (op->step) {
    case CORE_CALL_CREATE:
        created(c, j, op, a);
        return;
    case CORE_CALL_ALLOCATE:
        if (nobody_there(a->code) && j->tries++ < TRIES_MAX) {
            j->tried = op->server;
            allocate(c, j);
            return;
        }
        break;
    case CORE_CALL_RESERVE:
        if (nobody_there(a->code) && a->code != ROOM_E_FULL && j->tries < SURE_AFTER) {
            j->tries++;
            pause(c, j);
            return;
        }
        if ((nobody_there(a->code) && a->code != ROOM_E_FULL) || a->code == ROOM_E_NOT_FOUND) {
            bool confirmed = j->confirmed;
            j->confirmed = false;
            if (confirmed)
                pause(c, j); /* it has just died, or has won the name and does not know it yet, or has just given it up */
            else
                ask_leader(c, j);
            return;
        }
        break;
    }
    join_answer(c, j, a);
}

void join_kv_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct join *j = op->owner;
    if (ev->kv_result == CORE_KV_NOT_FOUND || (ev->kv_result == CORE_KV_OK && !ev->room)) {
        struct wall made;
        /* A room with a generated id may run before it is listed, and its maker tell a friend at once. */
        bool may_come = id_ulid_time(j->call.room.s, &made) && j->unlisted++ < UNLISTED_TRIES;
        if (j->mode == CORE_JOIN && may_come)
            pause(c, j);
        else if (j->mode == CORE_JOIN)
            fail(c, j, ROOM_E_NOT_FOUND);
        else
            create(c, j);
        return;
    }
    if (ev->kv_result != CORE_KV_OK) {
        pause(c, j); /* no leader to ask: the view may have to do */
        return;
    }
    view_put_room(&c->view, ev->room, ev->revision);
    const struct view_server *v = view_server(&c->view, ev->room->owner.s);
    if (away(c, ev->room)) {
        wait_for(c, j, ev->room);
    } else if (!v || v->info.status == SERVER_DOWN) {
        pause(c, j); /* its room is taken over or taken off the list in a moment */
    } else {
        j->confirmed = true;
        reserve(c, j, ev->room->owner.s);
    }
}
