/*
 * G9: once the faults are over, does everything agree again?
 *
 * Decides: whether the registries, the nodes' views and the rooms themselves tell one story, and says where they do not.
 * Must not wait or mend; main.c asks again and again until it holds or time is up.
 */
#include "ledger.h"

#include <stdio.h>
#include <string.h>

#define NO(...) (snprintf(why, size, __VA_ARGS__), false)

static bool servers_hold(const struct world *w, char *why, size_t size)
{
    const struct sim_bucket *b = sim_kv_find((struct world *)w, "servers");
    for (unsigned i = 0; i < w->proc_count; i++) {
        const struct sim_proc *p = &w->procs[i];
        if (!p->node)
            continue;
        if (p->frozen || p->stopping || !p->ready || !core_may_serve(node_core(p->node)))
            return NO("%s does not serve", p->id);
        if (!sim_kv_look(w, b, p->id))
            return NO("%s is not listed", p->id);
        struct core_moves moves = core_moves(node_core(p->node));
        if (moves.open || moves.expected)
            return NO("%u rooms are on their way from %s, and %u to it", moves.open, p->id, moves.expected);
        if (core_drain_state(node_core(p->node)).on)
            return NO("%s still drains", p->id);
    }
    bool ok = true;
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 1 << 20);
    for (struct map_iter it = map_first(&b->entries); it.value && ok; map_next(&it)) {
        const struct sim_kv_entry *e = sim_kv_look(w, b, it.key);
        const struct sim_proc *p = proc_by_id((struct world *)w, it.key);
        struct wire_server_entry s;
        if (!e)
            continue;
        if (wire_server_entry_from_json(&s, (const char *)e->data, e->len, &scratch, NULL))
            ok = NO("entry of %s is not valid", it.key);
        else if (s.status != WIRE_SERVER_STATUS_UP && p && p->node)
            ok = NO("%s is listed as not up", it.key);
        else if (s.status != WIRE_SERVER_STATUS_DOWN && (!p || !p->node))
            ok = NO("%s is dead but listed", it.key);
        else if (p && p->node && strcmp(core_self(node_core(p->node))->boot, s.boot.s) != 0)
            ok = NO("%s is listed with another boot", it.key);
    }
    buf_deinit(&scratch);
    return ok;
}

static bool view_servers_hold(const struct world *w, const struct sim_proc *p, char *why, size_t size)
{
    const struct view *v = core_view(node_core(p->node));
    for (unsigned i = 0; i < w->proc_count; i++) {
        const struct sim_proc *other = &w->procs[i];
        const struct view_server *s = view_server(v, other->id);
        if (!other->node) {
            if (s && view_server_usable(s))
                return NO("%s believes that %s is usable", p->id, other->id);
            continue;
        }
        if (!s || s->info.status != SERVER_UP || s->suspect)
            return NO("%s does not see %s as up: %s", p->id, other->id,
                      !s ? "unknown" : s->suspect ? "suspect" : "status");
        if (strcmp(s->info.boot, core_self(node_core(other->node))->boot) != 0)
            return NO("%s knows an old boot of %s", p->id, other->id);
    }
    return true;
}

static bool room_holds(const struct world *w, const char *id, const struct wire_room_entry *e, char *why, size_t size)
{
    const struct sim_proc *owner = proc_by_id((struct world *)w, e->owner.s);
    const struct room *r = owner && owner->node ? host_find(node_host(owner->node), id) : NULL;
    if (!r)
        return NO("room %s is listed on %s but does not run there", id, e->owner.s);
    if (host_room_epoch(r) != (uint64_t)e->epoch || strcmp(core_self(node_core(owner->node))->boot, e->boot.s) != 0)
        return NO("room %s is listed with another epoch or boot", id);
    if (host_room_players(r) != (unsigned)e->players || e->state != WIRE_ROOM_STATE_RUNNING)
        return NO("room %s is listed with %lld players and state %d, has %u", id, (long long)e->players, (int)e->state,
                  host_room_players(r));
    for (unsigned i = 0; i < w->proc_count; i++) {
        if (!w->procs[i].node)
            continue;
        const struct view_room *v = view_room(core_view(node_core(w->procs[i].node)), id);
        if (!v || strcmp(v->info.owner.s, e->owner.s) != 0 || v->info.epoch != (uint64_t)e->epoch ||
            v->info.players != (uint32_t)e->players || v->info.state != ROOM_RUNNING)
            return NO("%s does not know room %s as it is listed: %s", w->procs[i].id, id, v ? "differs" : "missing");
        if (v->in_flight)
            return NO("%s has seats of room %s in flight", w->procs[i].id, id);
    }
    return true;
}

/* It is listed as pending, and every node there is has as many rooms as it may: it waits for another node. */
static bool waits(const struct world *w, const struct wire_room_entry *e)
{
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct node *n = w->procs[i].node;
        if (n && host_room_count(node_host(n)) < core_self(node_core(n))->capacity)
            return false;
    }
    return e->state == WIRE_ROOM_STATE_PENDING;
}

bool settle_room_waits(const struct world *w, const char *room)
{
    const struct sim_kv_entry *e = sim_kv_look(w, sim_kv_find((struct world *)w, "rooms"), room);
    struct wire_room_entry r;
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 1 << 20);
    bool is = e && wire_room_entry_from_json(&r, (const char *)e->data, e->len, &scratch, NULL) == 0 && waits(w, &r);
    buf_deinit(&scratch);
    return is;
}

static bool rooms_hold(const struct world *w, char *why, size_t size)
{
    const struct sim_bucket *b = sim_kv_find((struct world *)w, "rooms");
    size_t listed = 0, idle = 0;
    bool ok = true;
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 1 << 20);
    for (struct map_iter it = map_first(&b->entries); it.value && ok; map_next(&it)) {
        const struct sim_kv_entry *e = sim_kv_look(w, b, it.key);
        struct wire_room_entry r;
        if (!e)
            continue;
        listed++;
        if (wire_room_entry_from_json(&r, (const char *)e->data, e->len, &scratch, NULL))
            ok = NO("entry of room %s is not valid", it.key);
        else if ((r.state == WIRE_ROOM_STATE_PARKED && ledger_excuses(w, it.key)) || waits(w, &r))
            idle++;
        else
            ok = room_holds(w, it.key, &r, why, size);
    }
    buf_deinit(&scratch);
    size_t hosted = 0;
    for (unsigned i = 0; i < w->proc_count && ok; i++) {
        struct node *n = w->procs[i].node;
        if (!n)
            continue;
        hosted += host_room_count(node_host(n));
        for (const struct room *r = host_room_next(node_host(n), NULL); r && ok; r = host_room_next(node_host(n), r))
            if (!sim_kv_look(w, b, host_room_id(r)))
                ok = NO("room %s runs on %s but is not listed", host_room_id(r), w->procs[i].id);
        if (ok && core_view(node_core(n))->rooms.count != listed)
            ok = NO("%s knows %zu rooms of %zu", w->procs[i].id, core_view(node_core(n))->rooms.count, listed);
    }
    return ok && (hosted == listed - idle || NO("%zu rooms run, %zu are listed", hosted, listed - idle));
}

bool settle_holds(const struct world *w, char *why, size_t size)
{
    if (!servers_hold(w, why, size))
        return false;
    for (unsigned i = 0; i < w->proc_count; i++)
        if (w->procs[i].node && !view_servers_hold(w, &w->procs[i], why, size))
            return false;
    return rooms_hold(w, why, size);
}
