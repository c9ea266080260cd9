/*
 * Moves all rooms away from this node.
 *
 * Decides: which room is tried next, how many at a time, and when one that could not be moved is tried again. The node
 * takes nothing new meanwhile (create.c, adopt.c, expect.c and the placement ask `drain`), and its entry says so. Must not
 * decide where a room goes or whether it has moved (move.c).
 * Invariant: at most drain_parallel moves of the drain are under way; each room is tried once in RETRY_MS.
 */
#include "core/state.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_MS = 1000, TRIES_MAX = 64 /* in one step */ };

static void unlink_queued(struct core *c, struct owned *o)
{
    if (!o->queued)
        return;
    *(o->drain_prev ? &o->drain_prev->drain_next : &c->drain.head) = o->drain_next;
    *(o->drain_next ? &o->drain_next->drain_prev : &c->drain.tail) = o->drain_prev;
    o->queued = false;
}

static void set_stuck(struct core *c, struct owned *o, bool stuck)
{
    c->drain.shown.failed -= o->stuck;
    o->stuck = stuck;
    c->drain.shown.failed += o->stuck;
}

void drain_forget(struct core *c, struct owned *o)
{
    unlink_queued(c, o);
    set_stuck(c, o, false);
}

void drain_set(struct core *c, bool on)
{
    bool state_ends = c->self.state == SELF_LEAVING || c->self.state == SELF_GONE;
    if (on == c->drain.shown.on || state_ends)
        return;
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it))
        drain_forget(c, it.value);
    c->drain.shown = (struct core_drain){.on = on, .moving = c->drain.shown.moving};
    c->drain.next_fill = c->now;
    self_drain(c);
    drain_tick(c);
}

static void fill(struct core *c)
{
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it)) {
        struct owned *o = it.value;
        if (o->state != OWNED_RUNNING || o->move || o->queued)
            continue;
        o->queued = true;
        o->drain_prev = c->drain.tail;
        o->drain_next = NULL;
        *(c->drain.tail ? &c->drain.tail->drain_next : &c->drain.head) = o;
        c->drain.tail = o;
    }
}

static void failed(struct core *c, struct owned *o, int code)
{
    const char *why = code == ROOM_E_UNSUPPORTED   ? "not_movable"
                      : code == ROOM_E_UNAVAILABLE ? "no_target"
                                                   : room_error_name(code);
    set_stuck(c, o, true);
    snprintf(c->drain.shown.reason, sizeof(c->drain.shown.reason), "%s", why);
}

void drain_ended(struct core *c, struct owned *o, int code)
{
    c->drain.shown.moving--;
    c->drain.shown.moved += !code;
    if (code && c->drain.shown.on && !o->removed)
        failed(c, o, code);
}

void drain_next(struct core *c)
{
    int left = TRIES_MAX;
    while (c->drain.head && c->drain.shown.moving < c->config.drain_parallel && self_serves(c) && left-- > 0) {
        struct owned *o = c->drain.head;
        unlink_queued(c, o);
        if (o->state != OWNED_RUNNING || o->move)
            continue;
        int code = move_begin(c, o, NULL, "drain", 0, true);
        c->drain.shown.moving += !code;
        if (code)
            failed(c, o, code);
        else
            set_stuck(c, o, false);
    }
}

void drain_tick(struct core *c)
{
    if (!c->drain.shown.on || !mono_reached(c->now, c->drain.next_fill))
        return;
    c->drain.next_fill = mono_add_ms(c->now, RETRY_MS);
    fill(c);
}

struct core_drain core_drain_state(const struct core *c)
{
    struct core_drain d = c->drain.shown;
    d.left = (unsigned)c->owned.count;
    return d;
}
