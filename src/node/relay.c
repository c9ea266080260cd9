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
                               .ticket = wire_str(ticket), .request = p->number, .options = options,
                               .resumes = p->session->can_resume};
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
    member->number = m->request;
    member->resumes = m->resumes;
    struct host_join join = {.id = m->room.s, .player = m->player.s, .ticket = ticket[0] ? ticket : NULL,
                             .options = m->options.data, .options_len = m->options.len, .who = who,
                             .session = m->session.s};
    int code = core_may_serve(n->core) ? host_join(n->host, &join, n->now) : ROOM_E_UNAVAILABLE;
    if (code) {
        seat_drop(n, who);
        refuse(n, server, m, code);
    }
}

static void on_leave(struct node *n, const char *server, const struct wire_link_leave *m)
{
    struct member *member = seat_remote(n, m->session.s, m->room.s);
    if (!member || strcmp(member->server.s, server) != 0)
        return;
    char reason[ROOM_REASON_MAX + 1] = "left";
    if (m->reason.len)
        snprintf(reason, sizeof(reason), "%.*s", (int)m->reason.len, m->reason.data);
    if (strcmp(reason, "reconnect") == 0 && (member->resumes || keep_room(n, member->room.s))) { /* he is on his way to another node */
        uint64_t who = member->who;
        (void)host_hold(n->host, member->room.s, who, n->now);
        seat_drop(n, who);
        return;
    }
    seat_gone(n, member, reason);
}

void relay_send_refused(struct node *n, const char *server, const struct id *session, const struct id *room, int64_t number,
                        int code)
{
    struct wire_link_error e = {.session = *session, .room = *room, .code = wire_str(room_error_name(code)),
                                .message = wire_str(room_error_text(code)), .n = number, .has_n = true};
    link_send(n, server, WIRE_OP_LINK_ERROR, &e);
}

