/*
 * This node's own entry in the registry: claim it, keep it, notice its loss.
 *
 * Decides: when the id may be claimed (nobody alive bears it), when this node is fenced (the entry says down, or bears
 * another boot) and when it is isolated (nobody has reached it for lease_ms, its bus is down for so long, or its own loop
 * stood still for so long). Must not trust its own clock for safety: isolation only stops work early; what ends it is the
 * entry, read from the leader.
 * Weak point: with two nodes left, the death of one looks like isolation to the other until it has declared it down.
 */
#include "core/state.h"

#include <string.h>

enum { STEP_READ, STEP_CLAIM, STEP_BEAT, STEP_CHECK, STEP_LEAVE };
enum { RETRY_MS = 300 };

/* A boot id above every one seen on the entry: rooms of an older boot are known by it to be gone. A node whose clock was
 * ahead may have left one from the future; only an entry that bears no ULID, or the last one there is, stays above. */
static void new_boot(struct core *c)
{
    struct self *s = &c->self;
    struct wall high, at = c->wall;
    if (id_ulid_time(s->boot_high, &high) && high.ms >= at.ms)
        at.ms = high.ms + 1;
    id_ulid(s->info.boot, at, &c->rng);
}

void self_init(struct core *c)
{
    struct self *s = &c->self;
    s->info = c->config.self;
    s->info.status = SERVER_UP;
    s->last_tick = s->next = s->last_reached = c->now;
    new_boot(c);
}

bool self_serves(const struct core *c)
{
    return c->self.state == SELF_UP && !c->self.isolated;
}

static void retry(struct core *c, int ms)
{
    c->self.next = mono_add_ms(c->now, ms);
}

static void fenced(struct core *c, const char *reason)
{
    struct self *s = &c->self;
    struct core_fx *fx = core_fx(c, CORE_FX_FENCED);
    if (fx)
        fx->reason = reason;
    owner_drop_all(c, "fenced");
    if (strcmp(s->info.boot, s->boot_high) > 0)
        memcpy(s->boot_high, s->info.boot, sizeof(s->boot_high));
    new_boot(c);
    s->isolated = s->unsure = false;
    s->info.status = c->drain.shown.on ? SERVER_DRAINING : SERVER_UP;
    s->state = SELF_READING;
    retry(c, 0);
}

static void isolate(struct core *c)
{
    if (c->self.isolated || c->self.state != SELF_UP)
        return;
    c->self.isolated = c->self.unsure = true;
    retry(c, 0); /* the entry is read now, not when the next heartbeat is due */
    core_fx(c, CORE_FX_ISOLATED);
}

static bool others_live(const struct core *c)
{
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it)) {
        const struct view_server *v = it.value;
        if (v->info.status != SERVER_DOWN && strcmp(it.key, c->self.info.id.s) != 0)
            return true;
    }
    return false;
}

static bool unreached(const struct core *c)
{
    const struct self *s = &c->self;
    int lease = c->config.lease_ms;
    if (!s->bus_up && mono_diff_ms(s->bus_down_since, c->now) > lease)
        return true;
    return others_live(c) && mono_diff_ms(s->last_reached, c->now) > lease;
}

/* One registry operation at a time; `busy` is cleared by its answer. */
static void act(struct core *c)
{
    struct self *s = &c->self;
    const char *id = s->info.id.s;
    if (s->busy || !s->bus_up || !mono_reached(c->now, s->next))
        return;
    switch (s->state) {
    case SELF_OUT:
        if (!c->view.servers_synced || !c->view.rooms_synced)
            return;
        s->state = SELF_READING;
        /* fall through */
    case SELF_READING:
        s->busy = op_get(c, OP_SELF, NULL, STEP_READ, id, NULL);
        return;
    case SELF_PINGING:
        s->busy = op_ping(c, OP_SELF, NULL, id, c->config.ping_interval_ms * 2) != NULL;
        return;
    case SELF_CLAIMING:
        s->wrote = s->info.status;
        s->busy = op_put_server(c, OP_SELF, NULL, STEP_CLAIM, &s->info, s->holder_revision);
        return;
    case SELF_UP:
        if (s->unsure) {
            s->busy = op_get(c, OP_SELF, NULL, STEP_CHECK, id, NULL);
            return;
        }
        s->wrote = s->info.status;
        s->busy = op_put_server(c, OP_SELF, NULL, STEP_BEAT, &s->info, s->revision);
        return;
    case SELF_LEAVING:
        if (s->unsure)
            s->busy = op_get(c, OP_SELF, NULL, STEP_CHECK, id, NULL);
        else if (c->owned.count == 0)
            s->busy = op_del(c, OP_SELF, NULL, STEP_LEAVE, id, NULL, s->revision);
        return;
    case SELF_REFUSED:
    case SELF_GONE:
        return;
    }
}

