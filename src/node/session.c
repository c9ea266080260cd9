/*
 * Players connected to this node: their sessions, and what each frame of theirs leads to.
 *
 * Decides: what a client may say and when, how a seat somewhere becomes `joined`, `redirect` or a relay, and what every
 * refusal is called. Must not decide which room or node a player gets; the core does. A session dies with its connection
 * (in this version there is no resume), and its seats with it.
 */
#include "node/state.h"

#include <stdio.h>

enum { JOINING_MAX = 16, BAD_FRAMES_MAX = 16 };

static bool json(struct node *n, const struct session *s)
{
    return n->out.encoding(n->out.arg, s->conn) == NODE_JSON;
}

static bool encode(struct node *n, bool as_json, int op, const void *message)
{
    buf_reset(&n->frame_out);
    const struct codec_message *t = codec_by_op(op);
    int rc = as_json ? codec_to_json(t, message, &n->frame_out) : codec_pack(t, message, &n->frame_out);
    if (rc && n->config.log)
        LOG_ERR("frame could not be written", "op=%s err=%s", t->op_name, room_error_name(rc));
    return rc == 0;
}

void session_send(struct node *n, struct session *s, int op, const void *message)
{
    if (s->conn && encode(n, json(n, s), op, message)) {
        n->stats.messages_out++;
        n->out.send(n->out.arg, s->conn, n->frame_out.data, n->frame_out.len, NULL, 0);
    }
}

/* Before there is a session the encoding is the connection's. */
static void conn_error(struct node *n, uint64_t conn, int64_t id, int code, const char *text, const char *close)
{
    struct wire_frame_error e = {.id = id, .has_id = id != 0, .code = wire_str(room_error_name(code)),
                                 .message = wire_str(text)};
    if (!encode(n, n->out.encoding(n->out.arg, conn) == NODE_JSON, WIRE_OP_ERROR, &e))
        return;
    if (close)
        n->out.close(n->out.arg, conn, close, n->frame_out.data, n->frame_out.len);
    else
        n->out.send(n->out.arg, conn, n->frame_out.data, n->frame_out.len, NULL, 0);
}

void session_error(struct node *n, struct session *s, int64_t id, int code, const char *text)
{
    conn_error(n, s->conn, id, code, text ? text : room_error_text(code), NULL);
}

/* The part of a message that is the same for everybody is encoded once; the head bears this session's numbers. */
void session_message(struct node *n, struct place *p, const char *from, struct wire_raw data, struct buf *json_tail)
{
    struct session *s = p->session;
    if (!s->conn)
        return;
    s->seq++;
    n->stats.messages_out++;
    if (json(n, s)) {
        char head[96];
        int len = snprintf(head, sizeof(head), "{\"op\":\"message\",\"seq\":%llu,\"room\":%u",
                           (unsigned long long)s->seq, p->number);
        if (!json_tail->len) {
            if (from)
                buf_printf(json_tail, ",\"from\":\"%s\"", from);
            buf_text(json_tail, ",\"data\":");
            if (json_write(data.data, data.len, json_tail, NULL) || !buf_byte(json_tail, '}')) {
                buf_reset(json_tail); /* no memory; half a tail is nothing for the next session */
                return;
            }
        }
        n->out.send(n->out.arg, s->conn, head, (size_t)len, json_tail->data, json_tail->len);
        return;
    }
    uint8_t room[96];
    struct buf head = {.data = room, .cap = sizeof(room), .max = sizeof(room), .alloc = n->alloc};
    mp_write_array(&head, 5);
    mp_write_int(&head, WIRE_OP_MESSAGE);
    mp_write_uint(&head, s->seq);
    mp_write_uint(&head, p->number);
    if (from)
        mp_write_text(&head, from);
    else
        mp_write_nil(&head);
    n->out.send(n->out.arg, s->conn, head.data, head.len, data.data, data.len);
}

