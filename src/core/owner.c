/*
 * Rooms owned here: winning them, listing them, losing them.
 *
 * Decides: ownership, by one compare-and-set of `rooms.<id>` with three outcomes; an unknown one is settled by reading
 * the entry from the leader and looking for this write's nonce. A room with a generated id may run before it is listed,
 * because nobody else can know the id; a named room runs only after its entry was won. A free name may have been in use
 * before, by an owner that is cut off and does not know that it has lost it: the new room's epoch comes from the revision
 * of the delete marker (+ 2: above that of a generated id), which no earlier room of the name can have reached.
 * Counts are written at most every listing_ms per room. Must not know seats or players; the room host tells the counts.
 * Invariant: one registry operation per room at a time (`busy`).
 */
#include "core/state.h"

#include <stdio.h>
#include <string.h>

enum { STEP_WRITE, STEP_READ, STEP_DELETE };
enum { RETRY_MS = 250, WAITERS_MAX = 4096, TICK_MAX = 128, OPS_MAX = 256 };

struct waiter {
    struct waiter *next;
    uint64_t req;
};

static void mark(struct core *c, struct owned *o)
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

static void forget_call(struct core *c, struct owned *o)
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
    forget_call(c, o);
    alloc_put_str(c->alloc, o->reason);
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

/* Out of the table; freed after this step, or when its registry operation has ended. */
static void forget(struct core *c, struct owned *o)
{
    unmark(c, o);
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

static void answer(struct core *c, const struct owned *o, uint64_t req, int code, const struct core_answer *from)
{
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (!fx)
        return;
    fx->req = req;
    if (from)
        fx->answer = *from;
    fx->answer.code = code;
    fx->answer.room = o->info.id;
    fx->answer.type = o->info.type;
    fx->answer.epoch = o->info.epoch;
    if (!fx->answer.server.s[0])
        fx->answer.server = c->self.info.id;
}

/* How it went, to whoever asked for the room; those who asked after him learn that it exists, or the same reason why not. */
static void reply(struct core *c, struct owned *o, int code, const struct core_answer *from)
{
    if (o->req)
        answer(c, o, o->req, code, from);
    o->req = 0;
    struct core_answer elsewhere = {.server = from ? from->server : c->self.info.id};
    for (struct waiter *w = o->waiters, *next; w; w = next) {
        next = w->next;
        answer(c, o, w->req, code ? code : ROOM_E_EXISTS, &elsewhere);
        alloc_put(c->alloc, w, sizeof(*w));
    }
    o->waiters = NULL;
    o->waiting = 0;
}

static void refuse(struct core *c, uint64_t req, const struct core_call *call, int code, const struct id *server)
{
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (!fx)
        return;
    fx->req = req;
    fx->answer.code = code;
    fx->answer.room = call->room;
    fx->answer.type = call->type;
    if (server)
        fx->answer.server = *server;
}

static void start(struct core *c, struct owned *o)
{
    o->state = OWNED_STARTING;
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_START);
    if (!fx) {
        reply(c, o, ROOM_E_NO_MEMORY, NULL);
        forget(c, o);
        return;
    }
    fx->room_entry = o->info;
    fx->call = o->asked->call;
}

/* No memory or no free operation: not again in this tick, or the walk over the list would never end. */
static void postpone(struct core *c, struct owned *o)
{
    o->next = mono_add_ms(c->now, RETRY_MS);
    mark(c, o);
}

/* So long a create is kept waiting here; whoever asked waits a little longer. */
static struct mono patience(const struct core *c)
{
    return mono_add_ms(c->now, c->config.create_ms - c->config.call_ms);
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
    id_ulid(o->info.nonce, c->wall, &c->rng);
    o->info.owner = c->self.info.id;
    memcpy(o->info.boot, c->self.info.boot, sizeof(o->info.boot));
    begun(c, o, op_put_room(c, OP_ROOM, o, STEP_WRITE, &o->info, o->revision));
    if (!o->busy)
        postpone(c, o);
}

