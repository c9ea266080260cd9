/*
 * Rooms given up for others to take, and rooms that only this node's disk knows.
 *
 * Decides: what becomes of the rooms here when this node stops: those that are kept are saved and listed as pending, the
 * others end; and which rooms of its disk are listed again after a registry has lost its memory: as pending too, so that
 * the one ranking (adopt.c) says who takes them. Must not save or read anything itself.
 * Invariant: a room is listed as pending only after the room host has said that it does not run here any more.
 */
#include "core/state.h"

#include <string.h>

enum { STEP_READ, STEP_WRITE };
enum { HELD_MAX = 65536, TICK_MAX = 128, OPS_MAX = 256, RETRY_MS = 500 };

void release_now(struct core *c, struct owned *o)
{
    restore_end(c, o);
    o->state = OWNED_RELEASED;
    o->info.state = ROOM_PENDING;
    o->next = c->now;
    owner_mark(c, o);
}

/* Its claim is not settled: if it is won after all, restore_won() gives it up again. */
static void release_claim(struct core *c, struct owned *o)
{
    if (o->busy || o->unsure)
        return;
    if (!o->restoring->own_write) {
        create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
        owner_forget(c, o);
        return;
    }
    o->info.restores--; /* the next try has not begun */
    release_now(c, o);
}

static void release(struct core *c, struct owned *o, const char *reason)
{
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_RELEASE);
    if (!fx)
        return; /* then it is taken over as from the dead */
    fx->room = o->info.id;
    fx->reason = reason;
    create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
    if (o->restoring)
        o->info.restores--; /* it was not let finish, or runs and has done its owner no harm */
    restore_end(c, o);
    o->state = OWNED_RELEASING;
    c->releasing++;
}

static void end(struct core *c, struct owned *o, const char *reason)
{
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_DROP);
    if (fx) {
        fx->room = o->info.id;
        fx->reason = reason;
    }
    owner_close(c, o, reason);
}

void release_room(struct core *c, struct owned *o, const char *reason)
{
    bool over = o->state == OWNED_CLOSING || o->state == OWNED_PARKING || o->state == OWNED_RELEASING ||
                o->state == OWNED_RELEASED;
    if (over || !move_stop(c, o))
        return;
    if (!o->info.durability || o->asked)
        end(c, o, reason);
    else if (o->state == OWNED_CLAIMING)
        release_claim(c, o);
    else
        release(c, o, reason);
}

void release_all(struct core *c, const char *reason)
{
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it))
        release_room(c, it.value, reason);
}

void release_done(struct core *c, const struct core_event *ev)
{
    struct owned *o = map_get(&c->owned, ev->room->id.s);
    uint64_t token = o && o->move ? o->move->number : 0;
    if (!o || ev->token != token)
        return; /* of a release that was called off, or has another in its place */
    if (o->state == OWNED_MOVING) {
        move_released(c, o, ev->answer ? ev->answer->code : ROOM_E_OK, ev->revision);
    } else if (o->state == OWNED_RELEASING) {
        c->releasing--;
        release_now(c, o);
    }
}

void release_written(struct core *c, struct owned *o)
{
    create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
    owner_forget(c, o);
}

static void finish(struct core *c, struct held *h)
{
    map_del(&c->held, h->info.id.s);
    alloc_put(c->alloc, h, sizeof(*h));
}

void release_held(struct core *c, const struct room_info *info)
{
    bool known = c->config.type_max_players(c->config.type_arg, info->type.s) && info->durability && info->id.s[0];
    struct held *h = map_get(&c->held, info->id.s);
    if (!known || h || c->held.count >= HELD_MAX || !(h = alloc_get(c->alloc, sizeof(*h))))
        return;
    h->info = (struct room_info){.id = info->id, .type = info->type, .owner = c->self.info.id, .boot = BOOT_UNKNOWN,
                                 .epoch = info->epoch, .durability = info->durability, .created = info->created,
                                 .max_players = info->max_players, .is_private = info->is_private,
                                 .state = ROOM_PENDING};
    h->due = c->now;
    if (!map_put_borrowed(&c->held, h->info.id.s, h))
        alloc_put(c->alloc, h, sizeof(*h));
}

/* Another disk's older copy, listed again and not taken yet: ours goes before it. */
static bool outdates(const struct held *h, const struct room_info *listed)
{
    return listed->state == ROOM_PENDING && strcmp(listed->boot, BOOT_UNKNOWN) == 0 &&
           listed->epoch < h->info.epoch;
}

void release_held_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct held *h = op->owner;
    bool found = ev->kv_result == CORE_KV_OK && ev->room;
    h->busy = false;
    if (op->step == STEP_WRITE && ev->kv_result == CORE_KV_OK) {
        struct id room = h->info.id;
        view_put_room(&c->view, &h->info, ev->revision);
        finish(c, h);
        adopt_heard(c, room.s);
    } else if (op->step == STEP_WRITE || ev->kv_result == CORE_KV_UNKNOWN) {
        h->due = mono_add_ms(c->now, RETRY_MS); /* what is there now is read again */
    } else if (found ? !outdates(h, ev->room) : ev->revision != 0) {
        if (found)
            view_put_room(&c->view, ev->room, ev->revision);
        finish(c, h); /* listed, or ended: the registry remembers */
    } else {
        id_ulid(h->info.nonce, c->wall, &c->rng);
        h->busy = op_put_room(c, OP_HELD, h, STEP_WRITE, &h->info, ev->revision);
        h->due = mono_add_ms(c->now, RETRY_MS);
    }
}

void release_tick(struct core *c)
{
    if (!c->held.count || !reap_may(c) ||
        !mono_reached(c->now, mono_add_ms(c->self.ready_since, c->config.settle_ms)))
        return;
    int left = TICK_MAX, busy = 0;
    for (struct map_iter it = map_first(&c->held); it.value && left > 0 && busy < OPS_MAX; map_next(&it)) {
        struct held *h = it.value;
        const struct view_room *r = view_room(&c->view, it.key);
        if (!h->busy && mono_reached(c->now, h->due)) {
            left--;
            if (map_get(&c->owned, it.key) || (r && !outdates(h, &r->info))) {
                finish(c, h);
                continue;
            }
            h->busy = op_get(c, OP_HELD, h, STEP_READ, NULL, it.key);
        }
        busy += h->busy;
    }
}

void release_deinit(struct core *c)
{
    for (struct map_iter it = map_first(&c->held); it.value; map_next(&it))
        alloc_put(c->alloc, it.value, sizeof(struct held));
    map_deinit(&c->held);
}
