/*
 * Requests between nodes on server.<id>.rpc: reserve, create, allocate, probe, adopt.
 *
 * Decides: how a core_call and its answer look in msgpack, and that a call to this node itself takes the same road without
 * the bus. A reservation is answered by the room host at once; the other calls go through the core.
 */
#include "node/state.h"

void call_free(struct node *n, struct request *r)
{
    alloc_put_str(n->alloc, r->reply);
    alloc_put(n->alloc, r->options, r->options_len);
    alloc_put(n->alloc, r, sizeof(*r));
}

void call_reserve(struct node *n, const struct core_call *call, struct core_answer *out)
{
    *out = (struct core_answer){.room = call->room, .server = core_self(n->core)->id};
    out->code = core_may_serve(n->core) ? host_reserve(n->host, call->room.s, call->player.s, n->now, out->ticket)
                                        : ROOM_E_UNAVAILABLE;
    const struct room *room = host_find(n->host, call->room.s);
    if (!room)
        return;
    out->type = host_room_type(room)->name;
    out->epoch = host_room_epoch(room);
    out->players = host_room_players(room);
    out->seats = host_room_seats(room);
    out->max_players = host_room_max_players(room);
    out->seats_version = host_room_seats_version(room);
}

static void finished(struct node *n, uint64_t token, const struct core_answer *answer)
{
    struct queued *q = step_event(n, CORE_EV_CALL_DONE);
    if (q) {
        q->ev.token = token;
        q->answer = *answer;
        q->ev.answer = &q->answer;
    }
}

/* Hands a call to the core; its reply finds the request by number. */
static bool into_core(struct node *n, const struct core_call *call, const char *reply, uint64_t local_token)
{
    struct request *r = alloc_get(n->alloc, sizeof(*r));
    if (!r)
        return false;
    r->local_token = local_token;
    r->reply = reply ? alloc_str(n->alloc, reply) : NULL;
    uint64_t number = ++n->last_request;
    struct queued *q = NULL;
    if ((!reply || r->reply) && umap_put(&n->requests, number, r) && !(q = step_event(n, CORE_EV_CALL)))
        umap_del(&n->requests, number);
    if (!q) {
        call_free(n, r);
        return false;
    }
    q->ev.req = number;
    q->call = *call;
    const struct room_type_def *def = types_find(n->config.types, call->type.s);
    q->call.is_private |= def && def->private_room; /* listed as private from the first write on */
    if (call->options_len) {
        q->options = alloc_get(n->alloc, call->options_len);
        if (q->options)
            memcpy(q->options, call->options, call->options_len);
        else
            q->call.options_len = 0;
        q->call.options = q->options;
    }
    q->ev.call = &q->call;
    return true;
}

static int pack(const struct core_call *call, struct buf *out)
{
    struct wire_raw options = {call->options, (uint32_t)call->options_len};
    if (call->kind == CORE_CALL_RESERVE) {
        struct wire_rpc_reserve m = {.room = call->room, .player = call->player};
        return wire_rpc_reserve_pack(&m, out);
    }
    if (call->kind == CORE_CALL_CREATE) {
        struct wire_rpc_create m = {.room = call->room, .type = call->type, .create_id = call->create_id,
                                    .player = call->player, .private = call->is_private, .options = options,
                                    .generated = call->generated};
        return wire_rpc_create_pack(&m, out);
    }
    if (call->kind == CORE_CALL_ALLOCATE) {
        struct wire_rpc_allocate m = {.type = call->type, .player = call->player, .options = options};
        return wire_rpc_allocate_pack(&m, out);
    }
    if (call->kind == CORE_CALL_ADOPT) {
        struct wire_rpc_adopt m = {.room = call->room, .type = call->type, .epoch = (int64_t)call->epoch,
                                   .from = call->server, .commit = call->commit, .revision = (int64_t)call->revision,
                                   .has_revision = call->commit,
                                   .reason = strcmp(call->reason, "drain") == 0 ? WIRE_RPC_ADOPT_REASON_DRAIN
                                                                                : WIRE_RPC_ADOPT_REASON_MIGRATION};
        return wire_rpc_adopt_pack(&m, out);
    }
    struct wire_rpc_probe m = {.server = call->server};
    m.boot = call->server;
    return wire_rpc_probe_pack(&m, out);
}

