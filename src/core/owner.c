/*
 * Rooms owned here: winning them, listing them, losing them.
 *
 * Decides: ownership, by one compare-and-set of `rooms.<id>` with three outcomes; an unknown one is settled by reading
 * the entry from the leader and looking for this write's nonce. A free name may have been in use before, by an owner that
 * is cut off and does not know that it has lost it: the new room's epoch comes from the revision of the delete marker
 * (+ 2: above that of a generated id), which no earlier room of the name can have reached.
 * Counts are written at most every listing_ms per room. Must not know seats or players; the room host tells the counts.
 * Invariant: one registry operation per room at a time (`busy`).
 */
#include "core/state.h"

#include <stdio.h>
#include <string.h>

enum { STEP_WRITE, STEP_READ, STEP_DELETE };
enum { RETRY_MS = 250, TICK_MAX = 128, OPS_MAX = 256 };

void owner_mark(struct core *c, struct owned *o)
{
    if (o->dirty)
        return;
    o->dirty = true;
    o->dirty_prev = c->dirty_tail;
    o->dirty_next = NULL;
    *(c->dirty_tail ? &c->dirty_tail->dirty_next : &c->dirty_head) = o;
    c->dirty_tail = o;
}

static void unmark(struct core *c, struct owned *o)
{
    if (!o->dirty)
        return;
    *(o->dirty_prev ? &o->dirty_prev->dirty_next : &c->dirty_head) = o->dirty_next;
    *(o->dirty_next ? &o->dirty_next->dirty_prev : &c->dirty_tail) = o->dirty_prev;
    o->dirty = false;
}

void owner_forget_call(struct core *c, struct owned *o)
{
    if (!o->asked)
        return;
    core_drop_options(c, &o->asked->call, o->asked->options);
    alloc_put(c->alloc, o->asked, sizeof(*o->asked));
    o->asked = NULL;
}

void owner_release(struct core *c, struct owned *o)
{
    for (struct waiter *w = o->waiters, *next; w; w = next) {
        next = w->next;
        alloc_put(c->alloc, w, sizeof(*w));
    }
    owner_forget_call(c, o);
    alloc_put_str(c->alloc, o->reason);
    alloc_put(c->alloc, o->restoring, sizeof(*o->restoring));
    alloc_put(c->alloc, o->move, sizeof(*o->move));
    alloc_put(c->alloc, o, sizeof(*o));
}

/* Effects of this step may borrow from it: freed when the next step begins. */
static void bury(struct core *c, struct owned *o)
{
    o->dirty_next = c->dead;
    c->dead = o;
}

void owner_free_dead(struct core *c)
{
    for (struct owned *o = c->dead, *next; o; o = next) {
        next = o->dirty_next;
        owner_release(c, o);
    }
    c->dead = NULL;
}

void owner_forget(struct core *c, struct owned *o)
{
    unmark(c, o);
    restore_end(c, o);
    move_end(c, o, ROOM_E_FENCED);
    drain_forget(c, o);
    c->releasing -= o->state == OWNED_RELEASING;
    map_del(&c->owned, o->info.id.s);
    o->removed = true;
    if (!o->busy)
        bury(c, o);
}

/* NULL when there is no memory for it: then the room's end is told without one. */
static void set_reason(struct core *c, struct owned *o, const char *reason)
{
    alloc_put_str(c->alloc, o->reason);
    o->reason = alloc_str(c->alloc, reason);
}

/* No memory or no free operation: not again in this tick, or the walk over the list would never end. */
static void postpone(struct core *c, struct owned *o)
{
    o->next = mono_add_ms(c->now, RETRY_MS);
    owner_mark(c, o);
}

/* A registry operation of the room has begun, unless there was no memory for it. */
static void begun(struct core *c, struct owned *o, bool started)
{
    o->busy = started;
    c->owner_ops += started;
}

static void write_entry(struct core *c, struct owned *o)
{
    unmark(c, o);
    if (o->state == OWNED_COMMITTING) {
        begun(c, o, move_write(c, o));
    } else {
        id_ulid(o->info.nonce, c->wall, &c->rng);
        o->info.owner = c->self.info.id;
        memcpy(o->info.boot, c->self.info.boot, sizeof(o->info.boot));
        o->wrote = o->info.state;
        begun(c, o, op_put_room(c, OP_ROOM, o, STEP_WRITE, &o->info, o->revision));
    }
    if (!o->busy)
        postpone(c, o);
}

