/*
 * The way into the core and out of it.
 *
 * Decides: that events wait in a queue, one core_step() at a time, and that the effects of a step are performed in their
 * order before the next one. Whatever an effect leads to at once (a room that started, a call to ourselves) goes back
 * into the queue. Must not decide what an effect means for the cluster.
 */
#include "node/state.h"

struct queued *step_event(struct node *n, enum core_event_kind kind)
{
    struct queued *q = alloc_get(n->alloc, sizeof(*q));
    if (!q)
        return NULL;
    q->ev.kind = kind;
    *n->queue_last = q;
    n->queue_last = &q->next;
    return q;
}

static void ping(struct node *n, const struct core_fx *fx)
{
    char subject[SUBJECT_SIZE];
    const char *self = core_self(n->core)->id.s;
    subject_server(subject, fx->server.s, "ping");
    uint64_t token = fx->token | (uint64_t)TOKEN_PING << TOKEN_SHIFT;
    if (bus_request(n->bus, token, subject, self, strlen(self), fx->timeout_ms) == 0)
        return;
    struct queued *q = step_event(n, CORE_EV_PING_DONE);
    if (q) {
        q->ev.token = fx->token;
        q->ev.ping_result = CORE_PING_SILENT; /* it is our bus that failed: no proof of anything */
    }
}

static void kv_failed(struct node *n, uint64_t token)
{
    struct queued *q = step_event(n, CORE_EV_KV_DONE);
    if (q) {
        q->ev.token = token;
        q->ev.kv_result = CORE_KV_UNKNOWN;
    }
}

static void registry_fx(struct node *n, const struct core_fx *fx)
{
    bool room = fx->kind == CORE_FX_GET_ROOM || fx->kind == CORE_FX_PUT_ROOM || fx->kind == CORE_FX_DEL_ROOM;
    uint64_t token = fx->token | (uint64_t)(room ? TOKEN_ROOM : TOKEN_SERVER) << TOKEN_SHIFT;
    const char *bucket = room ? "rooms" : "servers", *key = room ? fx->room.s : fx->server.s;
    int rc;
    if (fx->kind == CORE_FX_GET_ROOM || fx->kind == CORE_FX_GET_SERVER)
        rc = bus_kv_get(n->bus, token, bucket, key, fx->timeout_ms);
    else if (fx->kind == CORE_FX_DEL_ROOM || fx->kind == CORE_FX_DEL_SERVER)
        rc = bus_kv_delete(n->bus, token, bucket, key, fx->expected, fx->timeout_ms);
    else if (fx->kind == CORE_FX_PUT_ROOM)
        rc = registry_put_room(n, token, fx->expected, &fx->room_entry);
    else
        rc = registry_put_server(n, token, fx->expected, &fx->server_entry);
    if (rc)
        kv_failed(n, fx->token);
}

static void room_start(struct node *n, const struct core_fx *fx)
{
    const struct room_info *info = &fx->room_entry;
    struct host_start start = {.id = info->id.s, .type = info->type.s, .epoch = info->epoch,
                               .private_room = info->is_private, .created = info->created,
                               .options = fx->call.options, .options_len = fx->call.options_len};
    struct err_detail detail = {{0}};
    struct core_answer answer = {.room = info->id, .type = info->type};
    answer.code = host_start(n->host, &start, n->now, &detail);
    bool runs = answer.code == 0;
    if (runs && (!keep_add(n, host_find(n->host, info->id.s)) || !talk_open(n, info->id.s)))
        answer.code = ROOM_E_NO_MEMORY;
    if (answer.code == 0 && fx->call.player.s[0]) {
        struct core_call reserve = {.kind = CORE_CALL_RESERVE, .room = info->id, .player = fx->call.player};
        call_reserve(n, &reserve, &answer);
    } else if (answer.code == 0) {
        struct room_info now;
        registry_room_info(&now, host_find(n->host, info->id.s));
        answer.seats_version = now.seats_version;
        answer.max_players = now.max_players;
    } else if (n->config.log) {
        LOG_WRN("room could not start", "room=%s type=%s err=%s detail=\"%s\"", info->id.s, info->type.s,
                room_error_name(answer.code), detail.text);
    }
    struct queued *q = step_event(n, CORE_EV_STARTED);
    if (q) {
        q->answer = answer;
        q->ev.answer = &q->answer;
    }
    if (runs && answer.code) /* nobody can be seated in it: the core hears first that it failed, and lists it no more */
        host_stop(n->host, info->id.s, "create_failed", n->now);
}