/* Out of the registry, or out of time for it. */
static void gone(struct core *c, bool removed)
{
    struct self *s = &c->self;
    s->state = SELF_GONE;
    struct core_fx *fx = removed ? core_fx(c, CORE_FX_OFFLINE) : NULL;
    if (fx) {
        fx->server_entry = s->info;
        fx->reason = "stopped";
    }
    core_fx(c, CORE_FX_STOPPED);
}

void self_tick(struct core *c)
{
    struct self *s = &c->self;
    bool stood_still = mono_diff_ms(s->last_tick, c->now) > c->config.lease_ms;
    s->last_tick = c->now;
    if (stood_still) {
        member_forgive(c);
        isolate(c);
    }
    if (unreached(c))
        isolate(c);
    bool saved = s->unlisted && !c->releasing;
    if (s->state == SELF_LEAVING && (saved || mono_reached(c->now, s->stop_deadline)))
        gone(c, false);
    act(c);
}

void self_bus(struct core *c, bool up)
{
    struct self *s = &c->self;
    if (s->bus_up && !up)
        s->bus_down_since = c->now;
    s->bus_up = up;
}

void self_reached(struct core *c)
{
    c->self.last_reached = c->now;
}

/* The entry is written. The next write is a heartbeat, but for a status that has changed since. */
static void written(struct core *c)
{
    struct self *s = &c->self;
    bool news = s->wrote == SERVER_DRAINING && c->drain.shown.on && !s->told;
    struct core_fx *fx = news ? core_fx(c, CORE_FX_DRAINING) : NULL;
    if (fx) {
        fx->server_entry = s->info;
        s->told = true;
    }
    retry(c, s->unsure || s->wrote != s->info.status ? 0 : c->config.heartbeat_ms);
}

static void ready(struct core *c, uint64_t revision)
{
    struct self *s = &c->self;
    s->state = SELF_UP;
    s->revision = revision;
    s->last_reached = s->ready_since = c->now;
    s->unsure = false;
    c->next_reap_scan = c->now; /* our own former rooms wait */
    view_put_server(&c->view, &s->info, revision);
    struct core_fx *fx = core_fx(c, CORE_FX_READY);
    if (fx)
        fx->server_entry = s->info;
    written(c);
}

static void claim(struct core *c, uint64_t revision)
{
    struct self *s = &c->self;
    if (strcmp(s->info.boot, s->boot_high) <= 0)
        new_boot(c);
    s->holder_revision = revision;
    s->state = SELF_CLAIMING;
    retry(c, 0);
}

/* The entry before a claim: ours, free, dead, or somebody's who must be asked first. */
static void read_done(struct core *c, const struct core_event *ev)
{
    struct self *s = &c->self;
    if (ev->kv_result == CORE_KV_NOT_FOUND) {
        claim(c, 0);
    } else if (ev->kv_result != CORE_KV_OK) {
        retry(c, RETRY_MS);
    } else if (ev->server && strcmp(ev->server->boot, s->info.boot) == 0 && ev->server->status != SERVER_DOWN) {
        ready(c, ev->revision);
    } else { /* what is no entry may hide a holder that lives */
        if (ev->server && strcmp(ev->server->boot, s->boot_high) > 0)
            memcpy(s->boot_high, ev->server->boot, sizeof(s->boot_high));
        s->holder_revision = ev->revision;
        if (ev->server && ev->server->status == SERVER_DOWN) {
            claim(c, ev->revision);
            return;
        }
        s->state = SELF_PINGING;
        s->holder_since = c->now;
        s->holder_silent = false;
        retry(c, 0);
    }
}

static void check_done(struct core *c, const struct core_event *ev)
{
    struct self *s = &c->self;
    if (ev->kv_result == CORE_KV_NOT_FOUND) {
        s->revision = 0; /* expired while we could not write: list ourselves again */
    } else if (ev->kv_result != CORE_KV_OK) {
        retry(c, RETRY_MS);
        return;
    } else if (!ev->server) {
        s->revision = ev->revision; /* somebody wrote what is no entry: over it */
    } else if (ev->server->status == SERVER_DOWN || strcmp(ev->server->boot, s->info.boot) != 0) {
        fenced(c, ev->server->status == SERVER_DOWN ? "declared down" : "another boot has this id");
        return;
    } else {
        s->revision = ev->revision;
    }
    s->unsure = false;
    s->last_reached = c->now;
    if (s->isolated) {
        s->isolated = false;
        core_fx(c, CORE_FX_REACHED);
    }
    retry(c, 0);
}

static void beat_done(struct core *c, const struct core_event *ev)
{
    struct self *s = &c->self;
    if (ev->kv_result != CORE_KV_OK) {
        s->unsure = true;
        retry(c, ev->kv_result == CORE_KV_UNKNOWN ? RETRY_MS : 0);
        return;
    }
    s->revision = ev->revision;
    if (s->state == SELF_LEAVING)
        return; /* the removal needs just the revision */
    view_put_server(&c->view, &s->info, ev->revision);
    written(c); /* and it may be unsure again: isolated while this was under way */
}