/* Whether the room will be there is being decided: the answer comes with the outcome. */
static int wait_for(struct core *c, struct owned *o, uint64_t req)
{
    struct waiter *w = o->waiting < WAITERS_MAX ? alloc_get(c->alloc, sizeof(*w)) : NULL;
    if (!w)
        return o->waiting < WAITERS_MAX ? ROOM_E_NO_MEMORY : ROOM_E_FULL;
    if (!o->req && !o->waiters)
        o->deadline = patience(c);
    w->req = req;
    *(o->waiters ? o->waiters_last : &o->waiters) = w;
    o->waiters_last = &w->next;
    o->waiting++;
    return ROOM_E_OK;
}

void owner_create(struct core *c, uint64_t req, const struct core_call *call)
{
    uint32_t max = c->config.type_max_players(c->config.type_arg, call->type.s);
    struct owned *o = map_get(&c->owned, call->room.s);
    struct view_server *here = view_server(&c->view, c->self.info.id.s);
    if (here && here->handed_out > 0)
        here->handed_out--; /* what was handed out to this node itself counts as owned from here on */
    if (o) {
        int code = o->state == OWNED_RUNNING ? ROOM_E_EXISTS : wait_for(c, o, req);
        if (code)
            refuse(c, req, call, code, &c->self.info.id);
        return;
    }
    int code = !call->room.s[0]                              ? ROOM_E_INVALID
               : !self_serves(c)                             ? ROOM_E_UNAVAILABLE
               : max == 0                                    ? ROOM_E_UNKNOWN_TYPE
               : c->owned.count >= c->self.info.capacity     ? ROOM_E_FULL
                                                             : ROOM_E_OK;
    if (code) {
        refuse(c, req, call, code, NULL);
        return;
    }
    o = alloc_get(c->alloc, sizeof(*o));
    bool kept = false;
    if (o && (o->asked = alloc_get(c->alloc, sizeof(*o->asked)))) {
        o->asked->call = *call;
        o->asked->options = core_keep_options(c, &o->asked->call, &kept);
        o->info.id = call->room;
        kept = kept && map_put_borrowed(&c->owned, o->info.id.s, o);
    }
    if (!kept) {
        if (o)
            owner_release(c, o);
        refuse(c, req, call, ROOM_E_NO_MEMORY, NULL);
        return;
    }
    o->req = req;
    o->info = (struct room_info){.id = call->room, .type = call->type, .owner = c->self.info.id, .epoch = 1,
                                 .max_players = max, .is_private = call->is_private, .state = ROOM_RUNNING,
                                 .created = c->wall};
    memcpy(o->info.boot, c->self.info.boot, sizeof(o->info.boot));
    o->next = c->now;
    o->deadline = patience(c);
    if (call->generated) {
        start(c, o);
    } else {
        o->state = OWNED_CLAIMING;
        o->unsure = true;
        begun(c, o, op_get(c, OP_ROOM, o, STEP_READ, NULL, call->room.s));
        if (!o->busy)
            mark(c, o);
    }
}

static void announce(struct core *c, struct owned *o)
{
    if (o->announced)
        return;
    struct core_fx *fx = core_fx(c, CORE_FX_CREATED);
    if (!fx)
        return;
    fx->room_entry = o->info;
    o->announced = true;
}

void owner_started(struct core *c, const struct core_answer *answer)
{
    struct owned *o = map_get(&c->owned, answer->room.s);
    if (!o || o->state != OWNED_STARTING)
        return;
    if (answer->code != ROOM_E_OK) {
        reply(c, o, answer->code, NULL);
        set_reason(c, o, "create_failed");
        o->state = OWNED_CLOSING;
        mark(c, o);
        return;
    }
    o->state = OWNED_RUNNING;
    o->info.players = answer->players;
    o->info.seats = answer->seats;
    o->info.seats_version = answer->seats_version;
    o->info.max_players = answer->max_players;
    announce(c, o);
    reply(c, o, ROOM_E_OK, answer);
    forget_call(c, o);
    mark(c, o);
}

