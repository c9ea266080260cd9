/*
 * What each frame of a client leads to.
 *
 * Decides: what a client may say and when, how a seat somewhere becomes `joined`, `redirect` or a relay, and what every
 * refusal is called. Must not decide which room or node a player gets; the core does.
 */
#include "node/state.h"

#include <stdio.h>

enum { JOINING_MAX = 16, BAD_FRAMES_MAX = 16 };

static void join_here(struct node *n, struct session *s, int64_t id, const char *room_id, const char *ticket,
                      const uint8_t *options, size_t options_len)
{
    const struct room *room = host_find(n->host, room_id);
    struct place *p = room ? session_place_add(n, s, room_id, host_room_type(room)->name.s) : NULL;
    struct member *m = p ? seat_add(n, p, core_self(n->core)->id.s, s->id.s, room_id) : NULL;
    if (!m) {
        if (p)
            session_place_drop(n, p, "no_memory", false);
        session_error(n, s, id, room ? ROOM_E_NO_MEMORY : ROOM_E_NOT_FOUND, NULL);
        return;
    }
    uint64_t who = p->who = m->who;
    p->request = id;
    p->epoch = host_room_epoch(room);
    struct host_join join = {.id = room_id, .player = s->player.s, .ticket = ticket, .options = options,
                             .options_len = options_len, .who = who, .session = s->id.s};
    int code = host_join(n->host, &join, n->now);
    if (code) {
        seat_drop(n, who);
        session_place_drop(n, p, "refused", false);
        session_error(n, s, id, code, NULL);
    }
}

static void redirect(struct node *n, struct session *s, int64_t id, const struct core_answer *a,
                     const struct view_server *v)
{
    struct wire_frame_redirect f = {.id = id, .room_id = a->room, .server = a->server,
                                    .address = wire_str(v->info.address), .port = v->info.port,
                                    .ticket = wire_str(a->ticket)};
    n->stats.joins_redirect++;
    session_send(n, s, WIRE_OP_REDIRECT, &f);
}

static void relay(struct node *n, struct session *s, int64_t id, const struct core_answer *a, struct wire_raw options)
{
    /* Also while that one waits for its answer, or for an owner of the room. */
    bool here = relay_place(n, a->server.s, &s->id, &a->room) || relay_place(n, "", &s->id, &a->room);
    struct place *p = here ? NULL : session_place_add(n, s, a->room.s, a->type.s);
    if (!p) {
        session_error(n, s, id, here ? ROOM_E_ALREADY : ROOM_E_NO_MEMORY, NULL);
        return;
    }
    p->server = a->server;
    p->request = id;
    p->relayed = relay_track(n, p);
    if (!p->relayed) {
        session_place_drop(n, p, "no_memory", false);
        session_error(n, s, id, ROOM_E_NO_MEMORY, NULL);
        return;
    }
    relay_join(n, p, a->ticket, options);
}

/* For the player: what failed and what to do. NULL where the code's own text says it. */
static const char *why_no_seat(int code)
{
    switch (code) {
    case ROOM_E_UNAVAILABLE:
        return "no server can seat you now: all are full, or the registry is electing a leader; try again in a second";
    case ROOM_E_NOT_FOUND:
        return "no such room: its id is wrong or it has ended; use mode create or join_or_create to make one";
    case ROOM_E_FULL:
        return "every server is at its limit of rooms; try again later";
    case ROOM_E_EXISTS:
        return "a room of this id exists already; use mode join or join_or_create to enter it";
    default:
        return NULL;
    }
}

