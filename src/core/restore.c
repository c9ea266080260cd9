/*
 * Rooms taken over: claim, restore, further tries, parking.
 *
 * Decides: how a room without an owner becomes this node's: one compare-and-set of its entry at the revision that was
 * judged (next epoch, one more restore), then the room host brings its state back; how often that is tried; and when a
 * room that has run for long enough counts as sound. Must not know where the state comes from.
 * Weak point: the count cannot tell a room that kills its owner from an owner that was killed: three deaths within
 * stable_ms of each other park the rooms that went through all of them.
 * Invariant: each try was counted in the entry before it began, so that a room that crashes its owners is parked.
 */
#include "core/state.h"

#include <string.h>

enum { PAUSE_MIN_MS = 250, PAUSE_MAX_MS = 2000, RETRY_MS = 250 };

bool restore_under_way(const struct owned *o)
{
    return o->restoring && !o->restoring->running;
}

static void count(struct core *c, struct restoring *t, bool on)
{
    if (t->counted == on)
        return;
    t->counted = on;
    if (on)
        c->restores++;
    else
        c->more |= c->restores-- == RESTORES_MAX; /* others were held back */
}

static void unlink_unsound(struct core *c, struct restoring *t)
{
    *(t->prev ? &t->prev->next : &c->unsound_head) = t->next;
    *(t->next ? &t->next->prev : &c->unsound_tail) = t->prev;
}

void restore_end(struct core *c, struct owned *o)
{
    struct restoring *t = o->restoring;
    if (!t)
        return;
    count(c, t, false);
    if (t->running)
        unlink_unsound(c, t);
    alloc_put(c->alloc, t, sizeof(*t));
    o->restoring = NULL;
}

static const char *reason_of(const struct core *c, const struct room_info *info)
{
    const struct view_server *v = view_server(&c->view, info->owner.s);
    if (strcmp(info->boot, BOOT_UNKNOWN) == 0)
        return "recovery";
    if (strcmp(info->owner.s, c->self.info.id.s) == 0)
        return "restart";
    return info->state == ROOM_PENDING && !(v && v->info.status == SERVER_DOWN) ? "released" : "failover";
}

static struct owned *begin(struct core *c, const struct view_room *r, const struct id *from, const char *reason)
{
    struct owned *o = alloc_get(c->alloc, sizeof(*o));
    if (o && (o->restoring = alloc_get(c->alloc, sizeof(*o->restoring))))
        o->info = r->info;
    if (!o || !o->restoring || !map_put_borrowed(&c->owned, o->info.id.s, o)) {
        if (o)
            owner_release(c, o);
        return NULL;
    }
    struct restoring *t = o->restoring;
    *t = (struct restoring){.room = o, .from = *from, .reason = reason};
    count(c, t, true);
    o->state = OWNED_CLAIMING;
    o->revision = r->revision;
    o->announced = true; /* by its first owner */
    o->info.state = ROOM_STARTING;
    o->info.seats_version = 0; /* counted anew in each epoch */
    o->next = c->now;
    expect_forget(c, o->info.id.s);
    return o;
}

bool restore_claim(struct core *c, const struct view_room *r)
{
    struct owned *o = begin(c, r, &r->info.owner, reason_of(c, &r->info));
    if (!o)
        return false;
    o->info.epoch++;
    o->info.restores++;
    owner_act(c, o);
    return true;
}

bool restore_take(struct core *c, const struct view_room *r, const struct id *from, const char *reason)
{
    struct owned *o = begin(c, r, from, reason);
    if (o)
        restore_won(c, o);
    return o != NULL;
}

/* Somebody else was faster, or the entry is gone. */
static void give_up(struct core *c, struct owned *o)
{
    create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
    owner_forget(c, o);
}

bool restore_refused(struct core *c, struct owned *o, const struct core_event *ev)
{
    if (o->state != OWNED_CLAIMING || !o->restoring)
        return false;
    bool ends = ev->kv_result == CORE_KV_CONFLICT && !o->restoring->own_write;
    o->restoring->own_write = true;
    if (ends)
        give_up(c, o);
    return ends;
}

