/*
 * Rooms that have lost their owner and are kept: whose turn it is to take them.
 *
 * Decides: what becomes of a room without an owner, and which survivor claims it when. Each survivor ranks the survivors
 * for each room by itself: rendezvous hashing (Thaler and Ravishankar 1996) weighted by the capacity that is left
 * (Schindelhauer and Schomaker 2005). The first in rank claims at once, the next ones step in after STEP_OUT_MS each if
 * nothing has happened; a node that has come back is first for its own former rooms. What nobody has room for is listed
 * as pending, and taken when somebody has; what has failed too often is parked. Views differ a little: that costs a lost
 * compare-and-set, nothing more. Must not start rooms (restore.c does), nor take one of a type not known here.
 * Invariant: works only while this node serves; every write is at the revision that was judged.
 */
#include "core/state.h"

#include <string.h>

enum { STEP_WRITE, STEP_SETTLE };
enum { STEP_OUT_MS = 1500, RETRY_MS = 500, GONE_ENTRY_MS = 10000, TICK_MAX = 128, ADOPTIONS_MAX = 65536 };

/* The length of a code word for the probability hash / 2^64, in units of 2^-32 bit: an exponential variable, by integers
 * alone, so that all machines agree to the last bit. */
static uint64_t surprise(uint64_t hash)
{
    unsigned zeros = 0;
    for (hash |= 1; !(hash >> 63); hash <<= 1)
        zeros++;
    uint64_t m = hash >> 32, log2 = 0; /* m / 2^31 is in [1, 2) */
    for (int bit = 0; bit < 32; bit++) {
        m = m * m >> 31;
        log2 = log2 << 1 | m >> 32;
        m >>= m >> 32;
    }
    return (((uint64_t)zeros + 1) << 32) - log2;
}

double adopt_score(const char *subject, const char *candidate, uint32_t weight)
{
    return (double)weight / (double)surprise(view_rank(subject, candidate));
}

enum fate adopt_fate(const struct core *c, const struct view_room *r)
{
    const struct core_config *f = &c->config;
    const struct room_info *info = &r->info;
    if (expect_handed(c, info))
        return FATE_TAKE;
    bool pending = info->state == ROOM_PENDING, own = strcmp(info->owner.s, c->self.info.id.s) == 0;
    if (info->state == ROOM_PARKED || (!pending && !reap_orphaned(c, info)))
        return FATE_NONE;
    if (!info->durability)
        return reap_orphaned(c, info) ? FATE_REAP : FATE_NONE;
    if (!f->type_max_players(f->type_arg, info->type.s) || !f->type_durability ||
        !f->type_durability(f->type_arg, info->type.s))
        return FATE_NONE; /* somebody who knows the type must judge */
    if (f->type_failover && !f->type_failover(f->type_arg, info->type.s))
        return !pending ? FATE_REAP : own ? FATE_ADOPT : FATE_NONE;
    return f->failover || own ? FATE_ADOPT : FATE_WAIT;
}

struct standing {
    bool none;  /* not in the rank: others have capacity left, this node has not */
    bool space; /* somebody has capacity left */
    int before; /* how many come first */
};

struct ranked {
    const char *id;
    bool returned;
    double score;
};

/* Is `v` a survivor for the room, and how does it stand? A server that has released the room itself is none, nor one that
 * drains; but for what only it can see. */
static bool rank_of(const struct core *c, const struct room_info *info, const struct view_server *v, bool weigh,
                    struct ranked *out)
{
    bool former = strcmp(v->info.id.s, info->owner.s) == 0;
    bool self = strcmp(v->info.id.s, c->self.info.id.s) == 0;
    if (self && c->drain.shown.on && strcmp(info->boot, c->self.info.boot) != 0)
        return false;
    uint32_t left = v->info.capacity > v->info.rooms ? v->info.capacity - v->info.rooms : 0;
    if (!self && (!view_server_usable(v) || v->info.status != SERVER_UP ||
                  (former && strcmp(v->info.boot, info->boot) == 0)))
        return false;
    *out = (struct ranked){v->info.id.s, weigh && former, adopt_score(info->id.s, v->info.id.s, weigh ? left : 1)};
    return !weigh || left > 0;
}

static bool comes_before(const struct ranked *a, const struct ranked *b)
{
    if (a->returned != b->returned)
        return a->returned;
    return a->score != b->score ? a->score > b->score : strcmp(a->id, b->id) < 0;
}

static struct standing standing(const struct core *c, const struct room_info *info)
{
    struct standing s = {0};
    struct ranked mine, other;
    const struct view_server *me = view_server(&c->view, c->self.info.id.s);
    for (struct map_iter it = map_first(&c->view.servers); it.value && !s.space; map_next(&it))
        s.space = rank_of(c, info, it.value, true, &other);
    s.none = !me || !rank_of(c, info, me, s.space, &mine);
    if (s.none || strcmp(info->boot, c->self.info.boot) == 0)
        return s; /* one of our own boot that we do not know: nobody else sees that */
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it))
        s.before += it.value != me && rank_of(c, info, it.value, s.space, &other) && comes_before(&other, &mine);
    return s;
}

/* A server's entry may only be late: its rooms are not free before that time is over too. */
static struct mono turn_of(const struct core *c, const struct room_info *info, const struct standing *s)
{
    bool late = info->state != ROOM_PENDING && !view_server(&c->view, info->owner.s);
    return mono_add_ms(c->now, s->before * STEP_OUT_MS + (late ? GONE_ENTRY_MS : 0));
}

static bool nothing_to_do(const struct room_info *info, const struct standing *s)
{
    return s->none || (!s->space && info->state == ROOM_PENDING && info->restores < CORE_RESTORES_MAX);
}

