/*
 * The players of the simulated cluster: what they are told, and whether it may be true.
 *
 * Decides: that a joined was asked for; that messages of one sender arrive in order, without repeat, and without gap as long as
 * neither side was told of a loss (G4); that counters count by one, or resync says from where; that each input has one answer;
 * that nothing comes from an owner that was superseded (G10). Numbers of messages are client_session.c's, what counters come
 * to is the ledger's. Must not call nodes.
 */
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/mp_read.h"

static bool read_value(struct wire_raw data, int64_t *value)
{
    struct mp_read r;
    struct mp_token map, key, n;
    mp_read_init(&r, data.data, data.len);
    if (mp_next(&r, &map, NULL) || map.type != MP_MAP || mp_next(&r, &key, NULL) || key.type != MP_STR ||
        mp_next(&r, &n, NULL) || n.type != MP_INT)
        return false;
    *value = n.i;
    return true;
}

static bool read_pair(struct wire_raw data, uint64_t *join, int64_t *number)
{
    struct mp_read r;
    struct mp_token array, a, b;
    mp_read_init(&r, data.data, data.len);
    if (mp_next(&r, &array, NULL) || array.type != MP_ARRAY || array.count != 2 || mp_next(&r, &a, NULL) ||
        a.type != MP_INT || mp_next(&r, &b, NULL) || b.type != MP_INT)
        return false;
    *join = (uint64_t)a.i;
    *number = b.i;
    return true;
}

/* Of rooms that live on, no owner may speak once a later one has; the others may be played on by an owner that is cut off. */
static void epoch_seen(struct sim_client *c, int64_t epoch)
{
    const struct room_type_def *def = types_find(c->w->types, c->type.s);
    int64_t before = (int64_t)(uintptr_t)map_get(&c->epochs, c->room_id.s);
    if (!def || def->durability == ROOM_DURABILITY_NONE)
        return;
    if (epoch < before)
        world_fail(c->w, "G10: %s heard of room %s at epoch %lld after %lld", c->name, c->room_id.s, (long long)epoch,
                   (long long)before);
    if (!map_put(&c->epochs, c->room_id.s, (void *)(uintptr_t)epoch))
        exit(2);
    c->epoch = epoch;
}

static void on_joined(struct sim_client *c, const struct wire_frame_joined *m)
{
    struct world *w = c->w;
    if (c->state != CLIENT_JOINING || m->id != c->request) {
        world_fail(w, "%s was told joined %lld in state %d without asking", c->name, (long long)m->id, (int)c->state);
        return;
    }
    client_set(c, CLIENT_SEATED);
    c->room = m->room;
    c->room_id = m->room_id;
    c->type = m->type;
    c->epoch = c->joined_epoch = m->epoch;
    c->paused = false;
    c->counts = strcmp(types_find(w->types, m->type.s)->impl->name, "counter") == 0;
    epoch_seen(c, m->epoch);
    c->join = ++w->seats;
    c->number = c->acknowledged = 0;
    c->s.unsure = false;
    client_session_settled(c, m->room);
    c->errors = 0;
    memset(c->heard, 0, sizeof(c->heard));
    c->redirected = c->repeat = false;
    c->proved |= c->asked_proof;
    w->joins++;
    if (m->players > m->max_players)
        world_fail(w, "G6: room %s has %lld players of %lld", m->room_id.s, (long long)m->players,
                   (long long)m->max_players);
    if (c->create_id >= 0)
        invariants_created(w, (unsigned)c->create_id, m->room_id.s);
    c->create_id = -1;
    if (c->counts && !m->state.len && c->s.again)
        c->s.unsure = true; /* it was asked again: the state follows */
    else if (c->counts && !read_value(m->state, &c->counter))
        world_fail(w, "%s got no state of counter %s", c->name, m->room_id.s);
    else if (c->counts)
        ledger_state(w, m->room_id.s, m->type.s, m->epoch, c->counter);
}

struct gap {
    uint64_t sender_join, receiver_join;
    int64_t last, next;
};

static const struct sim_client *seated(const struct world *w, uint64_t join)
{
    for (unsigned i = 0; i < w->client_count; i++)
        if (w->clients[i].join == join && w->clients[i].state == CLIENT_SEATED)
            return &w->clients[i];
    return NULL;
}