void frames_join_result(struct node *n, uint64_t req, struct request *r, const struct core_answer *a)
{
    struct session *s = umap_get(&n->sessions, r->session);
    bool here = strcmp(a->server.s, core_self(n->core)->id.s) == 0;
    if (!s) {
        if (a->code == 0 && here)
            host_unreserve(n->host, a->room.s, r->player.s, a->ticket, n->now);
        return; /* elsewhere the reservation ends by itself */
    }
    s->joining--;
    if (a->code) {
        session_error(n, s, r->frame_id, a->code, why_no_seat(a->code));
        return;
    }
    if (here) {
        join_here(n, s, r->frame_id, a->room.s, a->ticket, r->options, r->options_len);
        return;
    }
    const struct view_server *v = view_server(core_view(n->core), a->server.s);
    bool can_redirect = s->can_redirect && v && v->info.address[0];
    bool prefer_relay = n->config.routing == NODE_RELAY ? s->can_relay
                                                        : n->config.routing == NODE_AUTO && s->relay_first;
    if (can_redirect && !prefer_relay)
        redirect(n, s, r->frame_id, a, v);
    else if (s->can_relay)
        relay(n, s, r->frame_id, a, (struct wire_raw){r->options, (uint32_t)r->options_len});
    else
        session_error(n, s, r->frame_id, ROOM_E_UNAVAILABLE,
                      "the room is on a server without a public address and this client cannot be relayed");
}

static bool wants_private(const struct node *n, const struct wire_frame_join *m)
{
    const struct room_type_def *def = types_find(n->config.types, m->type.s);
    return m->private || (def && def->private_room);
}

/* The answer may have been lost with a connection: the client asks again, by the same number. */
static bool joined_before(struct node *n, struct session *s, const struct wire_frame_join *m)
{
    struct place *p = s->resumed ? s->places : NULL;
    while (p && !(p->request == m->id && (!m->room_id.s[0] || strcmp(p->room.s, m->room_id.s) == 0)))
        p = p->next;
    if (p && p->joined) {
        const struct room *here = host_find(n->host, p->room.s);
        const struct view_room *v = view_room(core_view(n->core), p->room.s);
        session_joined(n, p, p->request, here ? host_room_players(here) : v ? v->info.players : 0,
                       here ? host_room_max_players(here) : v ? v->info.max_players : 0, (struct wire_raw){0});
        attach_anew(n, p);
    }
    bool asked = p != NULL;
    for (struct umap_iter it = umap_first(&n->requests); s->resumed && s->joining && it.value && !asked; umap_next(&it)) {
        const struct request *r = it.value;
        asked = r->session == s->serial && r->frame_id == m->id;
    }
    return asked;
}

static void join(struct node *n, struct session *s, const struct wire_frame_join *m)
{
    char ticket[HOST_TICKET_SIZE] = "";
    if (m->ticket.data && m->ticket.len < sizeof(ticket))
        memcpy(ticket, m->ticket.data, m->ticket.len);
    n->stats.joins++;
    if (joined_before(n, s, m))
        return;
    if (s->place_count + s->joining >= n->config.rooms_per_session || s->joining >= JOINING_MAX) {
        session_error(n, s, m->id, ROOM_E_FULL, "this session is in as many rooms as it may be");
        return;
    }
    if (ticket[0] && m->room_id.s[0] && host_find(n->host, m->room_id.s) && core_may_serve(n->core)) {
        join_here(n, s, m->id, m->room_id.s, ticket, m->options.data, m->options.len);
        return;
    }
    if (m->mode == WIRE_FRAME_JOIN_MODE_JOIN && !m->room_id.s[0]) {
        session_error(n, s, m->id, ROOM_E_INVALID, "mode join needs room_id; use join_or_create to take any room");
        return;
    }
    struct request *r = alloc_get(n->alloc, sizeof(*r));
    uint64_t number = ++n->last_request;
    if (r && m->options.len) {
        r->options_len = m->options.len;
        r->options = alloc_get(n->alloc, r->options_len);
    }
    struct queued *q = NULL;
    if (r && (r->options || !m->options.len) && umap_put(&n->requests, number, r) &&
        !(q = step_event(n, CORE_EV_JOIN)))
        umap_del(&n->requests, number);
    if (!q) {
        if (r)
            call_free(n, r);
        session_error(n, s, m->id, ROOM_E_NO_MEMORY, NULL);
        return;
    }
    r->session = s->serial;
    r->frame_id = m->id;
    r->player = s->player;
    if (r->options)
        memcpy(r->options, m->options.data, r->options_len);
    s->joining++;
    q->ev.req = number;
    /* Private rooms are not matched: who asks for any room and means a private one gets one of its own. */
    bool own = wants_private(n, m) && !m->room_id.s[0] && m->mode == WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE;
    q->ev.join_mode = own ? CORE_CREATE : (enum core_join_mode)m->mode;
    q->call = (struct core_call){.room = m->room_id, .type = m->type, .player = s->player, .create_id = m->create_id,
                                 .is_private = m->private, .options = r->options, .options_len = r->options_len};
    q->ev.call = &q->call;
}

