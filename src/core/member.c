/*
 * Watching other nodes: who is dead.
 *
 * Decides: whom this node watches (rank hash, CORE_WATCHERS per node), when a failing node is a case for the other
 * watchers, and the verdict: one compare-and-set of the node's registry entry, read from the leader just before. Exactly
 * one writer wins it and publishes the event. Must not touch rooms; reap.c acts on the verdict.
 * One lost ping means nothing: "no responders" must last detect_ms (a client needs a few milliseconds to reach another
 * NATS server), silence hang_ms.
 */
#include "core/state.h"

#include <string.h>

enum { STEP_READ, STEP_DECLARE, STEP_SETTLE };
enum { SUSPECT_AFTER = 2, RETRY_MS = 200 };

static struct peer *peer_of(struct core *c, const char *id)
{
    struct peer *p = map_get(&c->peers, id);
    if (p)
        return p;
    p = alloc_get(c->alloc, sizeof(*p));
    if (!p)
        return NULL;
    id_set(&p->id, id);
    p->next_ping = c->now;
    if (!map_put(&c->peers, id, p)) {
        alloc_put(c->alloc, p, sizeof(*p));
        return NULL;
    }
    return p;
}

static bool alive_entry(const struct view_server *v)
{
    return v->info.status != SERVER_DOWN;
}

/* Is `who` one of the watchers of `of`? Every node answers alike as soon as their views agree. */
static bool watches(const struct core *c, const char *who, const char *of)
{
    uint64_t mine = view_rank(of, who);
    int higher = 0;
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it))
        if (alive_entry(it.value) && strcmp(it.key, of) != 0 && strcmp(it.key, who) != 0 &&
            view_rank(of, it.key) > mine)
            higher++;
    return higher < CORE_WATCHERS;
}

static void forgive(struct core *c, struct peer *p)
{
    struct view_server *v = view_server(&c->view, p->id.s);
    p->failing = p->silent = false;
    p->failures = 0;
    if (v && v->suspect) {
        v->suspect = false;
        view_reindex_server(&c->view, p->id.s);
    }
}

void member_forgive(struct core *c)
{
    for (struct map_iter it = map_first(&c->peers); it.value; map_next(&it))
        forgive(c, it.value);
}

void member_alive(struct core *c, const char *server)
{
    struct peer *p = map_get(&c->peers, server);
    struct view_server *v = view_server(&c->view, server);
    if (p)
        forgive(c, p);
    else if (v && v->suspect) {
        v->suspect = false;
        view_reindex_server(&c->view, server);
    }
}

static void judge_read(struct core *c, struct peer *p)
{
    if (!op_get(c, OP_VERDICT, p, STEP_READ, p->id.s, NULL))
        p->judging = false;
}

/* Asks up to two other watchers to try; without any, the verdict is ours alone. */
static void judge(struct core *c, struct peer *p)
{
    struct core_call call = {.kind = CORE_CALL_PROBE, .server = p->id};
    p->judging = true;
    p->reached_by_other = false;
    p->asked = 0;
    for (struct map_iter it = map_first(&c->view.servers); it.value && p->asked < 2; map_next(&it)) {
        struct view_server *v = it.value;
        if (strcmp(it.key, c->self.info.id.s) == 0 || strcmp(it.key, p->id.s) == 0 || !view_server_usable(v) ||
            !watches(c, it.key, p->id.s))
            continue;
        if (op_call(c, OP_ASK, p, it.key, &call, c->config.call_ms))
            p->asked++;
    }
    if (p->asked == 0)
        judge_read(c, p);
}

static void failed(struct core *c, struct peer *p, struct mono since, bool silent)
{
    struct view_server *v = view_server(&c->view, p->id.s);
    if (!p->failing) {
        p->failing = true;
        p->first_fail = since;
    }
    p->silent |= silent;
    p->failures++;
    if (v && !v->suspect && p->failures >= SUSPECT_AFTER) {
        v->suspect = true;
        view_reindex_server(&c->view, p->id.s);
        core_abandon_creates(c, p->id.s);
    }
    int wait = p->silent ? c->config.hang_ms : c->config.detect_ms;
    if (!p->judging && p->failures >= SUSPECT_AFTER && mono_diff_ms(p->first_fail, c->now) >= wait &&
        self_serves(c))
        judge(c, p);
}

void member_ping_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct peer *p = op->owner;
    struct view_server *v = view_server(&c->view, p->id.s);
    p->pinging = false;
    p->next_ping = mono_add_ms(c->now, c->config.ping_interval_ms);
    if (ev->ping_result == CORE_PING_OK) {
        self_reached(c);
        if (v)
            v->latency_us = ev->took_us;
        forgive(c, p);
        return;
    }
    if (v && alive_entry(v) && c->self.bus_up)
        failed(c, p, op->sent, ev->ping_result == CORE_PING_SILENT);
}