void owner_changed(struct core *c, const struct room_info *info)
{
    struct owned *o = map_get(&c->owned, info->id.s);
    if (!o || o->state != OWNED_RUNNING)
        return;
    bool shown = o->info.players != info->players || o->info.locked != info->locked ||
                 o->info.max_players != info->max_players || o->info.metadata_version != info->metadata_version;
    o->info.players = info->players;
    o->info.seats = info->seats;
    o->info.seats_version = info->seats_version;
    o->info.max_players = info->max_players;
    o->info.locked = info->locked;
    o->info.metadata_version = info->metadata_version;
    o->info.durability = info->durability;
    o->updated |= shown;
    mark(c, o);
}

void owner_ended(struct core *c, const char *room, const char *reason)
{
    struct owned *o = map_get(&c->owned, room);
    if (!o || o->state == OWNED_CLOSING)
        return;
    reply(c, o, ROOM_E_UNAVAILABLE, NULL);
    o->state = OWNED_CLOSING;
    set_reason(c, o, reason);
    o->next = c->now;
    mark(c, o);
}

/* Superseded, or no longer wanted: the room stops here, whatever the registry says. */
static void drop(struct core *c, struct owned *o, const char *reason)
{
    reply(c, o, ROOM_E_FENCED, NULL);
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_DROP);
    if (fx) {
        fx->room = o->info.id;
        fx->reason = reason;
    }
    forget(c, o);
}

void owner_drop_all(struct core *c, const char *reason)
{
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it))
        drop(c, it.value, reason);
}

void owner_close_all(struct core *c, const char *reason)
{
    for (struct map_iter it = map_first(&c->owned); it.value; map_next(&it)) {
        struct owned *o = it.value;
        if (o->state == OWNED_CLOSING)
            continue;
        struct core_fx *fx = core_fx(c, CORE_FX_ROOM_DROP);
        if (fx) {
            fx->room = o->info.id;
            fx->reason = reason;
        }
        owner_ended(c, it.key, reason);
    }
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
    reply(c, o, ROOM_E_UNAVAILABLE, NULL); /* the name is free now: asked again, a room can be made */
    const struct view_room *r = view_room(&c->view, o->info.id.s);
    if (r && strcmp(r->info.owner.s, c->self.info.id.s) == 0) /* another owner's entry stays */
        view_del_room(&c->view, o->info.id.s, 0);
    forget(c, o);
}

static void listed(struct core *c, struct owned *o, uint64_t revision)
{
    o->revision = revision;
    o->unsure = false;
    o->next = mono_add_ms(c->now, c->config.listing_ms);
    if (o->state == OWNED_CLAIMING) {
        start(c, o);
        return;
    }
    view_put_room(&c->view, &o->info, revision);
    if (o->updated && o->state == OWNED_RUNNING) {
        struct core_fx *fx = core_fx(c, CORE_FX_UPDATED);
        if (fx)
            fx->room_entry = o->info;
        o->updated = false;
    }
}

static void written(struct core *c, struct owned *o, uint64_t revision)
{
    bool closing = o->state == OWNED_CLOSING;
    listed(c, o, revision); /* may free a room that cannot be started */
    if (closing)
        mark(c, o);
}

/* A named room's entry is somebody else's. If that somebody is dead, the name may be taken over at the next epoch. */
static void taken(struct core *c, struct owned *o, const struct room_info *info, uint64_t revision)
{
    struct view_server *v = view_server(&c->view, info->owner.s);
    bool dead = v && (v->info.status == SERVER_DOWN || strcmp(info->boot, v->info.boot) < 0);
    if (dead) {
        o->info.epoch = info->epoch + 1;
        o->revision = revision;
        o->unsure = false;
        mark(c, o);
        return;
    }
    view_put_room(&c->view, info, revision);
    struct core_answer answer = {.server = info->owner};
    o->info.epoch = info->epoch;
    reply(c, o, ROOM_E_EXISTS, &answer);
    forget(c, o);
}