void adopt_add(struct core *c, const struct view_room *r)
{
    if (!r->revision || c->adoptions.count >= ADOPTIONS_MAX || map_get(&c->adoptions, r->info.id.s) ||
        map_get(&c->owned, r->info.id.s))
        return;
    struct standing s = standing(c, &r->info);
    struct adoption *p = nothing_to_do(&r->info, &s) ? NULL : alloc_get(c->alloc, sizeof(*p));
    if (!p)
        return;
    *p = (struct adoption){.room = r->info.id, .revision = r->revision, .due = turn_of(c, &r->info, &s)};
    if (!map_put_borrowed(&c->adoptions, p->room.s, p))
        alloc_put(c->alloc, p, sizeof(*p));
}

void adopt_heard(struct core *c, const char *room)
{
    const struct view_room *r = view_room(&c->view, room);
    if (r && expect_handed(c, &r->info))
        expect_seen(c, r);
    else if (r && r->info.state == ROOM_PENDING && reap_may(c) && adopt_fate(c, r) == FATE_ADOPT)
        adopt_add(c, r);
}

static void forget_write(struct core *c, struct adoption *p)
{
    alloc_put(c->alloc, p->written, sizeof(*p->written));
    p->written = NULL;
}

static void finish(struct core *c, struct adoption *p)
{
    forget_write(c, p);
    map_del(&c->adoptions, p->room.s);
    alloc_put(c->alloc, p, sizeof(*p));
}

static void later(struct core *c, struct adoption *p, int ms)
{
    p->due = mono_add_ms(c->now, ms);
}

/* Owner and epoch stay: nobody has taken it. */
static void write_state(struct core *c, struct adoption *p, const struct view_room *r, enum room_state state)
{
    later(c, p, RETRY_MS);
    if (!(p->written = alloc_get(c->alloc, sizeof(*p->written))))
        return;
    *p->written = r->info;
    p->written->state = state;
    p->unsure = false;
    id_ulid(p->written->nonce, c->wall, &c->rng);
    p->busy = op_put_room(c, OP_ADOPT, p, STEP_WRITE, p->written, p->revision);
    if (!p->busy)
        forget_write(c, p);
}

/* This node's turn. False: too much is under way; nothing more in this tick. */
static bool turn(struct core *c, struct adoption *p)
{
    const struct view_room *r = view_room(&c->view, p->room.s);
    if (p->written) { /* was it applied? */
        p->busy = op_get(c, OP_ADOPT, p, STEP_SETTLE, NULL, p->room.s);
        later(c, p, RETRY_MS);
        return true;
    }
    if (!r || map_get(&c->owned, p->room.s) || adopt_fate(c, r) != FATE_ADOPT) {
        finish(c, p);
        return true;
    }
    struct standing s = standing(c, &r->info);
    if (nothing_to_do(&r->info, &s)) {
        finish(c, p);
    } else if (r->revision != p->revision) { /* something has happened: judged anew */
        p->revision = r->revision;
        p->due = turn_of(c, &r->info, &s);
    } else if (r->info.restores >= CORE_RESTORES_MAX) {
        write_state(c, p, r, ROOM_PARKED);
    } else if (!s.space) {
        write_state(c, p, r, ROOM_PENDING);
    } else if (core_rooms(c) >= c->self.info.capacity) {
        later(c, p, STEP_OUT_MS); /* full since the last count: the next in rank steps in */
    } else if (c->restores >= RESTORES_MAX) {
        return false;
    } else if (restore_claim(c, r)) {
        finish(c, p);
    } else {
        later(c, p, RETRY_MS);
    }
    return true;
}

void adopt_tick(struct core *c)
{
    int left = TICK_MAX;
    if (!reap_may(c))
        return;
    for (struct map_iter it = map_first(&c->adoptions); it.value; map_next(&it)) {
        struct adoption *p = it.value;
        if (p->busy || !mono_reached(c->now, p->due))
            continue;
        if (left-- == 0) {
            c->more = true;
            return;
        }
        if (!turn(c, p))
            return;
    }
}

static void applied(struct core *c, struct adoption *p, uint64_t revision)
{
    view_put_room(&c->view, p->written, revision);
    struct core_fx *fx = p->written->state == ROOM_PARKED ? core_fx(c, CORE_FX_PARKED) : NULL;
    if (fx) {
        fx->room_entry = *p->written;
        fx->reason = "owners_failed";
    }
    finish(c, p);
}

void adopt_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct adoption *p = op->owner;
    bool found = ev->kv_result == CORE_KV_OK && ev->room;
    p->busy = false;
    p->unsure |= ev->kv_result == CORE_KV_UNKNOWN;
    if (op->step == STEP_WRITE && ev->kv_result == CORE_KV_OK)
        applied(c, p, ev->revision);
    else if (ev->kv_result == CORE_KV_UNKNOWN || (op->step == STEP_WRITE && p->unsure))
        return; /* read when it is due again */
    else if (found && strcmp(ev->room->nonce, p->written->nonce) == 0)
        applied(c, p, ev->revision);
    else if (found && ev->revision == p->revision) /* not applied, or not yet: the same again, under the same name */
        p->busy = op_put_room(c, OP_ADOPT, p, STEP_WRITE, p->written, p->revision);
    else
        finish(c, p); /* the next scan looks at what is there now */
}

void adopt_deinit(struct core *c)
{
    for (struct map_iter it = map_first(&c->adoptions); it.value; map_next(&it)) {
        struct adoption *p = it.value;
        forget_write(c, p);
        alloc_put(c->alloc, p, sizeof(*p));
    }
    map_deinit(&c->adoptions);
}