void owner_changed(struct core *c, const struct room_info *info)
{
    struct owned *o = map_get(&c->owned, info->id.s);
    bool here = o && (o->state == OWNED_RUNNING || o->state == OWNED_MOVING || o->state == OWNED_COMMITTING ||
                      o->state == OWNED_KEEPING);
    if (!here)
        return;
    bool shown = o->info.players != info->players || o->info.locked != info->locked ||
                 o->info.max_players != info->max_players || o->info.metadata_version != info->metadata_version;
    o->info.players = info->players;
    o->info.seats = info->seats;
    o->info.seats_version = info->seats_version;
    o->info.max_players = info->max_players;
    o->info.locked = info->locked;
    o->info.metadata_version = info->metadata_version;
    o->updated |= shown;
    owner_mark(c, o);
}

void owner_close(struct core *c, struct owned *o, const char *reason)
{
    create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
    move_end(c, o, ROOM_E_CANCELLED);
    c->releasing -= o->state == OWNED_RELEASING;
    o->state = OWNED_CLOSING;
    if (reason != o->reason) /* told while it was moving */
        set_reason(c, o, reason);
    o->next = c->now;
    owner_mark(c, o);
}

void owner_ended(struct core *c, const char *room, const char *reason)
{
    struct owned *o = map_get(&c->owned, room);
    if (!o || o->state == OWNED_CLOSING || o->state == OWNED_PARKING || o->state == OWNED_RELEASED)
        return;
    if (move_open(o))
        set_reason(c, o, reason);
    else
        owner_close(c, o, reason);
}

/* Superseded, or no longer wanted: the room stops here, whatever the registry says. */
static void drop(struct core *c, struct owned *o, const char *reason)
{
    create_reply(c, o, ROOM_E_FENCED, NULL);
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_DROP);
    if (fx) {
        fx->room = o->info.id;
        fx->reason = reason;
    }
    owner_forget(c, o);
}

void owner_drop_all(struct core *c, const char *reason)
{
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it))
        drop(c, it.value, reason);
}

/* The entry bears another owner, or a higher epoch: ours by no right. */
static bool foreign(const struct core *c, const struct owned *o, const struct room_info *info)
{
    return info->epoch > o->info.epoch || strcmp(info->boot, o->info.boot) != 0 ||
           strcmp(info->owner.s, c->self.info.id.s) != 0;
}

static void disposed(struct core *c, struct owned *o)
{
    struct core_fx *fx = o->announced ? core_fx(c, CORE_FX_DISPOSED) : NULL;
    if (fx) {
        fx->room_entry = o->info;
        fx->reason = o->reason;
    }
    create_reply(c, o, ROOM_E_UNAVAILABLE, NULL); /* the name is free now: asked again, a room can be made */
    const struct view_room *r = view_room(&c->view, o->info.id.s);
    /* Another owner's entry stays; and one of our own that the leader did not show, but a watch has: it is reaped. */
    if (r && strcmp(r->info.owner.s, c->self.info.id.s) == 0 && (o->revision || !r->revision))
        view_del_room(&c->view, o->info.id.s, 0);
    owner_forget(c, o);
}

/* The entry is somebody else's: what was ours is over, and nothing of it is written or told any more. A room that is kept and
 * has ended here is the other's to end: he finds its end in the journal, or it never came to be. */
static void lost(struct core *c, struct owned *o)
{
    bool given_up = o->state == OWNED_RELEASED || o->state == OWNED_PARKING ||
                    (o->state == OWNED_CLOSING && (o->info.durability || restore_under_way(o)));
    if (o->state == OWNED_CLOSING && !given_up) {
        disposed(c, o);
    } else if (given_up) {
        create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
        owner_forget(c, o);
    } else {
        drop(c, o, "superseded");
    }
}