struct place *session_place_add(struct node *n, struct session *s, const char *room, const char *type)
{
    struct place *p = alloc_get(n->alloc, sizeof(*p));
    if (!p)
        return NULL;
    p->session = s;
    p->number = ++s->next_room;
    id_set(&p->room, room);
    id_set(&p->type, type);
    p->next = s->places;
    s->places = p;
    s->place_count++;
    return p;
}

/* Forgets the place. The seat itself is somebody else's matter: it is gone already, or the caller gives it up. */
void session_place_drop(struct node *n, struct place *p, const char *reason, bool tell)
{
    struct session *s = p->session;
    if (tell && p->joined) {
        struct wire_frame_left f = {.room = p->number, .reason = wire_str(reason)};
        session_send(n, s, WIRE_OP_LEFT, &f);
    } else if (tell) {
        char text[ROOM_REASON_MAX + 64];
        snprintf(text, sizeof(text), "the seat was lost while joining (%s); join again", reason);
        session_error(n, s, p->request, ROOM_E_UNAVAILABLE, text);
    }
    struct place **at = &s->places;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    s->place_count--;
    if (p->relayed)
        relay_untrack(n, p);
    alloc_put(n->alloc, p, sizeof(*p));
}

void session_joined(struct node *n, struct place *p, int64_t request, uint32_t players, uint32_t max,
                    struct wire_raw state)
{
    struct wire_frame_joined f = {.id = request, .room = p->number, .room_id = p->room, .type = p->type,
                                  .epoch = (int64_t)p->epoch, .players = players, .max_players = max,
                                  .via = p->relayed ? WIRE_FRAME_JOINED_VIA_RELAY : WIRE_FRAME_JOINED_VIA_LOCAL,
                                  .state = state};
    p->joined = true;
    session_send(n, p->session, WIRE_OP_JOINED, &f);
}

/* Gives up the seat that the place stands for. */
static void vacate(struct node *n, struct place *p, const char *reason)
{
    if (p->relayed) {
        struct wire_link_leave m = {.session = p->session->id, .room = p->room, .reason = wire_str(reason)};
        link_send(n, p->server.s, WIRE_OP_LINK_LEAVE, &m);
        return;
    }
    uint64_t who = p->who;
    const struct room *room = host_find(n->host, p->room.s);
    if (room)
        registry_player_event(n, false, p->session->player.s, room, reason);
    seat_drop(n, who);
    host_leave(n->host, p->room.s, who, reason, n->now);
}

void session_end(struct node *n, struct session *s, const char *reason)
{
    umap_del(&n->conns, s->conn);
    umap_del(&n->sessions, s->serial);
    map_del(&n->by_session, s->id.s);
    s->conn = 0;
    while (s->places) {
        struct place *p = s->places;
        vacate(n, p, reason);
        if (s->places == p)
            session_place_drop(n, p, reason, false);
    }
    registry_presence_event(n, false, &s->player, reason);
    n->stats.sessions--;
    alloc_put(n->alloc, s, sizeof(*s));
}

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
                             .options_len = options_len, .who = who};
    buf_reset(&n->state_out);
    int code = host_join(n->host, &join, n->now, &n->state_out);
    if (code == ROOM_E_CANCELLED)
        return; /* the host has said left() for it, which dropped the place and answered */
    if (code) {
        seat_drop(n, who);
        session_place_drop(n, p, "refused", false);
        session_error(n, s, id, code, NULL);
        return;
    }
    room = host_find(n->host, room_id);
    n->stats.joins_local++;
    session_joined(n, p, id, host_room_players(room), host_room_max_players(room),
                   (struct wire_raw){n->state_out.data, (uint32_t)n->state_out.len});
    registry_player_event(n, true, s->player.s, room, NULL);
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
    bool here = relay_place(n, a->server.s, &s->id, &a->room) != NULL; /* also while that one waits for its answer */
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

/* The core has found a seat, or the reason why there is none. */
void session_join_result(struct node *n, uint64_t req, struct request *r, const struct core_answer *a)
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