bool restore_lost(struct core *c, struct owned *o, const struct core_event *ev)
{
    if (o->state != OWNED_CLAIMING || !o->restoring)
        return false;
    if (ev->kv_result == CORE_KV_OK && ev->room && ev->revision == o->revision) {
        o->unsure = false; /* as it was judged: the write was not applied, and the same may be tried again */
        owner_mark(c, o);
        return true;
    }
    if (ev->kv_result == CORE_KV_OK && ev->room)
        view_put_room(&c->view, ev->room, ev->revision);
    give_up(c, o);
    return true;
}

void restore_won(struct core *c, struct owned *o)
{
    struct restoring *t = o->restoring;
    t->own_write = true;
    if (c->self.state != SELF_UP) {
        o->info.restores--; /* it was not even tried */
        release_now(c, o);
        return;
    }
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_RESTORE);
    if (!fx) {
        o->next = mono_add_ms(c->now, RETRY_MS);
        owner_mark(c, o);
        return;
    }
    count(c, t, true);
    o->state = OWNED_STARTING;
    fx->room_entry = o->info;
    fx->server = t->from;
    fx->reason = t->reason;
    if (o->waiters)
        owner_mark(c, o); /* for their patience */
}

static void runs(struct core *c, struct owned *o, const struct core_answer *answer)
{
    struct restoring *t = o->restoring;
    o->state = OWNED_RUNNING;
    o->info.state = ROOM_RUNNING;
    o->info.players = answer->players;
    o->info.seats = answer->seats;
    o->info.seats_version = answer->seats_version;
    o->info.max_players = answer->max_players;
    o->info.saved_epoch = o->info.saved_version = 0;
    struct core_fx *fx = core_fx(c, CORE_FX_MIGRATED);
    if (fx) {
        fx->room_entry = o->info;
        fx->server = t->from;
        fx->reason = t->reason;
    }
    create_reply(c, o, ROOM_E_OK, answer);
    t->running = true;
    t->sound = mono_add_ms(c->now, c->config.stable_ms);
    t->prev = c->unsound_tail;
    *(c->unsound_tail ? &c->unsound_tail->next : &c->unsound_head) = t;
    c->unsound_tail = t;
    owner_soon(c, o); /* gateways wait for it */
}

/* Between two tries the room is a claim again: the write that counts the next one comes after the pause. */
static void try_again(struct core *c, struct owned *o)
{
    struct restoring *t = o->restoring;
    bool enough = o->info.restores >= CORE_RESTORES_MAX;
    t->pause_ms = !t->pause_ms ? PAUSE_MIN_MS : t->pause_ms < PAUSE_MAX_MS ? 2 * t->pause_ms : PAUSE_MAX_MS;
    o->state = enough ? OWNED_PARKING : OWNED_CLAIMING;
    o->info.state = enough ? ROOM_PARKED : ROOM_STARTING;
    o->info.restores += !enough;
    o->next = mono_add_ms(c->now, enough ? 0 : t->pause_ms);
    owner_mark(c, o);
}

void restore_started(struct core *c, struct owned *o, const struct core_answer *answer)
{
    count(c, o->restoring, false);
    if (answer->code == ROOM_E_OK)
        runs(c, o, answer);
    else if (answer->code == ROOM_E_NOT_FOUND)
        owner_close(c, o, "state_lost");
    else if (answer->code == ROOM_E_CANCELLED)
        owner_close(c, o, "closed");
    else
        try_again(c, o);
}

void restore_parked(struct core *c, struct owned *o)
{
    struct core_fx *fx = core_fx(c, CORE_FX_PARKED);
    if (fx) {
        fx->room_entry = o->info;
        fx->reason = "restore_failed";
    }
    give_up(c, o);
}

void restore_tick(struct core *c)
{
    while (c->unsound_head && mono_reached(c->now, c->unsound_head->sound)) {
        struct owned *o = c->unsound_head->room;
        o->info.restores = 0;
        owner_mark(c, o);
        restore_end(c, o);
    }
}