static struct place *place_by_number(struct session *s, int64_t number)
{
    struct place *p = s->places;
    while (p && (p->number != number || !p->joined))
        p = p->next;
    return p;
}

static void leave(struct node *n, struct session *s, const struct wire_frame_leave *m)
{
    struct place *p = place_by_number(s, m->room);
    if (!p) {
        session_error(n, s, m->id, ROOM_E_NOT_FOUND, "this session is in no room of that number");
        return;
    }
    session_vacate(n, p, "left");
    struct wire_frame_left f = {.id = m->id, .has_id = true, .room = m->room, .reason = wire_str("left")};
    session_place_drop(n, p, "left", false);
    session_send(n, s, WIRE_OP_LEFT, &f);
}

static void send_in(struct node *n, struct session *s, const struct wire_frame_send *m)
{
    struct place *p = place_by_number(s, m->room);
    if (!p) {
        sends_refused(n, s, m->n, ROOM_E_NOT_FOUND, "this session is in no room of that number");
        return;
    }
    if (m->data.len > HOST_MESSAGE_MAX) {
        sends_refused(n, s, m->n, ROOM_E_TOO_BIG, "a message to a room may have 768 KiB at most");
        return;
    }
    if (p->relayed || p->away || p->sends.count || keep_room(n, p->room.s)) { /* none overtakes what waits */
        int rc = sends_add(n, p, m->n, m->data);
        if (rc)
            sends_refused(n, s, m->n, rc, "too many messages of this room are unanswered: wait for `sent`");
        else
            sends_pump(n, p);
        return;
    }
    struct id room = p->room; /* the place may be gone while the room is still told */
    int code = host_message(n->host, room.s, p->who, m->n, m->data.data, m->data.len, n->now);
    if (code)
        sends_refused(n, s, m->n, code, NULL);
}

union client_frame {
    struct wire_frame_hello hello;
    struct wire_frame_join join;
    struct wire_frame_leave leave;
    struct wire_frame_send send;
    struct wire_frame_ping ping;
    struct wire_frame_request request;
    struct wire_frame_match match;
    struct wire_frame_unmatch unmatch;
    struct wire_frame_accept accept;
    struct wire_frame_ack ack;
    struct wire_frame_bye bye;
};

static void act(struct node *n, struct session *s, int op, union client_frame *m)
{
    s->words++;
    switch (op) {
    case WIRE_OP_HELLO:
        session_error(n, s, 0, ROOM_E_ALREADY, "hello was said already on this connection");
        return;
    case WIRE_OP_JOIN:
        join(n, s, &m->join);
        return;
    case WIRE_OP_LEAVE:
        leave(n, s, &m->leave);
        return;
    case WIRE_OP_SEND:
        send_in(n, s, &m->send);
        return;
    case WIRE_OP_PING: {
        struct wire_frame_pong pong = {.t = m->ping.t};
        session_send(n, s, WIRE_OP_PONG, &pong);
        return;
    }
    case WIRE_OP_ACK:
        tail_acknowledge(&s->tail, n->alloc, (uint64_t)m->ack.seq);
        collect_acked(n, s, (uint64_t)m->ack.seq);
        return;
    case WIRE_OP_BYE: {
        uint64_t conn = s->conn;
        char reason[ROOM_REASON_MAX + 1];
        snprintf(reason, sizeof(reason), "%.*s", m->bye.reason.len ? (int)m->bye.reason.len : 4,
                 m->bye.reason.len ? m->bye.reason.data : "left");
        session_end(n, s, reason);
        n->out.close(n->out.arg, conn, "bye", NULL, 0);
        return;
    }
    case WIRE_OP_REQUEST:
        route_in(n, s, &m->request);
        return;
    case WIRE_OP_MATCH:
        ticket_match(n, s, &m->match);
        return;
    case WIRE_OP_ACCEPT:
        ticket_accept(n, s, &m->accept);
        return;
    default:
        ticket_unmatch(n, s, &m->unmatch);
        return;
    }
}