static bool unpack(struct core_call *call, const uint8_t *data, size_t len)
{
    union {
        struct wire_rpc_reserve reserve;
        struct wire_rpc_create create;
        struct wire_rpc_allocate allocate;
        struct wire_rpc_probe probe;
        struct wire_rpc_adopt adopt;
    } m;
    *call = (struct core_call){0};
    switch (wire_peek_op(data, len)) {
    case WIRE_OP_RPC_RESERVE:
        if (wire_rpc_reserve_unpack(&m.reserve, data, len, NULL))
            return false;
        *call = (struct core_call){.kind = CORE_CALL_RESERVE, .room = m.reserve.room, .player = m.reserve.player};
        return true;
    case WIRE_OP_RPC_CREATE:
        if (wire_rpc_create_unpack(&m.create, data, len, NULL) || !m.create.room.s[0])
            return false;
        *call = (struct core_call){.kind = CORE_CALL_CREATE, .room = m.create.room, .type = m.create.type,
                                   .create_id = m.create.create_id, .player = m.create.player,
                                   .is_private = m.create.private, .generated = m.create.generated,
                                   .options = m.create.options.data, .options_len = m.create.options.len};
        return true;
    case WIRE_OP_RPC_ALLOCATE:
        if (wire_rpc_allocate_unpack(&m.allocate, data, len, NULL))
            return false;
        *call = (struct core_call){.kind = CORE_CALL_ALLOCATE, .type = m.allocate.type, .player = m.allocate.player,
                                   .options = m.allocate.options.data, .options_len = m.allocate.options.len};
        return true;
    case WIRE_OP_RPC_PROBE:
        if (wire_rpc_probe_unpack(&m.probe, data, len, NULL))
            return false;
        *call = (struct core_call){.kind = CORE_CALL_PROBE, .server = m.probe.server};
        return true;
    case WIRE_OP_RPC_ADOPT:
        if (wire_rpc_adopt_unpack(&m.adopt, data, len, NULL))
            return false;
        *call = (struct core_call){.kind = CORE_CALL_ADOPT, .room = m.adopt.room, .type = m.adopt.type,
                                   .epoch = (uint64_t)m.adopt.epoch, .server = m.adopt.from,
                                   .commit = m.adopt.commit, .revision = (uint64_t)m.adopt.revision,
                                   .reason = m.adopt.reason == WIRE_RPC_ADOPT_REASON_DRAIN ? "drain" : "migration"};
        return true;
    }
    return false;
}

void call_out(struct node *n, uint64_t token, const char *server, const struct core_call *call, int timeout_ms)
{
    struct core_answer answer = {.code = ROOM_E_UNAVAILABLE};
    n->stats.calls_out++;
    if (strcmp(server, core_self(n->core)->id.s) == 0) {
        if (call->kind == CORE_CALL_RESERVE)
            call_reserve(n, call, &answer);
        else if (into_core(n, call, NULL, token))
            return;
        finished(n, token, &answer);
        return;
    }
    char subject[SUBJECT_SIZE];
    subject_server(subject, server, "rpc");
    buf_reset(&n->scratch);
    int rc = pack(call, &n->scratch);
    if (rc == 0)
        rc = bus_request(n->bus, token | (uint64_t)TOKEN_CALL << TOKEN_SHIFT, subject, n->scratch.data,
                         n->scratch.len, timeout_ms);
    if (rc == 0)
        return;
    answer.code = rc == ROOM_E_DISCONNECTED ? ROOM_E_UNAVAILABLE : rc;
    finished(n, token, &answer);
}

void call_reply(struct node *n, const char *reply, const struct core_answer *a)
{
    struct wire_rpc_result m = {.code = a->code, .room = a->room, .type = a->type, .server = a->server,
                                .epoch = (int64_t)a->epoch, .ticket = wire_str(a->ticket[0] ? a->ticket : NULL),
                                .players = a->players, .seats = a->seats,
                                .seats_version = (int64_t)a->seats_version, .max_players = a->max_players};
    if (a->boot[0])
        id_set(&m.boot, a->boot);
    buf_reset(&n->scratch);
    if (wire_rpc_result_pack(&m, &n->scratch) == 0)
        (void)bus_publish(n->bus, reply, NULL, n->scratch.data, n->scratch.len);
}

void call_in(struct node *n, const struct bus_event *ev)
{
    struct core_call call;
    struct core_answer answer = {.code = ROOM_E_BAD_FRAME};
    n->stats.calls_in++;
    if (!ev->reply)
        return;
    int op = wire_peek_op(ev->data, ev->len);
    if (op == WIRE_OP_RPC_PUSH) {
        push_told(n, ev);
        return;
    }
    if (op == WIRE_OP_RPC_HANDOVER || op == WIRE_OP_RPC_DISPLACE) {
        handover_in(n, op, ev);
        return;
    }
    if (op == WIRE_OP_RPC_REACH) {
        reach_in(n, ev);
        return;
    }
    if (unpack(&call, ev->data, ev->len)) {
        if (call.kind == CORE_CALL_ADOPT)
            fault_point(call.commit ? "move_told" : "move_asked");
        if (call.kind == CORE_CALL_RESERVE)
            call_reserve(n, &call, &answer);
        else if (into_core(n, &call, ev->reply, 0))
            return;
        else
            answer.code = ROOM_E_NO_MEMORY;
    }
    call_reply(n, ev->reply, &answer);
}

void call_done(struct node *n, const struct bus_event *ev)
{
    struct core_answer a = {0};
    struct wire_rpc_result m;
    if (ev->result == BUS_NO_RESPONDERS)
        a.code = ROOM_E_NO_RESPONDERS;
    else if (ev->result != BUS_OK)
        a.code = ROOM_E_TIMEOUT;
    else if (wire_rpc_result_unpack(&m, ev->data, ev->len, NULL) || m.code > 0 || m.code < INT32_MIN)
        a.code = ROOM_E_INTERNAL;
    else {
        a = (struct core_answer){.code = (int)m.code, .room = m.room, .type = m.type, .server = m.server,
                                 .epoch = (uint64_t)m.epoch, .players = (uint32_t)m.players,
                                 .seats = (uint32_t)m.seats, .seats_version = (uint64_t)m.seats_version,
                                 .max_players = (uint32_t)m.max_players};
        if (m.ticket.data && m.ticket.len < sizeof(a.ticket))
            memcpy(a.ticket, m.ticket.data, m.ticket.len);
        if (strlen(m.boot.s) < sizeof(a.boot))
            memcpy(a.boot, m.boot.s, strlen(m.boot.s));
    }
    finished(n, ev->token & TOKEN_MASK, &a);
}
