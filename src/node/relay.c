/*
 * Players of one node in rooms of another: what the frames on a link mean.
 *
 * Decides: as the owner, how a gateway's join, leave and send reach the room host and what is answered; as the gateway,
 * which session an answer or a message is for. Frames of an epoch below the highest seen for a place are dropped (G10).
 */
#include "node/state.h"

#include <stdio.h>

bool relay_track(struct node *n, struct place *p)
{
    struct relayed *r = map_get(&n->relayed, p->room.s);
    if (!r) {
        r = alloc_get(n->alloc, sizeof(*r));
        if (!r || !map_put(&n->relayed, p->room.s, r)) {
            alloc_put(n->alloc, r, sizeof(*r));
            return false;
        }
    }
    p->room_next = r->first;
    r->first = p;
    return true;
}

void relay_untrack(struct node *n, struct place *p)
{
    struct relayed *r = map_get(&n->relayed, p->room.s);
    struct place **at = r ? &r->first : NULL;
    while (at && *at && *at != p)
        at = &(*at)->room_next;
    if (at && *at)
        *at = p->room_next;
    if (r && !r->first) {
        map_del(&n->relayed, p->room.s);
        alloc_put(n->alloc, r, sizeof(*r));
    }
}

void relay_join(struct node *n, struct place *p, const char *ticket, struct wire_raw options)
{
    struct wire_link_join m = {.session = p->session->id, .player = p->session->player, .room = p->room,
                               .ticket = wire_str(ticket), .request = p->number, .options = options};
    p->deadline = mono_add_ms(n->now, JOIN_WAIT_MS);
    link_send(n, p->server.s, WIRE_OP_LINK_JOIN, &m);
}

/* The gateway's place of a session in a room that `server` owns; there is one at most. */
struct place *relay_place(struct node *n, const char *server, const struct id *session, const struct id *room)
{
    struct session *s = map_get(&n->by_session, session->s);
    for (struct place *p = s ? s->places : NULL; p; p = p->next)
        if (p->relayed && strcmp(p->room.s, room->s) == 0 && strcmp(p->server.s, server) == 0)
            return p;
    return NULL;
}

static void refuse(struct node *n, const char *server, const struct wire_link_join *m, int code)
{
    struct wire_link_error e = {.session = m->session, .request = m->request, .has_request = true, .room = m->room,
                                .code = wire_str(room_error_name(code)), .message = wire_str(room_error_text(code))};
    link_send(n, server, WIRE_OP_LINK_ERROR, &e);
}

static void on_join(struct node *n, const char *server, const struct wire_link_join *m)
{
    char ticket[HOST_TICKET_SIZE] = "";
    if (m->ticket.data && m->ticket.len < sizeof(ticket))
        memcpy(ticket, m->ticket.data, m->ticket.len);
    struct member *old = seat_remote(n, m->session.s, m->room.s);
    if (old) {
        refuse(n, server, m, ROOM_E_ALREADY);
        return;
    }
    struct member *member = seat_add(n, NULL, server, m->session.s, m->room.s);
    if (!member) {
        refuse(n, server, m, ROOM_E_NO_MEMORY);
        return;
    }
    uint64_t who = member->who;
    struct host_join join = {.id = m->room.s, .player = m->player.s, .ticket = ticket[0] ? ticket : NULL,
                             .options = m->options.data, .options_len = m->options.len, .who = who};
    buf_reset(&n->state_out);
    int code = core_may_serve(n->core) ? host_join(n->host, &join, n->now, &n->state_out) : ROOM_E_UNAVAILABLE;
    if (code == ROOM_E_CANCELLED)
        return; /* the host has said left() for it, and that was the answer */
    const struct room *room = host_find(n->host, m->room.s);
    if (code || !room) {
        seat_drop(n, who);
        refuse(n, server, m, code ? code : ROOM_E_NOT_FOUND);
        return;
    }
    struct wire_link_joined j = {.session = m->session, .request = m->request, .room = m->room,
                                 .type = host_room_type(room)->name, .epoch = (int64_t)host_room_epoch(room),
                                 .players = host_room_players(room), .max_players = host_room_max_players(room),
                                 .state = {n->state_out.data, (uint32_t)n->state_out.len}};
    link_send(n, server, WIRE_OP_LINK_JOINED, &j);
    registry_player_event(n, true, m->player.s, room, NULL);
}