/* Not ours any more. What outlives its owner goes on elsewhere, and its players with it. */
static void room_drop(struct node *n, const struct core_fx *fx)
{
    revive_drop(n, fx->room.s);
    bool moved = strcmp(fx->reason, "moved") == 0;
    if (moved)
        fault_point("move_committed");
    if (moved || keep_room(n, fx->room.s) || map_get(&n->journals, fx->room.s))
        node_unhost(n, fx->room.s, moved);
    else
        host_stop(n->host, fx->room.s, fx->reason, n->now);
}

static void listen_on(struct node *n, bool on)
{
    static const struct {
        uint32_t sub;
        const char *verb;
    } subs[] = {{SUB_PING, "ping"}, {SUB_RPC, "rpc"}, {SUB_RELAY, "relay"}, {SUB_CTL, "ctl"}, {SUB_SVC, "svc"}};
    for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
        char subject[SUBJECT_SIZE];
        subject_server(subject, core_self(n->core)->id.s, subs[i].verb);
        int rc = on ? bus_subscribe(n->bus, subs[i].sub, subject) : bus_unsubscribe(n->bus, subs[i].sub);
        if (rc && n->config.log)
            LOG_ERR("cannot subscribe", "subject=%s err=%s", subject, room_error_name(rc));
    }
    push_listen(n, on);
    n->listening = on;
}

static void over(struct node *n, int code, const char *reason)
{
    if (n->over)
        return;
    n->over = true;
    bus_flush(n->bus);
    n->out.stopped(n->out.arg, code, reason);
}

static void self_fx(struct node *n, const struct core_fx *fx)
{
    const char *reason = fx->reason ? fx->reason : "";
    switch (fx->kind) {
    case CORE_FX_READY:
        listen_on(n, true);
        registry_server_event(n, true, &fx->server_entry, NULL);
        if (n->config.log)
            LOG_INF("in the registry", "boot=%s", fx->server_entry.boot);
        presence_verify(n); /* after a fence: others may have taken players over, and it was not said that we are reached again */
        if (revoked_ready(n))
            n->out.ready(n->out.arg);
        return;
    case CORE_FX_FENCED:
        if (n->config.log)
            LOG_WRN("fenced", "reason=\"%s\"", reason);
        listen_on(n, false);
        for (struct map_iter it = map_first(&n->links); it.value; it = map_first(&n->links))
            link_lost(n, it.key);
        return;
    case CORE_FX_ISOLATED:
    case CORE_FX_REACHED:
        attach_isolated(n, fx->kind == CORE_FX_ISOLATED);
        if (fx->kind == CORE_FX_REACHED)
            presence_verify(n);
        if (n->config.log)
            LOG_WRN(fx->kind == CORE_FX_ISOLATED ? "isolated" : "reached again", "rooms=%u",
                    host_room_count(n->host));
        return;
    case CORE_FX_REFUSED:
        over(n, ROOM_E_EXISTS, reason);
        return;
    default:
        over(n, ROOM_E_OK, "stopped");
        return;
    }
}