/* Whoever lost something has been told by now, or nobody was. */
static void judge_gap(struct world *w, void *arg)
{
    const struct gap *g = arg;
    const struct sim_client *s = seated(w, g->sender_join), *r = seated(w, g->receiver_join);
    if (s && r && s->errors == 0 && r->errors == 0)
        world_fail(w, "order: %s in room %s heard %s say %lld after %lld, and nobody was told of a loss", r->name,
                   r->room_id.s, s->name, (long long)g->next, (long long)g->last);
}

static void heard(struct sim_client *c, const char *from, struct wire_raw data)
{
    uint64_t join;
    int64_t number;
    struct sim_client *s = client_at(c->w, from);
    if (!s || !read_pair(data, &join, &number)) {
        world_fail(c->w, "%s got a message nobody sent, from %s", c->name, from);
        return;
    }
    struct heard_from *h = &c->heard[s->index];
    if (h->join == join && number <= h->number)
        world_fail(c->w, "order: %s in room %s heard %s say %lld after %lld", c->name, c->room_id.s, from,
                   (long long)number, (long long)h->number);
    if (h->join > join)
        world_fail(c->w, "order: %s in room %s heard %s from an earlier seat", c->name, c->room_id.s, from);
    if (h->join == join && number > h->number + 1 && !h->loose && !c->s.unsure) {
        struct gap *g = world_alloc(sizeof(*g));
        *g = (struct gap){join, c->join, h->number, number};
        world_at(c->w, c->w->now_us + 15 * (int64_t)SIM_S, judge_gap, g);
    }
    *h = (struct heard_from){.join = join, .number = number};
}

static void on_message(struct sim_client *c, const struct wire_frame_message *m)
{
    int64_t value;
    client_session_message(c, m->seq);
    if (c->state != CLIENT_SEATED || m->room != c->room)
        return; /* on its way when the seat was given up */
    c->w->messages++;
    if (!c->counts) {
        heard(c, m->from.s, m->data);
        return;
    }
    if (c->s.unsure)
        return;
    if (!read_value(m->data, &value) || value != c->counter + 1)
        world_fail(c->w, "order: %s saw counter %s go from %lld to %lld", c->name, c->room_id.s, (long long)c->counter,
                   (long long)value);
    c->counter = value;
    ledger_heard(c->w, c->room_id.s, c->epoch, value);
}

/* Each input is answered once; one that was sent again, once more and the same way. */
static void on_sent(struct sim_client *c, const struct wire_frame_sent *m)
{
    int64_t value = 0;
    if (c->state != CLIENT_SEATED || m->room != c->room)
        return;
    if (m->n > c->n)
        world_fail(c->w, "order: %s was told sent %lld and has said %lld", c->name, (long long)m->n, (long long)c->n);
    if (c->counts && !read_value(m->result, &value))
        world_fail(c->w, "G3: input %lld of %s was acknowledged without its result", (long long)m->n, c->name);
    bool said_again = m->n <= c->s.again_n;
    if (!client_session_answered(c, m->n, false, value)) {
        if (!said_again)
            world_fail(c->w, "G3: input %lld of %s was answered twice", (long long)m->n, c->name);
        return;
    }
    world_note(c->w, "%s has its answer to %lld: %lld", c->name, (long long)m->n, (long long)value);
    if (m->n <= c->acknowledged && !said_again) /* the answer to the first may have come to nobody, and the others' not yet */
        world_fail(c->w, "order: %s was told sent %lld after %lld", c->name, (long long)m->n, (long long)c->acknowledged);
    if (m->n > c->acknowledged)
        c->acknowledged = m->n;
    epoch_seen(c, m->epoch);
    if (c->counts)
        ledger_acknowledged(c->w, c->room_id.s, c->joined_epoch, m->epoch, value);
}

static void on_paused(struct sim_client *c, const struct wire_frame_paused *m)
{
    if (c->state == CLIENT_SEATED && m->room == c->room)
        c->paused = true;
}