static void hello(struct node *n, uint64_t conn, const struct wire_frame_hello *m)
{
    struct session *s = alloc_get(n->alloc, sizeof(*s));
    char ulid[ULID_SIZE];
    if (m->v != 1) {
        alloc_put(n->alloc, s, sizeof(*s));
        conn_error(n, conn, 0, ROOM_E_UNSUPPORTED, "hello.v must be 1, the protocol's only version", "bad_frame");
        return;
    }
    if (!s) {
        conn_error(n, conn, 0, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), "no_memory");
        return;
    }
    id_ulid(ulid, n->wall, &n->rng);
    id_set(&s->id, ulid);
    s->serial = ++n->last_serial;
    s->conn = conn;
    s->player = m->player;
    s->can_relay = m->can.count == 0;
    for (uint32_t i = 0; i < m->can.count; i++) {
        s->can_redirect |= wire_str_is(m->can.items[i], "redirect");
        s->can_relay |= wire_str_is(m->can.items[i], "relay");
        s->relay_first |= s->can_relay && !s->can_redirect;
    }
    if (!umap_put(&n->conns, conn, s) || !umap_put(&n->sessions, s->serial, s) ||
        !map_put(&n->by_session, s->id.s, s)) {
        umap_del(&n->conns, conn);
        umap_del(&n->sessions, s->serial);
        alloc_put(n->alloc, s, sizeof(*s));
        conn_error(n, conn, 0, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), "no_memory");
        return;
    }
    n->stats.sessions++;
    n->out.established(n->out.arg, conn);
    struct wire_frame_welcome w = {.session = s->id, .player = s->player, .resume = wire_str(""),
                                   .server = core_self(n->core)->id};
    char addresses[16][ADDRESS_SIZE + 8];
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value && w.servers.count < 16; map_next(&it)) {
        const struct view_server *v = it.value;
        if (!view_server_usable(v) || v->info.status != SERVER_UP || !v->info.address[0])
            continue;
        snprintf(addresses[w.servers.count], sizeof(addresses[0]), "%s:%u", v->info.address, v->info.port);
        w.servers.items[w.servers.count] = wire_str(addresses[w.servers.count]);
        w.servers.count++;
    }
    session_send(n, s, WIRE_OP_WELCOME, &w);
    registry_presence_event(n, true, &s->player, NULL);
}

static bool wants_private(const struct node *n, const struct wire_frame_join *m)
{
    const struct room_type_def *def = types_find(n->config.types, m->type.s);
    return m->private || (def && def->private_room);
}

static void join(struct node *n, struct session *s, const struct wire_frame_join *m)
{
    char ticket[HOST_TICKET_SIZE] = "";
    if (m->ticket.data && m->ticket.len < sizeof(ticket))
        memcpy(ticket, m->ticket.data, m->ticket.len);
    n->stats.joins++;
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
    vacate(n, p, "left");
    struct wire_frame_left f = {.id = m->id, .has_id = true, .room = m->room, .reason = wire_str("left")};
    session_place_drop(n, p, "left", false);
    session_send(n, s, WIRE_OP_LEFT, &f);
}

static void send_refused(struct node *n, struct session *s, int64_t number, int code, const char *text)
{
    struct wire_frame_error e = {.code = wire_str(room_error_name(code)), .n = number, .has_n = true,
                                 .message = wire_str(text ? text : room_error_text(code))};
    session_send(n, s, WIRE_OP_ERROR, &e);
}