/* One that has left the registry, once nothing is under way about it. One per tick: ids come and go slowly. */
static void forget_one(struct core *c)
{
    for (struct map_iter it = map_first(&c->peers); it.value; map_next(&it)) {
        struct peer *p = it.value;
        if (p->pinging || p->judging || p->unsettled || view_server(&c->view, it.key))
            continue;
        map_del(&c->peers, p->id.s);
        alloc_put(c->alloc, p, sizeof(*p));
        return;
    }
}

void member_tick(struct core *c)
{
    forget_one(c);
    if (!c->self.bus_up || c->self.state != SELF_UP)
        return;
    for (struct map_iter it = map_first(&c->view.servers); it.value; map_next(&it)) {
        if (!alive_entry(it.value) || strcmp(it.key, c->self.info.id.s) == 0 ||
            !watches(c, c->self.info.id.s, it.key))
            continue;
        struct peer *p = peer_of(c, it.key);
        if (p && !p->pinging && mono_reached(c->now, p->next_ping))
            p->pinging = op_ping(c, OP_PING, p, it.key, 2 * c->config.ping_interval_ms) != NULL;
    }
}

void member_ask_done(struct core *c, const struct op *op, const struct core_answer *answer)
{
    struct peer *p = op->owner;
    if (answer->code == ROOM_E_OK)
        p->reached_by_other = true;
    if (--p->asked > 0)
        return;
    if (p->reached_by_other || !p->failing) {
        p->judging = p->failing = p->silent = false;
        p->failures = 0;
    } else {
        judge_read(c, p);
    }
}

static void condemned(struct core *c, struct peer *p, const struct server_info *info, uint64_t revision)
{
    p->judging = false;
    view_put_server(&c->view, info, revision);
    member_server_gone(c, info);
}

/* The entry as the leader has it. A node that came back in the meantime, or that another watcher has condemned, is none
 * of our business any more. */
static void read_done(struct core *c, struct peer *p, const struct core_event *ev)
{
    if (ev->kv_result == CORE_KV_UNKNOWN) {
        p->judging = false; /* the next failed ping tries again */
        return;
    }
    if (ev->kv_result != CORE_KV_OK || !ev->server) {
        p->judging = false;
        view_del_server(&c->view, p->id.s, ev->revision);
        return;
    }
    struct server_info info = *ev->server;
    if (info.status == SERVER_DOWN) {
        condemned(c, p, &info, ev->revision);
        return;
    }
    struct view_server *v = view_server(&c->view, p->id.s);
    bool other_boot = v && strcmp(v->info.boot, info.boot) != 0;
    view_put_server(&c->view, &info, ev->revision);
    if (!p->failing || other_boot || !self_serves(c)) {
        p->judging = false;
        return;
    }
    info.status = SERVER_DOWN;
    memcpy(info.down_by, c->self.info.boot, sizeof(info.down_by));
    p->unsettled = op_put_server(c, OP_VERDICT, p, STEP_DECLARE, &info, ev->revision);
    p->judging = p->unsettled;
}

void member_kv_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct peer *p = op->owner;
    if (op->step != STEP_DECLARE) {
        read_done(c, p, ev);
        return;
    }
    struct view_server *v = view_server(&c->view, p->id.s);
    if (ev->kv_result == CORE_KV_OK && v) {
        struct server_info info = v->info;
        info.status = SERVER_DOWN;
        memcpy(info.down_by, c->self.info.boot, sizeof(info.down_by));
        condemned(c, p, &info, ev->revision);
    } else if (ev->kv_result == CORE_KV_CONFLICT) {
        p->judging = p->unsettled = false;
    } else if (!op_get(c, OP_VERDICT, p, STEP_SETTLE, p->id.s, NULL)) {
        p->judging = false;
    }
}

/* Another watcher asks whether we can reach a node. */
void member_probe(struct core *c, uint64_t req, const struct core_call *call)
{
    struct op *op = op_ping(c, OP_PROBE, NULL, call->server.s, c->config.call_ms / 2);
    if (op) {
        op->req = req;
        return;
    }
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (fx) {
        fx->req = req;
        fx->answer.code = ROOM_E_UNAVAILABLE;
    }
}

void member_probe_done(struct core *c, const struct op *op, const struct core_event *ev)
{
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (!fx)
        return;
    fx->req = op->req;
    fx->answer.code = ev->ping_result == CORE_PING_OK ? ROOM_E_OK : ROOM_E_NO_RESPONDERS;
}

void member_server_gone(struct core *c, const struct server_info *info)
{
    struct peer *p = map_get(&c->peers, info->id.s);
    c->next_reap_scan = c->now;
    if (!p)
        return;
    struct core_fx *fx = NULL;
    if (p->unsettled && strcmp(info->down_by, c->self.info.boot) == 0)
        fx = core_fx(c, CORE_FX_OFFLINE);
    if (fx) {
        fx->server_entry = *info;
        fx->reason = p->silent ? "hung" : "dead";
    }
    p->failing = p->silent = p->unsettled = false;
    p->failures = 0;
}

void member_deinit(struct core *c)
{
    for (struct map_iter it = map_first(&c->peers); it.value; map_next(&it))
        alloc_put(c->alloc, it.value, sizeof(struct peer));
    map_deinit(&c->peers);
}
