/*
 * Rooms that move here, as seen from the new owner.
 *
 * Decides: whether this node will take a room that another one wants to give away, and when such a room is its own: as soon
 * as the registry names this node and boot, in a room's state that nobody else writes. The old owner's word that it has
 * written that only says where to look.
 * A room that was agreed to is taken as the view has it, once; any other entry of that kind is read from the leader first:
 * it may be the late news of a room that has come and gone since.
 * Invariant: what was agreed to counts against this node's capacity until it is here, or not waited for any longer.
 */
#include "core/state.h"

#include <string.h>

enum { EXPECTED_MAX = 1024 };

bool expect_handed(const struct core *c, const struct room_info *info)
{
    return info->state == ROOM_STARTING && strcmp(info->owner.s, c->self.info.id.s) == 0 &&
           strcmp(info->boot, c->self.info.boot) == 0 && !map_get(&c->owned, info->id.s);
}

/* Even a node that stops takes what is its own, so that it can pass it on. */
static bool may_take(const struct core *c)
{
    bool member = c->self.state == SELF_UP || c->self.state == SELF_LEAVING;
    return member && c->self.bus_up && !c->self.isolated;
}

static void finish(struct core *c, struct expected *e)
{
    map_del(&c->expected, e->room.s);
    alloc_put(c->alloc, e, sizeof(*e));
}

void expect_forget(struct core *c, const char *room)
{
    struct expected *e = map_get(&c->expected, room);
    if (e)
        finish(c, e);
}

/* NULL: no memory, or too many. */
static struct expected *note(struct core *c, const struct id *room, uint64_t epoch, const struct id *from,
                             const char *reason)
{
    struct expected *e = map_get(&c->expected, room->s);
    if (!e) {
        e = c->expected.count < EXPECTED_MAX ? alloc_get(c->alloc, sizeof(*e)) : NULL;
        if (!e)
            return NULL;
        e->room = *room;
        if (!map_put_borrowed(&c->expected, e->room.s, e)) {
            alloc_put(c->alloc, e, sizeof(*e));
            return NULL;
        }
    }
    e->from = *from;
    e->epoch = epoch;
    e->reason = reason;
    e->asked = false;
    e->due = mono_add_ms(c->now, c->config.migration_timeout_ms);
    return e;
}

static int agree(struct core *c, const struct core_call *call)
{
    bool named = call->room.s[0] && call->epoch && call->server.s[0] &&
                 strcmp(call->server.s, c->self.info.id.s) != 0;
    bool again = map_get(&c->expected, call->room.s) != NULL;
    int code = !named                                                                ? ROOM_E_INVALID
               : !self_serves(c)                                                     ? ROOM_E_UNAVAILABLE
               : c->drain.shown.on                                                   ? ROOM_E_DRAINING
               : !c->config.type_max_players(c->config.type_arg, call->type.s)       ? ROOM_E_UNKNOWN_TYPE
               : map_get(&c->owned, call->room.s)                                    ? ROOM_E_EXISTS
               : core_rooms(c) - again >= c->self.info.capacity                      ? ROOM_E_FULL
               : !again && c->expected.count >= EXPECTED_MAX                         ? ROOM_E_FULL
                                                                                     : ROOM_E_OK;
    struct expected *e = code ? NULL : note(c, &call->room, call->epoch, &call->server, move_reason(call->reason));
    if (e)
        e->asked = true;
    return e ? ROOM_E_OK : code ? code : ROOM_E_NO_MEMORY;
}

static void look(struct core *c, struct expected *e)
{
    if (!e->reading)
        e->reading = op_get(c, OP_EXPECT, NULL, 0, NULL, e->room.s);
}

/* The view may not have it yet. */
static void committed(struct core *c, const struct core_call *call)
{
    const struct view_room *r = view_room(&c->view, call->room.s);
    if (!may_take(c) || !call->room.s[0] || map_get(&c->owned, call->room.s))
        return;
    if (r && r->revision >= call->revision) {
        if (expect_handed(c, &r->info))
            expect_seen(c, r);
        return;
    }
    struct expected *e = map_get(&c->expected, call->room.s);
    if (e || (e = note(c, &call->room, call->epoch, &call->server, move_reason(call->reason))))
        look(c, e);
}

void expect_asked(struct core *c, uint64_t req, const struct core_call *call)
{
    int code = ROOM_E_OK;
    if (call->commit)
        committed(c, call);
    else
        code = agree(c, call);
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (!fx)
        return;
    fx->req = req;
    fx->answer = (struct core_answer){.code = code, .room = call->room, .type = call->type, .server = c->self.info.id,
                                      .epoch = call->epoch};
    if (!code)
        memcpy(fx->answer.boot, c->self.info.boot, sizeof(fx->answer.boot));
}

static void take(struct core *c, const struct view_room *r, const struct expected *e)
{
    bool known = e && e->epoch == r->info.epoch && e->from.s[0];
    struct id from = known ? e->from : r->info.owner;
    (void)restore_take(c, r, &from, known ? e->reason : "migration"); /* no memory: the next scan finds it again */
}

void expect_seen(struct core *c, const struct view_room *r)
{
    struct expected *e = map_get(&c->expected, r->info.id.s);
    if (!may_take(c))
        return;
    if (e && e->asked && e->epoch == r->info.epoch)
        take(c, r, e);
    else if (e || (e = note(c, &r->info.id, r->info.epoch, &(struct id){{0}}, "migration")))
        look(c, e);
}

void expect_before(struct core *c, const struct room_info *info)
{
    const struct view_room *r = view_room(&c->view, info->id.s);
    if (r && r->info.epoch < info->epoch && expect_handed(c, info) && !map_get(&c->expected, info->id.s))
        (void)note(c, &info->id, info->epoch, &r->info.owner, "migration");
}

void expect_read(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct expected *e = map_get(&c->expected, op->room.s);
    if (!e || !e->reading)
        return;
    e->reading = false;
    if (ev->kv_result == CORE_KV_UNKNOWN || !may_take(c))
        return; /* the next scan finds it again */
    bool ours = ev->kv_result == CORE_KV_OK && ev->room && strcmp(ev->room->id.s, op->room.s) == 0 &&
                expect_handed(c, ev->room);
    const struct view_room *r = ours ? view_put_room(&c->view, ev->room, ev->revision) : NULL;
    if (r && expect_handed(c, &r->info))
        take(c, r, e);
    else if (!e->asked)
        finish(c, e);
}

void expect_tick(struct core *c)
{
    for (struct map_iter it = map_first(&c->expected); it.value; map_next(&it)) {
        struct expected *e = it.value;
        if (!e->reading && mono_reached(c->now, e->due))
            finish(c, e);
    }
}

void expect_deinit(struct core *c)
{
    for (struct map_iter it = map_first(&c->expected); it.value; map_next(&it))
        alloc_put(c->alloc, it.value, sizeof(struct expected));
    map_deinit(&c->expected);
}