static void listed(struct core *c, struct owned *o, uint64_t revision)
{
    o->revision = revision;
    o->unsure = false;
    o->next = mono_add_ms(c->now, c->config.listing_ms);
    if (o->state == OWNED_CLAIMING && !o->restoring) {
        create_won(c, o);
        return;
    }
    view_put_room(&c->view, &o->info, revision);
    if (o->updated && o->state == OWNED_RUNNING) {
        struct core_fx *fx = core_fx(c, CORE_FX_UPDATED);
        if (fx)
            fx->room_entry = o->info;
        o->updated = false;
    }
    if (o->state == OWNED_CLAIMING)
        restore_won(c, o);
}

void owner_soon(struct core *c, struct owned *o)
{
    o->next = c->now;
    if (c->self.bus_up && !c->self.isolated && !o->busy)
        owner_act(c, o);
    else
        owner_mark(c, o);
}

static void written(struct core *c, struct owned *o, uint64_t revision)
{
    enum owned_state state = o->state;
    listed(c, o, revision); /* may free a room that cannot be started */
    if (state == OWNED_PARKING && o->wrote == ROOM_PARKED)
        restore_parked(c, o);
    else if (state == OWNED_RELEASED && o->wrote == ROOM_PENDING)
        release_written(c, o);
    else if (state == OWNED_KEEPING)
        move_keep(c, o);
    else if (state == OWNED_COMMITTING)
        owner_soon(c, o);
    else if (state == OWNED_CLOSING || state == OWNED_PARKING || state == OWNED_RELEASED)
        owner_mark(c, o);
}

/* Above every epoch the name ever had: each took a write, and the registry's revisions only grow. The deletion's own
 * revision says it, or, when that is forgotten already (BUS_KEEP_DELETED_MS), what has been heard of since. */
static uint64_t first_epoch(const struct core *c, uint64_t deleted)
{
    uint64_t heard = c->view.rooms_revision;
    return (deleted > heard ? deleted : heard) + 2;
}

/* Somebody removed it, or it was never written: list it (again). What is no entry is overwritten. */
static void absent(struct core *c, struct owned *o, const struct core_event *ev)
{
    o->revision = ev->kv_result == CORE_KV_OK ? ev->revision : 0;
    o->unsure = false;
    if (o->state == OWNED_CLOSING) {
        disposed(c, o);
    } else if (o->state == OWNED_CLAIMING) {
        o->revision = ev->revision;
        o->info.epoch = first_epoch(c, ev->revision);
        write_entry(c, o);
    } else {
        owner_mark(c, o);
    }
}

/* The entry as the leader has it is ours. Was it written by our last write, or does it stand as before? A claim that was
 * applied late bears the epoch it was sent with: it is written again if a higher one was chosen since. */
static void still_ours(struct core *c, struct owned *o, const struct core_event *ev)
{
    bool applied = strcmp(ev->room->nonce, o->info.nonce) == 0;
    bool claimed = applied || (!o->restoring && ev->room->epoch == o->info.epoch);
    o->revision = ev->revision;
    o->unsure = false;
    if (o->state == OWNED_CLAIMING ? claimed
                                   : applied && (o->state == OWNED_PARKING || o->state == OWNED_RELEASED))
        written(c, o, ev->revision);
    else if (!o->only_read || o->dirty)
        owner_mark(c, o);
}

static void read_done(struct core *c, struct owned *o, const struct core_event *ev)
{
    if (ev->kv_result == CORE_KV_UNKNOWN) {
        o->doubted |= o->only_read;
        owner_mark(c, o);
        return;
    }
    bool found = ev->kv_result == CORE_KV_OK && ev->room;
    bool ours = found && !foreign(c, o, ev->room);
    if (!ours && restore_lost(c, o, ev))
        return;
    if (!found && move_over(c, o, ev->revision))
        return;
    if (!found)
        absent(c, o, ev);
    else if (ours)
        still_ours(c, o, ev);
    else if (o->state == OWNED_CLAIMING)
        create_taken(c, o, ev->room, ev->revision);
    else if (!move_settled(c, o, ev->room, ev->revision))
        lost(c, o);
}