static void on_resumed(struct sim_client *c, const struct wire_frame_resumed *m)
{
    if (c->state != CLIENT_SEATED || m->room != c->room)
        return;
    if (!c->paused)
        world_fail(c->w, "%s was told that room %s has resumed, but it was not paused", c->name, c->room_id.s);
    c->paused = false;
    epoch_seen(c, m->epoch);
}

static void on_resync(struct sim_client *c, const struct wire_frame_resync *m)
{
    client_session_resync(c, m);
    for (unsigned i = 0; i < SIM_CLIENTS_MAX; i++)
        c->heard[i].loose = true;
    if (c->state != CLIENT_SEATED || !m->has_room || m->room != c->room || !c->counts)
        return;
    if (!read_value(m->state, &c->counter))
        world_fail(c->w, "%s got no state of counter %s", c->name, c->room_id.s);
    else
        ledger_state(c->w, c->room_id.s, c->type.s, c->epoch, c->counter);
}

static void on_redirect(struct sim_client *c, const struct wire_frame_redirect *m)
{
    const struct sim_proc *p = proc_by_id(c->w, m->server.s);
    if (c->state != CLIENT_JOINING || m->id != c->request || !p || !c->can_redirect) {
        world_fail(c->w, "%s was redirected to %s without asking", c->name, m->server.s);
        return;
    }
    bool proof = c->asked_proof;
    client_disconnect(c, world_chance(c->w, 50));
    c->s.was = CLIENT_READY; /* what it asked for it asks for there */
    c->asked_proof = proof;
    c->redirected = true;
    c->target = p->index;
    c->room_id = m->room_id;
    snprintf(c->ticket, sizeof(c->ticket), "%.*s", (int)m->ticket.len, m->ticket.data);
    client_connect(c, c->target);
    if (c->state == CLIENT_OFF)
        c->redirected = false;
}

static void on_welcome(struct sim_client *c, const struct wire_frame_welcome *m)
{
    if (c->state != CLIENT_HELLO) {
        world_fail(c->w, "%s was welcomed twice", c->name);
        return;
    }
    client_session_welcome(c, m);
    if (!c->redirected || c->state != CLIENT_READY)
        return;
    bool proof = c->asked_proof;
    c->redirected = false;
    client_join(c, WIRE_FRAME_JOIN_MODE_JOIN, c->type.s[0] ? c->type.s : client_types[0].name, c->room_id.s);
    c->asked_proof = proof;
}

static void on_left(struct sim_client *c, const struct wire_frame_left *m)
{
    if ((c->state != CLIENT_SEATED && c->state != CLIENT_LEAVING) || m->room != c->room)
        return;
    if (c->state == CLIENT_SEATED && wire_str_is(m->reason, "room_lost") && ledger_lives(c->w, c->room_id.s, c->joined_epoch))
        world_fail(c->w, "G2: %s was told that room %s is lost", c->name, c->room_id.s);
    if (c->state == CLIENT_SEATED && wire_str_is(m->reason, "seat_lost"))
        client_session_unseated(c);
    client_doubts(c);
    client_set(c, CLIENT_READY);
}

/* Somebody else is the player from now on, or the node ends and the session goes on elsewhere. */
static void on_kicked(struct sim_client *c, const struct wire_frame_kicked *m)
{
    world_note(c->w, "%s was kicked: %.*s", c->name, (int)m->reason.len, m->reason.data);
    if (wire_str_is(m->reason, "server_stopping"))
        return;
    if (wire_str_is(m->reason, "replaced"))
        logins_replaced(c);
    else
        world_fail(c->w, "%s was kicked: %.*s", c->name, (int)m->reason.len, m->reason.data);
    client_disconnect(c, true);
    client_session_forget(c);
}

/* The node wants to be empty. Its address says which one is meant instead; a seat is asked for there by the room's name. */
static void on_reconnect(struct sim_client *c, const struct wire_frame_reconnect *m)
{
    char id[16] = "";
    bool named = m->address.len < sizeof(id) && m->address.len > 4 &&
                 memcmp(m->address.data + m->address.len - 4, ".sim", 4) == 0;
    if (named)
        memcpy(id, m->address.data, m->address.len - 4);
    const struct sim_proc *p = proc_by_id(c->w, id);
    bool seated = c->state == CLIENT_SEATED && !c->s.token[0], proof = c->asked_proof;
    if (!p) {
        world_fail(c->w, "%s is told to go where no node is", c->name);
        return;
    }
    client_disconnect(c, world_chance(c->w, 50));
    c->asked_proof = proof && !seated;
    c->target = p->index;
    c->redirected |= seated;
    client_connect(c, c->target);
    if (c->state == CLIENT_OFF)
        c->redirected = false;
}