static void on_send(struct node *n, const char *server, const struct wire_link_send *m)
{
    struct member *member = seat_remote(n, m->session.s, m->room.s);
    int code = ROOM_E_NOT_FOUND;
    if (member && strcmp(member->server.s, server) == 0) {
        uint64_t who = member->who;
        if (m->has_number)
            member->number = m->number;
        /* Once one was refused for a while, those after it wait for it: the gateway sends all of them again. */
        code = member->refused ? ROOM_E_UNAVAILABLE
                               : host_message(n->host, m->room.s, who, m->n, m->data.data, m->data.len, n->now);
        member = umap_get(&n->members, who);
        if (member)
            member->refused = code == ROOM_E_UNAVAILABLE && keep_room(n, m->room.s);
    }
    if (code)
        relay_send_refused(n, server, &m->session, &m->room, m->n, code);
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

/* The place has left the server that answers: its next owner was asked the same, or will be, and that one's answer counts. */
static bool asked_elsewhere(const struct session *s, const struct id *room)
{
    const struct place *p = s->places;
    while (p && strcmp(p->room.s, room->s) != 0)
        p = p->next;
    return p != NULL;
}

static void on_sent(struct node *n, const char *server, const struct wire_link_sent *m)
{
    struct session *s = map_get(&n->by_session, m->session.s);
    struct place *p = relay_place(n, server, &m->session, &m->room);
    if (!s || (p && (uint64_t)m->epoch < p->epoch) ||
        (!p && (!m->has_number || asked_elsewhere(s, &m->room))))
        return;
    if (p && !sends_answered(n, p, m->n))
        return; /* by a former owner already */
    /* Without a place: what was sent is what ended the seat, and was applied all the same. */
    struct wire_frame_sent f = {.room = m->has_number ? m->number : p->number, .n = m->n, .epoch = m->epoch,
                                .result = m->result};
    session_send(n, s, WIRE_OP_SENT, &f);
}

/* Who waits for the room gets its whole state first: of what it says to the others here he might have missed a part. */
static bool hears(const struct place *p, const struct wire_link_message *m)
{
    return p->joined && !p->away && (uint64_t)m->epoch >= p->epoch;
}

static void on_message(struct node *n, const char *server, const struct wire_link_message *m)
{
    struct speech said = {.from = m->from.s[0] ? m->from.s : NULL, .data = m->data, .push = m->push};
    if (m->session.s[0]) {
        struct place *p = relay_place(n, server, &m->session, &m->room);
        if (p && hears(p, m))
            session_message(n, p, &said);
        session_said(n, &said);
        return;
    }
    struct relayed *r = map_get(&n->relayed, m->room.s);
    for (struct place *p = r ? r->first : NULL; p; p = p->room_next) {
        if (!hears(p, m) || strcmp(p->server.s, server) != 0 ||
            (m->except.s[0] && strcmp(m->except.s, p->session->id.s) == 0))
            continue;
        session_message(n, p, &said);
    }
    session_said(n, &said);
}

static void on_error(struct node *n, const char *server, const struct wire_link_error *m)
{
    struct session *s = map_get(&n->by_session, m->session.s);
    struct place *p = m->room.s[0] ? relay_place(n, server, &m->session, &m->room) : NULL;
    char word[40];
    if (!s)
        return;
    snprintf(word, sizeof(word), "%.*s", (int)m->code.len, m->code.data);
    int code = room_error_from_name(word);
    if (m->has_request && p && p->away) {
        if (code == ROOM_E_NOT_FOUND)
            session_place_drop(n, p, "seat_lost", true);
        return; /* not yet: it is asked again */
    }
    if (m->has_request && (!p || p->joined || p->number != m->request))
        return; /* of a join that was given up: the player has been told */
    if (m->has_n && p && (code == ROOM_E_UNAVAILABLE || code == ROOM_E_NOT_FOUND) && (p->away || attach_wait(n, p, true)))
        return; /* the room is between two owners, or does not know us any more */
    if (m->has_n && !p && asked_elsewhere(s, &m->room))
        return;
    if (m->has_n && p && !sends_answered(n, p, m->n))
        return;
    struct wire_frame_error e = {.has_id = m->has_request, .code = m->code, .message = m->message, .n = m->n,
                                 .has_n = m->has_n};
    e.id = m->has_request ? p->request : 0;
    session_send(n, s, WIRE_OP_ERROR, &e);
    if (m->has_request)
        session_place_drop(n, p, "refused", false);
}

static void refuse_attach(struct node *n, const char *server, const struct wire_link_attach *m, int code)
{
    struct wire_link_error e = {.session = m->session, .request = m->request, .has_request = true, .room = m->room,
                                .code = wire_str(room_error_name(code)), .message = wire_str(room_error_text(code))};
    link_send(n, server, WIRE_OP_LINK_ERROR, &e);
}

/* As the owner: a player whose former link, or former owner, is gone. */
static void on_attach(struct node *n, const char *server, const struct wire_link_attach *m)
{
    const struct room *room = host_find(n->host, m->room.s);
    const struct member *old = seat_remote(n, m->session.s, m->room.s);
    const struct session *here = map_get(&n->by_session, m->session.s);
    uint64_t former = old ? old->who : 0, newest = here ? here->claim : old ? old->claim : 0;
    if (m->has_claim && (uint64_t)m->claim < newest) { /* another gateway has the player since */
        refuse_attach(n, server, m, ROOM_E_NOT_FOUND);
        return;
    }
    seat_drop(n, former);
    struct member *member = room && core_may_serve(n->core) ? seat_add(n, NULL, server, m->session.s, m->room.s) : NULL;
    uint64_t who = member ? member->who : 0;
    int code = ROOM_E_UNAVAILABLE;
    if (member) {
        member->number = m->request;
        member->claim = m->has_claim ? (uint64_t)m->claim : 0;
        member->resumes = m->resumes;
        code = host_attach(n->host, m->room.s, m->player.s, m->session.s, who, n->now);
    }
    if (code == 0)
        return; /* the host says when */
    seat_drop(n, who);
    (void)host_hold(n->host, m->room.s, former, n->now); /* it asks again, or the seat ends by itself */
    refuse_attach(n, server, m, code);
}

static void on_attached(struct node *n, const char *server, const struct wire_link_attached *m)
{
    struct place *p = relay_place(n, server, &m->session, &m->room);
    if (p && p->joined && p->number == m->request && (uint64_t)m->epoch >= p->epoch)
        attach_done(n, p, (uint64_t)m->epoch, m->state);
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
        struct wire_link_attach attach;
        struct wire_link_attached attached;
    } m;
    int op = wire_peek_op(data, len);
    const struct codec_message *t = op >= WIRE_OP_LINK_JOIN && op <= WIRE_OP_LINK_ATTACHED ? codec_by_op(op) : NULL;
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
    case WIRE_OP_LINK_ATTACH:  on_attach(n, server, &m.attach); return;
    case WIRE_OP_LINK_ATTACHED: on_attached(n, server, &m.attached); return;
    }
}

/* The other node, or the link to it, is lost: its rooms for our players, its players for our rooms. */
void relay_server_gone(struct node *n, const char *server, const char *reason)
{
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        for (struct place *p = s->places, *next; p; p = next) {
            next = p->next;
            if (p->relayed && strcmp(p->server.s, server) == 0 && !attach_wait(n, p, false))
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

/* Joins over a link that nobody answered. */
void relay_tick(struct node *n)
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