static void on_leave(struct node *n, const char *server, const struct wire_link_leave *m)
{
    struct member *member = seat_remote(n, m->session.s, m->room.s);
    if (!member || strcmp(member->server.s, server) != 0)
        return;
    char reason[ROOM_REASON_MAX + 1] = "left";
    if (m->reason.len)
        snprintf(reason, sizeof(reason), "%.*s", (int)m->reason.len, m->reason.data);
    seat_gone(n, member, reason);
}

static void on_send(struct node *n, const char *server, const struct wire_link_send *m)
{
    struct member *member = seat_remote(n, m->session.s, m->room.s);
    int code = ROOM_E_NOT_FOUND;
    const struct room *room = host_find(n->host, m->room.s);
    struct wire_link_sent sent = {.session = m->session, .room = m->room, .n = m->n, .number = m->number,
                                  .has_number = m->has_number,
                                  .epoch = room ? (int64_t)host_room_epoch(room) : 0};
    buf_reset(&n->state_out);
    if (member && strcmp(member->server.s, server) == 0)
        code = host_message(n->host, m->room.s, member->who, m->data.data, m->data.len, n->now, &n->state_out);
    if (code) {
        struct wire_link_error e = {.session = m->session, .room = m->room, .code = wire_str(room_error_name(code)),
                                    .message = wire_str(room_error_text(code)), .n = m->n, .has_n = true};
        link_send(n, server, WIRE_OP_LINK_ERROR, &e);
        return;
    }
    sent.result = (struct wire_raw){n->state_out.data, (uint32_t)n->state_out.len};
    link_send(n, server, WIRE_OP_LINK_SENT, &sent);
}

static void on_joined(struct node *n, const char *server, const struct wire_link_joined *m)
{
    struct place *p = relay_place(n, server, &m->session, &m->room);
    if (!p || p->joined || p->number != m->request) {
        /* The session or its patience is gone: the seat must not stay taken. If the player asks again already, the owner
         * reads first that the former join was given up. */
        struct wire_link_leave leave = {.session = m->session, .room = m->room, .reason = wire_str("timeout")};
        if (!p)
            link_send(n, server, WIRE_OP_LINK_LEAVE, &leave);
        return;
    }
    p->joined = true;
    p->type = m->type;
    p->epoch = (uint64_t)m->epoch;
    n->stats.joins_relay++;
    session_joined(n, p, p->request, (uint32_t)m->players, (uint32_t)m->max_players, m->state);
}

static void on_left(struct node *n, const char *server, const struct wire_link_left *m)
{
    struct place *p = relay_place(n, server, &m->session, &m->room);
    char reason[ROOM_REASON_MAX + 1];
    snprintf(reason, sizeof(reason), "%.*s", (int)m->reason.len, m->reason.data);
    if (p)
        session_place_drop(n, p, reason, true);
}

static void on_sent(struct node *n, const char *server, const struct wire_link_sent *m)
{
    struct session *s = map_get(&n->by_session, m->session.s);
    struct place *p = relay_place(n, server, &m->session, &m->room);
    if (!s || (p && (uint64_t)m->epoch < p->epoch) || (!p && !m->has_number))
        return;
    /* Without a place: what was sent is what ended the seat, and was applied all the same. */
    struct wire_frame_sent f = {.room = m->has_number ? m->number : p->number, .n = m->n, .epoch = m->epoch,
                                .result = m->result};
    session_send(n, s, WIRE_OP_SENT, &f);
}