/* While leaving: the entry is still ours and is removed at this revision, or there is nothing left to remove. */
static void leave_check_done(struct core *c, const struct core_event *ev)
{
    struct self *s = &c->self;
    bool found = ev->kv_result == CORE_KV_OK && ev->server;
    if (found && strcmp(ev->server->boot, s->info.boot) == 0 && ev->server->status != SERVER_DOWN) {
        s->revision = ev->revision;
        s->unsure = false;
        retry(c, 0);
    } else if (found || ev->kv_result == CORE_KV_NOT_FOUND) {
        gone(c, false);
    } else {
        retry(c, RETRY_MS);
    }
}

void self_kv_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct self *s = &c->self;
    s->busy = false;
    if (s->state == SELF_GONE || s->state == SELF_REFUSED)
        return;
    if (op->step == STEP_READ && s->state == SELF_READING) {
        read_done(c, ev);
    } else if (op->step == STEP_CLAIM && s->state == SELF_CLAIMING) {
        if (ev->kv_result == CORE_KV_OK) {
            ready(c, ev->revision);
        } else {
            s->state = SELF_READING;
            retry(c, ev->kv_result == CORE_KV_UNKNOWN ? RETRY_MS : 0);
        }
    } else if (op->step == STEP_CHECK && s->state == SELF_UP) {
        check_done(c, ev);
    } else if (op->step == STEP_CHECK && s->state == SELF_LEAVING) {
        leave_check_done(c, ev);
    } else if (op->step == STEP_BEAT && (s->state == SELF_UP || s->state == SELF_LEAVING)) {
        beat_done(c, ev);
    } else if (op->step == STEP_LEAVE && s->state == SELF_LEAVING) {
        if (ev->kv_result == CORE_KV_OK || ev->kv_result == CORE_KV_NOT_FOUND) {
            gone(c, ev->kv_result == CORE_KV_OK);
        } else {
            s->unsure = true;
            retry(c, ev->kv_result == CORE_KV_UNKNOWN ? RETRY_MS : 0);
        }
    }
}

/* Is somebody alive under our id? "No responders" must last detect_ms, silence hang_ms, as for any other node. */
void self_ping_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct self *s = &c->self;
    s->busy = false;
    if (s->state != SELF_PINGING)
        return;
    if (ev->ping_result == CORE_PING_OK) {
        s->state = SELF_REFUSED;
        struct core_fx *fx = core_fx(c, CORE_FX_REFUSED);
        if (fx)
            fx->reason = "this server id is in use by a live node";
        return;
    }
    s->holder_silent |= ev->ping_result == CORE_PING_SILENT;
    int wait = s->holder_silent ? c->config.hang_ms : c->config.detect_ms;
    if (mono_diff_ms(s->holder_since, c->now) >= wait)
        claim(c, s->holder_revision);
    else
        retry(c, c->config.ping_interval_ms / 2);
}

void self_entry(struct core *c, const struct server_info *info, uint64_t revision)
{
    struct self *s = &c->self;
    if (s->state != SELF_UP || revision <= s->revision)
        return;
    bool ours = strcmp(info->boot, s->info.boot) == 0;
    if (ours && info->status != SERVER_DOWN)
        return; /* a write of ours whose answer is still to come */
    fenced(c, ours ? "declared down" : "another boot has this id");
}

void self_counts(struct core *c, const struct server_info *counts)
{
    struct self *s = &c->self;
    s->info.rooms = counts->rooms;
    s->info.players = counts->players;
    s->info.connections = counts->connections;
    s->info.load = counts->load;
    struct view_server *v = view_server(&c->view, s->info.id.s);
    if (v) {
        v->info.rooms = counts->rooms;
        v->info.players = counts->players;
        v->info.connections = counts->connections;
        v->info.load = counts->load;
        v->handed_out = 0;
    }
}

void self_drain(struct core *c)
{
    struct self *s = &c->self;
    s->info.status = c->drain.shown.on ? SERVER_DRAINING : SERVER_UP;
    s->told = false;
    if (s->state != SELF_UP)
        return;
    retry(c, 0);
    act(c);
}

void self_stop(struct core *c)
{
    struct self *s = &c->self;
    if (s->state == SELF_LEAVING || s->state == SELF_GONE)
        return;
    s->unlisted = s->state != SELF_UP || !s->bus_up;
    s->state = SELF_LEAVING;
    release_all(c, "server_stopping");
    s->stop_deadline = mono_add_ms(c->now, 2 * c->config.kv_ms);
    s->state = s->unlisted && !c->releasing ? SELF_GONE : SELF_LEAVING;
    if (s->state == SELF_GONE)
        core_fx(c, CORE_FX_STOPPED);
    retry(c, 0);
}