static void room_fx(struct node *n, const struct core_fx *fx)
{
    switch (fx->kind) {
    case CORE_FX_ROOM_START:
        room_start(n, fx);
        return;
    case CORE_FX_ROOM_RESTORE:
        revive_start(n, &fx->room_entry);
        return;
    case CORE_FX_ROOM_RELEASE:
        keep_release(n, fx->room.s, fx->token, fx->reason);
        return;
    case CORE_FX_ROOM_KEEP:
        keep_stay(n, fx->room.s);
        return;
    case CORE_FX_ROOM_DROP:
        room_drop(n, fx);
        return;
    case CORE_FX_MIGRATED:
        fault_point("takeover_running");
        registry_room_migrated(n, &fx->room_entry, fx->server.s, fx->reason);
        return;
    case CORE_FX_PARKED:
        if (n->config.log)
            LOG_ERR("room parked: it could not be brought back", "room=%s type=%s owner=%s reason=%s", fx->room_entry.id.s,
                    fx->room_entry.type.s, fx->room_entry.owner.s, fx->reason ? fx->reason : "");
        return;
    default: /* created, updated, disposed */
        registry_room_event(n, fx->kind, &fx->room_entry, fx->reason);
        if (fx->kind == CORE_FX_DISPOSED && fx->room_entry.durability != ROOM_DURABILITY_NONE)
            keep_forget(n, fx->room_entry.id.s, fx->room_entry.epoch);
        return;
    }
}

static void perform(struct node *n, const struct core_fx *fx)
{
    switch (fx->kind) {
    case CORE_FX_RELIST:
        (void)bus_kv_watch(n->bus, fx->rooms ? "rooms" : "servers"); /* if that fails, the next listing asks again */
        return;
    case CORE_FX_PING:
        ping(n, fx);
        return;
    case CORE_FX_CALL:
        call_out(n, fx->token, fx->server.s, &fx->call, fx->timeout_ms);
        return;
    case CORE_FX_CALL_REPLY:
    case CORE_FX_JOIN_RESULT:
        step_answer(n, fx->req, &fx->answer);
        return;
    case CORE_FX_ROOM_START:
    case CORE_FX_ROOM_RESTORE:
    case CORE_FX_ROOM_RELEASE:
    case CORE_FX_ROOM_KEEP:
    case CORE_FX_ROOM_DROP:
    case CORE_FX_MIGRATED:
    case CORE_FX_PARKED:
    case CORE_FX_CREATED:
    case CORE_FX_UPDATED:
    case CORE_FX_DISPOSED:
        room_fx(n, fx);
        return;
    case CORE_FX_DRAINING:
        registry_draining_event(n, &fx->server_entry);
        return;
    case CORE_FX_OFFLINE:
        registry_server_event(n, false, &fx->server_entry, fx->reason);
        if (strcmp(fx->server_entry.id.s, core_self(n->core)->id.s) != 0)
            relay_server_gone(n, fx->server_entry.id.s, "server_lost");
        return;
    case CORE_FX_ROOM_GONE:
        relay_room_gone(n, fx->room.s, fx->server.s, fx->reason);
        return;
    case CORE_FX_READY:
    case CORE_FX_FENCED:
    case CORE_FX_ISOLATED:
    case CORE_FX_REACHED:
    case CORE_FX_REFUSED:
    case CORE_FX_STOPPED:
        self_fx(n, fx);
        return;
    default:
        registry_fx(n, fx);
        return;
    }
}

void step_answer(struct node *n, uint64_t req, const struct core_answer *answer)
{
    struct request *r = umap_del(&n->requests, req);
    if (!r)
        return;
    if (r->match.s[0])
        pair_seated(n, &r->match, answer);
    else if (r->session)
        frames_join_result(n, req, r, answer);
    else if (r->reply && r->ctl)
        ctl_moved(n, r->reply, answer);
    else if (r->reply)
        call_reply(n, r->reply, answer);
    else {
        struct queued *q = step_event(n, CORE_EV_CALL_DONE);
        if (q) {
            q->ev.token = r->local_token;
            q->answer = *answer;
            q->ev.answer = &q->answer;
        }
    }
    call_free(n, r);
}

void step_run(struct node *n)
{
    if (n->stepping)
        return;
    n->stepping = true;
    struct queued *q;
    while ((q = n->queue_first)) {
        n->queue_first = q->next;
        if (!n->queue_first)
            n->queue_last = &n->queue_first;
        const struct core_effects *fx = core_step(n->core, &q->ev, n->now, n->wall);
        for (size_t i = 0; i < fx->count; i++)
            perform(n, &fx->items[i]);
        alloc_put(n->alloc, q->options, q->call.options_len);
        alloc_put(n->alloc, q, sizeof(*q));
    }
    n->stepping = false;
}