void owner_kv_done(struct core *c, struct op *op, const struct core_event *ev)
{
    struct owned *o = op->owner;
    o->busy = false;
    c->more |= c->owner_ops-- == OPS_MAX; /* listings were held back */
    if (o->removed) {
        owner_release(c, o);
        return;
    }
    o->next = mono_add_ms(c->now, ev->kv_result == CORE_KV_UNKNOWN ? RETRY_MS : 0);
    if (op->step == STEP_READ) {
        read_done(c, o, ev);
    } else if (ev->kv_result == CORE_KV_OK) {
        if (op->step == STEP_DELETE)
            disposed(c, o);
        else if (op->step == OWNER_COMMIT)
            move_settled(c, o, &o->move->entry, ev->revision);
        else
            written(c, o, ev->revision);
    } else if (!restore_refused(c, o, ev)) {
        o->unsure = true;
        owner_mark(c, o);
        if (op->step == OWNER_COMMIT)
            move_unsure(o, ev->kv_result);
        if ((o->state == OWNED_CLAIMING || o->state == OWNED_KEEPING) && ev->kv_result == CORE_KV_CONFLICT)
            owner_act(c, o); /* players wait to hear whose it is */
    }
}

/* One due room: read what is unsure, delete what is closing, write the rest. */
void owner_act(struct core *c, struct owned *o)
{
    const char *id = o->info.id.s;
    bool read = o->unsure || o->doubted;
    create_lose_patience(c, o);
    if (o->state == OWNED_CLOSING && !o->revision && !read) {
        disposed(c, o);
        return;
    }
    if (read) {
        o->only_read = !o->unsure && !o->dirty;
        unmark(c, o);
        begun(c, o, op_get(c, OP_ROOM, o, STEP_READ, NULL, id));
        o->doubted &= !o->busy;
    } else if (o->state == OWNED_CLOSING) {
        unmark(c, o);
        begun(c, o, op_del(c, OP_ROOM, o, STEP_DELETE, NULL, id, o->revision));
    } else {
        write_entry(c, o);
    }
    if (!o->busy)
        postpone(c, o);
}

/* The leader is asked at once; what is asked while another operation is under way might have been answered before. A room that
 * is not ours any more was to end here, and its end cannot be written: somebody else has its name. */
void owner_doubt(struct core *c, const char *room)
{
    struct owned *o = map_get(&c->owned, room);
    struct core_fx *fx = o ? NULL : core_fx(c, CORE_FX_ROOM_DROP);
    if (fx) {
        id_set(&fx->room, room);
        fx->reason = "superseded";
    }
    if (!o || o->state == OWNED_CLAIMING)
        return;
    o->doubted = true;
    o->next = c->now;
    if (o->busy || !c->self.bus_up)
        owner_mark(c, o);
    else
        owner_act(c, o);
}

/* Is its turn in the registry yet? While the room host works on a room there is nothing to write. */
static bool is_due(const struct core *c, const struct owned *o)
{
    bool held = (o->state == OWNED_RUNNING || o->state == OWNED_RELEASED) && c->owner_ops >= OPS_MAX;
    bool at_work = (o->state == OWNED_STARTING || o->state == OWNED_MOVING || o->state == OWNED_RELEASING) && !o->doubted;
    return !o->busy && !held && !at_work && mono_reached(c->now, o->next);
}

/* Neither a step nor the registry is flooded: thousands of rooms made at once are listed over several steps, some under
 * way at a time, and a claim that players wait for does not stand in line behind them. */
void owner_tick(struct core *c)
{
    int left = TICK_MAX;
    bool can = c->self.bus_up && !c->self.isolated;
    c->more = false;
    for (struct owned *o = c->dirty_head, *next; o && !c->more; o = next) {
        next = o->dirty_next;
        if (!can || !is_due(c, o))
            create_lose_patience(c, o);
        else if (left-- > 0)
            owner_act(c, o);
        else
            c->more = true;
    }
}

void owner_entry(struct core *c, const struct room_info *info, uint64_t revision, bool deleted)
{
    struct owned *o = map_get(&c->owned, info->id.s);
    if (!o || o->state == OWNED_CLAIMING || revision <= o->revision || o->busy)
        return; /* a busy one will see it in its own answer */
    if (deleted) {
        o->unsure = true;
        owner_mark(c, o);
    } else if (foreign(c, o, info)) {
        if (!move_settled(c, o, info, revision))
            lost(c, o);
    } else {
        o->revision = revision;
    }
}

void owner_deinit(struct core *c)
{
    owner_free_dead(c);
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it))
        owner_release(c, it.value);
    map_deinit(&c->owned);
}
