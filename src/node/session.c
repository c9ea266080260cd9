/*
 * The sessions of the players connected to this node: their places in rooms, what is said to them, their end.
 *
 * Decides: how a frame is written for a session's encoding, and what becomes of its seats when it ends. Must not know what a
 * client may say (frames.c) nor who may come in (hello.c).
 */
#include "node/state.h"

#include <stdio.h>

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

void session_conn_error(struct node *n, uint64_t conn, int64_t id, int code, const char *text, const char *close)
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
    session_conn_error(n, s->conn, id, code, text ? text : room_error_text(code), NULL);
}

static void repeat_json(struct node *n, const struct session *s, uint64_t seq, uint32_t room, struct speech *m)
{
    struct buf *end = &n->tail_json;
    char head[96];
    int len = room ? snprintf(head, sizeof(head), "{\"op\":\"message\",\"seq\":%llu,\"room\":%u", (unsigned long long)seq, room)
                   : snprintf(head, sizeof(head), "{\"op\":\"push\",\"seq\":%llu", (unsigned long long)seq);
    if (!m->as_json) {
        buf_reset(end);
        if (m->from)
            buf_printf(end, ",\"from\":\"%s\"", m->from);
        buf_text(end, ",\"data\":");
        if (json_write(m->data.data, m->data.len, end, NULL) || !buf_byte(end, '}'))
            return; /* no memory */
        m->as_json = true;
    }
    n->out.send(n->out.arg, s->conn, head, (size_t)len, end->data, end->len);
}

/* One with more than its data: that comes behind it. */
static void repeat_push(struct node *n, struct session *s, uint64_t seq, uint32_t room, const struct speech *m)
{
    struct wire_frame_push f = {.seq = (int64_t)seq, .data = m->data, .has_number = m->number != 0,
                                .number = (int64_t)m->number, .has_missed = m->missed != 0, .missed = m->missed, .has_room = room != 0, .room = room};
    session_send(n, s, WIRE_OP_PUSH, &f);
}

/* The part of a message that is the same for everybody is encoded once; the head bears this session's numbers. */
void session_repeat(struct node *n, struct session *s, uint64_t seq, uint32_t room, struct speech *m)
{
    if (m->push && (room || m->number || m->missed)) {
        repeat_push(n, s, seq, room, m);
        return;
    }
    n->stats.messages_out++;
    if (json(n, s)) {
        repeat_json(n, s, seq, room, m);
        return;
    }
    uint8_t bytes[96];
    struct buf head = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = n->alloc};
    mp_write_array(&head, room ? 5 : 3);
    mp_write_int(&head, room ? WIRE_OP_MESSAGE : WIRE_OP_PUSH);
    mp_write_uint(&head, seq);
    if (room)
        mp_write_uint(&head, room);
    if (room && m->from)
        mp_write_text(&head, m->from);
    else if (room)
        mp_write_nil(&head);
    n->out.send(n->out.arg, s->conn, head.data, head.len, m->data.data, m->data.len);
}

static uint64_t say(struct node *n, struct session *s, uint32_t room, struct speech *m)
{
    if (s->can_resume && !m->words) {
        m->words = words_get(n->alloc, m->from, m->data.data, m->data.len);
        if (m->words) {
            m->words->push = m->push;
            m->words->number = m->number;
            m->words->missed = m->missed;
        }
    }
    uint64_t seq = tail_add(&s->tail, n->alloc, room, s->can_resume ? m->words : NULL);
    if (s->conn)
        session_repeat(n, s, seq, room, m);
    return seq;
}

void session_message(struct node *n, struct place *p, struct speech *m)
{
    (void)say(n, p->session, p->number, m);
}

uint64_t session_push(struct node *n, struct session *s, struct speech *m)
{
    return say(n, s, 0, m);
}

void session_said(struct node *n, struct speech *m)
{
    words_put(n->alloc, m->words);
    m->words = NULL;
    m->as_json = false;
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
    if (p->joined)
        roster_changed(n, s);
    sends_clear(n, p);
    if (p->relayed)
        relay_untrack(n, p);
    alloc_put(n->alloc, p, sizeof(*p));
}