static void on_message(struct node *n, const char *server, const struct wire_link_message *m)
{
    const char *from = m->from.s[0] ? m->from.s : NULL;
    buf_reset(&n->tail_json);
    if (m->session.s[0]) {
        struct place *p = relay_place(n, server, &m->session, &m->room);
        if (p && p->joined && (uint64_t)m->epoch >= p->epoch)
            session_message(n, p, from, m->data, &n->tail_json);
        return;
    }
    struct relayed *r = map_get(&n->relayed, m->room.s);
    for (struct place *p = r ? r->first : NULL; p; p = p->room_next) {
        if (!p->joined || (uint64_t)m->epoch < p->epoch || strcmp(p->server.s, server) != 0 ||
            (m->except.s[0] && strcmp(m->except.s, p->session->id.s) == 0))
            continue;
        session_message(n, p, from, m->data, &n->tail_json);
    }
}

static void on_error(struct node *n, const char *server, const struct wire_link_error *m)
{
    struct session *s = map_get(&n->by_session, m->session.s);
    struct place *p = m->room.s[0] ? relay_place(n, server, &m->session, &m->room) : NULL;
    if (!s)
        return;
    if (m->has_request && (!p || p->joined || p->number != m->request))
        return; /* of a join that was given up: the player has been told */
    struct wire_frame_error e = {.has_id = m->has_request, .code = m->code, .message = m->message, .n = m->n,
                                 .has_n = m->has_n};
    e.id = m->has_request ? p->request : 0;
    session_send(n, s, WIRE_OP_ERROR, &e);
    if (m->has_request)
        session_place_drop(n, p, "refused", false);
}

void relay_frame(struct node *n, const char *server, const uint8_t *data, size_t len)
{
    union {
        struct wire_link_join join;
        struct wire_link_leave leave;
        struct wire_link_send send;
        struct wire_link_joined joined;
        struct wire_link_left left;
        struct wire_link_sent sent;
        struct wire_link_message message;
        struct wire_link_error error;
    } m;
    int op = wire_peek_op(data, len);
    const struct codec_message *t = op >= WIRE_OP_LINK_JOIN && op <= WIRE_OP_LINK_ERROR ? codec_by_op(op) : NULL;
    if (!t || codec_unpack(t, &m, data, len, NULL)) {
        n->stats.bad_frames++;
        return;
    }
    switch (op) {
    case WIRE_OP_LINK_JOIN:    on_join(n, server, &m.join); return;
    case WIRE_OP_LINK_LEAVE:   on_leave(n, server, &m.leave); return;
    case WIRE_OP_LINK_SEND:    on_send(n, server, &m.send); return;
    case WIRE_OP_LINK_JOINED:  on_joined(n, server, &m.joined); return;
    case WIRE_OP_LINK_LEFT:    on_left(n, server, &m.left); return;
    case WIRE_OP_LINK_SENT:    on_sent(n, server, &m.sent); return;
    case WIRE_OP_LINK_MESSAGE: on_message(n, server, &m.message); return;
    case WIRE_OP_LINK_ERROR:   on_error(n, server, &m.error); return;
    }
}

/* The other node, or the link to it, is lost: its rooms for our players, its players for our rooms. */
void relay_server_gone(struct node *n, const char *server, const char *reason)
{
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        for (struct place *p = s->places, *next; p; p = next) {
            next = p->next;
            if (p->relayed && strcmp(p->server.s, server) == 0)
                session_place_drop(n, p, reason, true);
        }
    }
    seat_gateway_gone(n, server, reason);
}

/* Only on that server: the name may live on elsewhere already, and a seat there is kept. */
void relay_room_gone(struct node *n, const char *room, const char *server, const char *reason)
{
    struct relayed *r = map_get(&n->relayed, room);
    for (struct place *p = r ? r->first : NULL, *next; p; p = next) {
        next = p->room_next;
        if (strcmp(p->server.s, server) != 0)
            continue;
        struct wire_link_leave leave = {.session = p->session->id, .room = p->room, .reason = wire_str(reason)};
        link_send(n, server, WIRE_OP_LINK_LEAVE, &leave); /* if the room lives after all, its seat must not stay taken */
        session_place_drop(n, p, reason, true);
    }
}