/* Above every epoch the name ever had: each took a write, and the registry's revisions only grow. The deletion's own
 * revision says it, or, when that is forgotten already (BUS_KEEP_DELETED_MS), what has been heard of since. */
static uint64_t first_epoch(const struct core *c, uint64_t deleted)
{
    uint64_t heard = c->view.rooms_revision;
    return (deleted > heard ? deleted : heard) + 2;
}

static void read_done(struct core *c, struct owned *o, const struct core_event *ev)
{
    if (ev->kv_result == CORE_KV_UNKNOWN) {
        mark(c, o);
        return;
    }
    bool found = ev->kv_result == CORE_KV_OK && ev->room;
    if (!found) {
        /* Somebody removed it, or it was never written: list it (again). What is no entry is overwritten. */
        o->revision = ev->kv_result == CORE_KV_OK ? ev->revision : 0;
        o->unsure = false;
        if (o->state == OWNED_CLOSING) {
            disposed(c, o);
        } else if (o->state == OWNED_CLAIMING) {
            o->revision = ev->revision;
            o->info.epoch = first_epoch(c, ev->revision);
            write_entry(c, o);
        } else {
            mark(c, o);
        }
    } else if (!foreign(c, o, ev->room)) {
        o->revision = ev->revision;
        o->unsure = false;
        if (o->state == OWNED_CLAIMING)
            listed(c, o, ev->revision);
        else
            mark(c, o);
    } else if (o->state == OWNED_CLAIMING) {
        taken(c, o, ev->room, ev->revision);
    } else if (o->state == OWNED_CLOSING) {
        disposed(c, o);
    } else {
        drop(c, o, "superseded");
    }
}

static void act(struct core *c, struct owned *o);

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
        else
            written(c, o, ev->revision);
    } else {
        o->unsure = true;
        mark(c, o);
        if (o->state == OWNED_CLAIMING && ev->kv_result == CORE_KV_CONFLICT)
            act(c, o); /* somebody else has the name, and players wait to hear who */
    }
}

/* The claim goes on: a repeated request will find the room. */
static void lose_patience(struct core *c, struct owned *o)
{
    if ((o->req || o->waiters) && mono_reached(c->now, o->deadline))
        reply(c, o, ROOM_E_TIMEOUT, NULL);
}

/* One due room: read what is unsure, delete what is closing, write the rest. */
static void act(struct core *c, struct owned *o)
{
    const char *id = o->info.id.s;
    lose_patience(c, o);
    if (o->state == OWNED_CLOSING && !o->revision && !o->unsure) {
        disposed(c, o);
        return;
    }
    unmark(c, o);
    if (o->unsure)
        begun(c, o, op_get(c, OP_ROOM, o, STEP_READ, NULL, id));
    else if (o->state == OWNED_CLOSING)
        begun(c, o, op_del(c, OP_ROOM, o, STEP_DELETE, NULL, id, o->revision));
    else
        write_entry(c, o);
    if (!o->busy)
        postpone(c, o);
}

/* Neither a step nor the registry is flooded: thousands of rooms made at once are listed over several steps, some under
 * way at a time, and a claim that players wait for does not stand in line behind them. */
void owner_tick(struct core *c)
{
    int left = TICK_MAX;
    c->more = false;
    if (!c->self.bus_up || c->self.isolated) {
        for (struct owned *o = c->dirty_head; o; o = o->dirty_next)
            lose_patience(c, o);
        return;
    }
    for (struct owned *o = c->dirty_head, *next; o && !c->more; o = next) {
        next = o->dirty_next;
        bool held = o->state == OWNED_RUNNING && c->owner_ops >= OPS_MAX;
        if (o->busy || held || o->state == OWNED_STARTING || !mono_reached(c->now, o->next))
            continue;
        if (left-- > 0)
            act(c, o);
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
        mark(c, o);
    } else if (foreign(c, o, info)) {
        if (o->state == OWNED_CLOSING)
            disposed(c, o);
        else
            drop(c, o, "superseded");
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