static void send_in(struct node *n, struct session *s, const struct wire_frame_send *m)
{
    struct place *p = place_by_number(s, m->room);
    if (!p) {
        send_refused(n, s, m->n, ROOM_E_NOT_FOUND, "this session is in no room of that number");
        return;
    }
    if (m->data.len > HOST_MESSAGE_MAX) {
        send_refused(n, s, m->n, ROOM_E_TOO_BIG, "a message to a room may have 768 KiB at most");
        return;
    }
    if (p->relayed) {
        struct wire_link_send ls = {.session = s->id, .room = p->room, .n = m->n, .data = m->data,
                                    .number = p->number, .has_number = true};
        link_send(n, p->server.s, WIRE_OP_LINK_SEND, &ls);
        return;
    }
    uint64_t serial = s->serial, who = p->who;
    struct wire_frame_sent f = {.room = p->number, .n = m->n, .epoch = (int64_t)p->epoch};
    struct id room = p->room;
    buf_reset(&n->state_out);
    int code = host_message(n->host, room.s, who, m->data.data, m->data.len, n->now, &n->state_out);
    s = umap_get(&n->sessions, serial);
    if (!s)
        return;
    if (code) {
        send_refused(n, s, m->n, code, NULL);
        return;
    }
    f.result = (struct wire_raw){n->state_out.data, (uint32_t)n->state_out.len};
    session_send(n, s, WIRE_OP_SENT, &f);
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
    struct wire_frame_ack ack;
};

static void act(struct node *n, struct session *s, int op, union client_frame *m)
{
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
        return; /* nothing is kept for a session that cannot be resumed */
    case WIRE_OP_REQUEST:
        session_error(n, s, m->request.id, ROOM_E_UNSUPPORTED, "this node routes no services");
        return;
    case WIRE_OP_MATCH:
        session_error(n, s, m->match.id, ROOM_E_UNSUPPORTED, "this node has no matchmaking queues");
        return;
    default:
        session_error(n, s, m->unmatch.id, ROOM_E_UNSUPPORTED, "this node has no matchmaking queues");
        return;
    }
}

void node_frame(struct node *n, uint64_t conn, enum node_encoding encoding, const uint8_t *data, size_t len,
                struct mono now, struct wall wall)
{
    struct err_detail detail = {{0}};
    union client_frame m;
    n->now = now;
    n->wall = wall;
    node_catch_up(n);
    n->stats.messages_in++;
    int code = 0;
    if (encoding == NODE_JSON) {
        buf_reset(&n->frame);
        code = json_read((const char *)data, len, &n->frame, &detail);
        data = n->frame.data;
        len = n->frame.len;
    }
    int op = code ? -1 : wire_peek_op(data, len);
    const struct codec_message *t = op >= WIRE_OP_HELLO && op <= WIRE_OP_PING ? codec_by_op(op) : NULL;
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
        conn_error(n, conn, 0, code, detail.text[0] ? detail.text : room_error_text(code), close ? "bad_frame" : NULL);
        return;
    }
    if (s)
        act(n, s, op, &m);
    else if (op == WIRE_OP_HELLO)
        hello(n, conn, &m.hello);
    else
        conn_error(n, conn, 0, ROOM_E_UNAUTHORIZED, "the first frame must be hello", "unauthorized");
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
    conn_error(n, conn, 0, code, text, NULL);
}

void node_closed(struct node *n, uint64_t conn, const char *reason, struct mono now, struct wall wall)
{
    struct session *s = umap_get(&n->conns, conn);
    n->now = now;
    n->wall = wall;
    if (s)
        session_end(n, s, reason);
    step_run(n);
}

/* Joins over a link that nobody answered. */
void session_tick(struct node *n)
{
    for (struct map_iter it = map_first(&n->relayed); it.value; map_next(&it)) {
        struct relayed *r = it.value;
        for (struct place *p = r->first, *next; p; p = next) {
            next = p->room_next;
            if (p->joined || !mono_reached(n->now, p->deadline))
                continue;
            bool last = p == r->first && !next;
            struct wire_link_leave m = {.session = p->session->id, .room = p->room, .reason = wire_str("timeout")};
            link_send(n, p->server.s, WIRE_OP_LINK_LEAVE, &m);
            session_error(n, p->session, p->request, ROOM_E_TIMEOUT, "the room's server did not answer; join again");
            session_place_drop(n, p, "timeout", false);
            if (last)
                break; /* the list is gone with its last place */
        }
    }
}