/* It was not applied. A number that was passed over was refused before, to whoever it was
 * that heard it: not to somebody who says it for the first time. */
static void on_refused(struct sim_client *c, const struct wire_frame_error *m)
{
    (void)client_session_answered(c, m->n, true, 0);
    world_note(c->w, "%s is refused its %lld: %.*s", c->name, (long long)m->n, (int)m->code.len, m->code.data);
    if (m->n > c->s.again_n && wire_str_is(m->code, "cancelled"))
        world_fail(c->w, "order: input %lld of %s was overtaken by a later one", (long long)m->n, c->name);
}

static void on_error(struct sim_client *c, const struct wire_frame_error *m)
{
    c->errors++;
    c->redirected = false;
    if (m->has_n)
        on_refused(c, m);
    if (c->state == CLIENT_JOINING && m->has_id && m->id == c->request) {
        client_set(c, CLIENT_READY);
        client_session_settled(c, 0);
        c->repeat = c->create_id >= 0 && world_chance(c->w, 60);
        if (world_chance(c->w, 40))
            client_disconnect(c, true);
    } else if (c->state == CLIENT_LEAVING && m->has_id && m->id == c->request) {
        client_set(c, CLIENT_READY);
    } else if (c->state == CLIENT_HELLO) {
        client_disconnect(c, true);
    }
}

void client_told(struct sim_client *c, const uint8_t *data, size_t len)
{
    union {
        struct wire_frame_welcome welcome;
        struct wire_frame_joined joined;
        struct wire_frame_redirect redirect;
        struct wire_frame_left left;
        struct wire_frame_message message;
        struct wire_frame_sent sent;
        struct wire_frame_paused paused;
        struct wire_frame_resumed resumed;
        struct wire_frame_resync resync;
        struct wire_frame_reconnect reconnect;
        struct wire_frame_error error;
        struct wire_frame_kicked kicked;
    } m;
    int op = wire_peek_op(data, len);
    struct err_detail detail = {{0}};
    world_note(c->w, "%s <- %s %zu", c->name, wire_op_name(op) ? wire_op_name(op) : "?", len);
    c->s.heard_us = c->w->now_us;
    c->s.pinged = false;
#define TOLD(OP, frame, call)                                                                                         \
    case OP:                                                                                                         \
        if (wire_frame_##frame##_unpack(&m.frame, data, len, &detail))                                                 \
            world_fail(c->w, "%s got a bad frame %d: %s", c->name, op, detail.text);                               \
        else                                                                                                         \
            call;                                                                                                    \
        return
    switch (op) {
        TOLD(WIRE_OP_WELCOME, welcome, on_welcome(c, &m.welcome));
        TOLD(WIRE_OP_JOINED, joined, on_joined(c, &m.joined));
        TOLD(WIRE_OP_REDIRECT, redirect, on_redirect(c, &m.redirect));
        TOLD(WIRE_OP_LEFT, left, on_left(c, &m.left));
        TOLD(WIRE_OP_MESSAGE, message, on_message(c, &m.message));
        TOLD(WIRE_OP_SENT, sent, on_sent(c, &m.sent));
        TOLD(WIRE_OP_PAUSED, paused, on_paused(c, &m.paused));
        TOLD(WIRE_OP_RESUMED, resumed, on_resumed(c, &m.resumed));
        TOLD(WIRE_OP_RESYNC, resync, on_resync(c, &m.resync));
        TOLD(WIRE_OP_RECONNECT, reconnect, on_reconnect(c, &m.reconnect));
        TOLD(WIRE_OP_ERROR, error, on_error(c, &m.error));
        TOLD(WIRE_OP_KICKED, kicked, on_kicked(c, &m.kicked));
    }
#undef TOLD
}