void frames_in(struct node *n, uint64_t conn, enum node_encoding encoding, const uint8_t *data, size_t len)
{
    struct err_detail detail = {{0}};
    union client_frame m;
    int code = 0;
    if (encoding == NODE_JSON) {
        buf_reset(&n->frame);
        code = json_read((const char *)data, len, &n->frame, &detail);
        data = n->frame.data;
        len = n->frame.len;
    }
    int op = code ? -1 : wire_peek_op(data, len);
    const struct codec_message *t = op >= WIRE_OP_HELLO && op <= WIRE_OP_ACCEPT ? codec_by_op(op) : NULL;
    if (!code && op >= 0 && !t)
        code = err_set(&detail, ROOM_E_UNKNOWN_OP, "no client frame has this op; see schemas/README.md");
    else if (!code)
        code = op < 0 ? err_set(&detail, ROOM_E_BAD_FRAME, "not a frame: an array with the op first, or an object "
                                                          "with \"op\", is wanted")
                      : codec_unpack(t, &m, data, len, &detail);
    struct session *s = umap_get(&n->conns, conn);
    if (code) {
        n->stats.bad_frames++;
        bool close = !s || ++s->bad_frames >= BAD_FRAMES_MAX;
        session_conn_error(n, conn, 0, code, detail.text[0] ? detail.text : room_error_text(code), close ? "bad_frame" : NULL);
        return;
    }
    if (s)
        act(n, s, op, &m);
    else if (op == WIRE_OP_HELLO)
        hello_in(n, conn, &m.hello);
    else if (op != WIRE_OP_REQUEST || !route_guest_in(n, conn, &m.request))
        session_conn_error(n, conn, 0, ROOM_E_UNAUTHORIZED, "the first frame must be hello", "unauthorized");
}

void node_frame(struct node *n, uint64_t conn, enum node_encoding encoding, const uint8_t *data, size_t len,
                struct mono now, struct wall wall)
{
    n->now = now;
    n->wall = wall;
    node_catch_up(n);
    n->stats.messages_in++;
    if (!umap_get(&n->arriving, conn))
        frames_in(n, conn, encoding, data, len);
    else if (!presence_early(n, conn, data, len))
        session_conn_error(n, conn, 0, ROOM_E_RATE_LIMITED, "too much was said before the welcome", "rate_limited");
    step_run(n);
}

void node_opened(struct node *n, uint64_t conn, const char *address, struct mono now, struct wall wall)
{
    n->now = now;
    n->wall = wall;
    (void)conn;
    (void)address;
}

void node_refused(struct node *n, uint64_t conn, int code, const char *text, struct mono now, struct wall wall)
{
    n->now = now;
    n->wall = wall;
    n->stats.bad_frames++;
    session_conn_error(n, conn, 0, code, text, NULL);
}

void node_closed(struct node *n, uint64_t conn, const char *reason, struct mono now, struct wall wall)
{
    struct session *s = umap_get(&n->conns, conn);
    n->now = now;
    n->wall = wall;
    if (!presence_closed(n, conn) && s && !resume_wait(n, s))
        session_end(n, s, reason);
    route_guest_gone(n, conn);
    step_run(n);
}
