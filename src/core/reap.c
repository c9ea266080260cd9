/*
 * Finds rooms without an owner; those that cannot come back leave the listing.
 *
 * Decides: which listed rooms have no living owner (its entry says down, bears a newer boot, or is gone), and who of the
 * survivors removes which of those that are not kept: the first in the room's rank at once, the next ones each after a
 * while. The removal is a delete of exactly the revision that was judged, so that it can never hit a room that somebody
 * has claimed since. Rooms that are kept are adopt.c's. Works only while this node serves and both registries have been
 * listed whole.
 */
#include "core/state.h"

#include <string.h>

enum { SCAN_MS = 2000, SCAN_ROOMS = 1024, RANK_COST = 3, STEP_OUT_MS = 1500, RETRY_MS = 500, REAPS_MAX = 16384, GONE_ENTRY_MS = 10000 };

bool reap_orphaned(const struct core *c, const struct room_info *info)
{
    const struct view_server *v = view_server(&c->view, info->owner.s);
    if (strcmp(info->boot, c->self.info.boot) == 0)
        return !map_get(&c->owned, info->id.s); /* a write of ours that was applied after the room had ended */
    if (!v)
        return true;
    if (strcmp(info->boot, v->info.boot) > 0)
        return false; /* the room's boot is news to us: the server's entry is about to follow */
    return v->info.status == SERVER_DOWN || strcmp(info->boot, v->info.boot) != 0;
}

/* How many survivors come before this node for the room. */
static int place_in_rank(const struct core *c, const char *room)
{
    uint64_t mine = view_rank(room, c->self.info.id.s);
    int before = 0;
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it))
        if (view_server_usable(it.value) && strcmp(it.key, c->self.info.id.s) != 0 && view_rank(room, it.key) > mine)
            before++;
    return before;
}

static void tell(struct core *c, struct reap *p)
{
    struct core_fx *fx = p->told ? NULL : core_fx(c, CORE_FX_ROOM_GONE);
    if (!fx)
        return;
    fx->room = p->info.id;
    fx->server = p->info.owner;
    fx->reason = "room_lost";
    p->told = true;
}

static void add(struct core *c, const struct view_room *r)
{
    if (map_get(&c->reaps, r->info.id.s) || map_get(&c->owned, r->info.id.s) || c->reaps.count >= REAPS_MAX ||
        !r->revision)
        return;
    struct reap *p = alloc_get(c->alloc, sizeof(*p));
    if (!p)
        return;
    p->info = r->info;
    p->revision = r->revision;
    bool no_entry = !view_server(&c->view, r->info.owner.s);
    p->due = mono_add_ms(c->now, place_in_rank(c, r->info.id.s) * STEP_OUT_MS + (no_entry ? GONE_ENTRY_MS : 0));
    if (!map_put(&c->reaps, r->info.id.s, p)) {
        alloc_put(c->alloc, p, sizeof(*p));
        return;
    }
    if (!no_entry) /* a server's entry may only be late: nobody is told before its time is over too */
        tell(c, p);
}

static void finish(struct core *c, struct reap *p)
{
    map_del(&c->reaps, p->info.id.s);
    alloc_put(c->alloc, p, sizeof(*p));
}

/* A part of the listing in each tick: players who join wait for the whole step. Ranking a room costs as much as
 * passing over as many as there are servers, and some. A room that goes while the scan stands at it lets the scan begin again. */
static void scan(struct core *c)
{
    bool found = false;
    if (!c->reap_at.s[0]) {
        if (!mono_reached(c->now, c->next_reap_scan))
            return;
        c->next_reap_scan = mono_add_ms(c->now, SCAN_MS);
    }
    struct map_iter it = map_after(&c->view.rooms, c->reap_at.s);
    for (int left = SCAN_ROOMS; it.value && left > 0; left--, map_next(&it)) {
        const struct view_room *r = it.value;
        enum fate fate = adopt_fate(c, r);
        c->reap_at = r->info.id;
        if (fate == FATE_REAP || fate == FATE_WAIT)
            add(c, r);
        if (fate == FATE_TAKE)
            expect_seen(c, r);
        if (fate != FATE_ADOPT)
            continue;
        adopt_add(c, r);
        left -= RANK_COST + (int)c->view.servers.count;
        found = true;
    }
    if (!it.value)
        c->reap_at.s[0] = '\0';
    else
        c->more |= found; /* somebody waits for them */
}

bool reap_may(const struct core *c)
{
    return self_serves(c) && c->self.bus_up && c->view.rooms_synced && c->view.servers_synced;
}

void reap_tick(struct core *c)
{
    if (!reap_may(c))
        return;
    scan(c);
    for (struct map_iter it = map_first(&c->reaps); it.value; map_next(&it)) {
        struct reap *p = it.value;
        if (p->busy || !mono_reached(c->now, p->due))
            continue;
        struct view_room *r = view_room(&c->view, p->info.id.s);
        enum fate fate = r ? adopt_fate(c, r) : FATE_NONE;
        if (fate != FATE_REAP && fate != FATE_WAIT) {
            finish(c, p);
            continue;
        }
        p->info = r->info;
        p->revision = r->revision;
        tell(c, p);
        p->due = mono_add_ms(c->now, SCAN_MS);
        if (fate == FATE_REAP)
            p->busy = op_del(c, OP_REAP, p, 0, NULL, p->info.id.s, p->revision);
    }
}

void reap_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct reap *p = op->owner;
    p->busy = false;
    if (ev->kv_result == CORE_KV_UNKNOWN) {
        p->due = mono_add_ms(c->now, RETRY_MS);
        return;
    }
    struct core_fx *fx = ev->kv_result == CORE_KV_OK ? core_fx(c, CORE_FX_DISPOSED) : NULL;
    if (fx) {
        fx->room_entry = p->info;
        fx->reason = "room_lost";
    }
    if (ev->kv_result == CORE_KV_OK)
        view_del_room(&c->view, p->info.id.s, p->revision); /* whoever has claimed it since is newer, and stays */
    finish(c, p); /* on a conflict the next scan looks again at what is there now */
}

void reap_deinit(struct core *c)
{
    for (struct map_iter it = map_first(&c->reaps); it.value; map_next(&it))
        alloc_put(c->alloc, it.value, sizeof(struct reap));
    map_deinit(&c->reaps);
}