void session_drop_places(struct node *n, struct session *s)
{
    while (s->places)
        session_place_drop(n, s->places, "moved", false);
}

void session_joined(struct node *n, struct place *p, int64_t request, uint32_t players, uint32_t max,
                    struct wire_raw state)
{
    struct wire_frame_joined f = {.id = request, .room = p->number, .room_id = p->room, .type = p->type,
                                  .epoch = (int64_t)p->epoch, .players = players, .max_players = max,
                                  .via = p->relayed ? WIRE_FRAME_JOINED_VIA_RELAY : WIRE_FRAME_JOINED_VIA_LOCAL,
                                  .state = state};
    p->joined = true;
    roster_changed(n, p->session);
    session_send(n, p->session, WIRE_OP_JOINED, &f);
}

struct place *session_place(struct node *n, uint64_t serial, uint32_t number)
{
    struct session *s = umap_get(&n->sessions, serial);
    struct place *p = s ? s->places : NULL;
    while (p && p->number != number)
        p = p->next;
    return p;
}

/* While the room waits for an owner, the listed one hears of it: if it is gone, the seat ends by itself at the next. */
void session_vacate(struct node *n, struct place *p, const char *reason)
{
    uint64_t who = p->who;
    bool goes_on = p->session->moved || (n->stopping && keep_room(n, p->room.s)); /* its player takes the seat up again elsewhere */
    if (goes_on) {
        struct wire_link_leave m = {.session = p->session->id, .room = p->room, .reason = wire_str("reconnect")};
        if (p->relayed && !who && p->joined && p->server.s[0])
            link_send(n, p->server.s, WIRE_OP_LINK_LEAVE, &m); /* it holds the seat, lest nobody comes for it */
        seat_drop(n, who);
        if (who)
            (void)host_hold(n->host, p->room.s, who, n->now);
        return;
    }
    if (p->relayed && !who) {
        struct wire_link_leave m = {.session = p->session->id, .room = p->room, .reason = wire_str(reason)};
        const struct view_room *r = view_room(core_view(n->core), p->room.s);
        const char *owner = p->server.s[0] || !r ? p->server.s : r->info.owner.s;
        if (p->joined && p->away)
            attach_ask(n, p, owner); /* for all that it knows the seat is still that of the gateway before */
        link_send(n, owner, WIRE_OP_LINK_LEAVE, &m);
        return;
    }
    const struct room *room = host_find(n->host, p->room.s);
    if (room)
        registry_player_event(n, false, p->session->player.s, room, reason);
    seat_drop(n, who);
    host_leave(n->host, p->room.s, who, reason, n->now);
}

void session_end(struct node *n, struct session *s, const char *reason)
{
    if (s->conn)
        umap_del(&n->conns, s->conn);
    else
        n->away--;
    umap_del(&n->sessions, s->serial);
    map_del(&n->by_session, s->id.s);
    s->conn = 0;
    route_session_gone(n, s);
    ticket_session_gone(n, s);
    while (s->places) {
        struct place *p = s->places;
        session_vacate(n, p, reason);
        if (s->places == p)
            session_place_drop(n, p, reason, false);
    }
    if (!s->moved)
        registry_presence_event(n, false, &s->player, reason);
    presence_end(n, s);
    collect_end(n, s);
    n->stats.sessions--;
    tail_clear(&s->tail, n->alloc);
    alloc_put(n->alloc, s, sizeof(*s));
}

void session_moved(struct node *n, struct session *s)
{
    uint64_t conn = s->conn;
    s->moved = true;
    session_end(n, s, "moved");
    if (conn)
        n->out.close(n->out.arg, conn, "resumed", NULL, 0);
}

void session_kick(struct node *n, struct session *s, const char *reason, const char *message)
{
    struct wire_frame_kicked k = {.reason = wire_str(reason), .message = wire_str(message)};
    uint64_t conn = s->conn;
    session_send(n, s, WIRE_OP_KICKED, &k);
    session_end(n, s, reason);
    if (conn)
        n->out.close(n->out.arg, conn, reason, NULL, 0);
}
