/*
 * What of a simulated player outlives his connection: the session, as a client library keeps it.
 *
 * Decides: what a hello asks for, what a welcome means for the seat, the join, the leave and the inputs without an answer, and
 * whether it may be true (G4): the numbers go on where they were or a resync says from where, what was answered is answered the
 * same way again, and a session that nothing stood in the way of is there, with its seat. Must not decide when a connection is
 * given up, but for one that is silent.
 */
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/mp_read.h"

enum { PING_MS = 1500, SILENCE_MS = 5000, RESYNC_MS = 3000, ACK_MESSAGES = 24 };
/* Less than what the nodes call hold_ms, proc.c; and as long as a healed cluster may yet be busy with what was late. */
enum { SURELY_HELD_MS = 6500, CALM_MS = 1500 };
/* A hello that was given up may lie before a frozen node for so long, and is heard when that goes on. */
enum { ROAM_MS = 15000 };

/* ---- out ---- */

void client_session_hello(struct sim_client *c, struct wire_frame_hello *hello)
{
    struct client_session *s = &c->s;
    s->heard_us = s->unsure_us = c->w->now_us;
    s->pinged = false;
    s->resuming = s->token[0] != 0;
    if (s->can_resume)
        hello->can.items[hello->can.count++] = wire_str("resume");
    if (s->resuming) {
        hello->resume = wire_str(s->token);
        hello->has_last_seq = true;
        hello->last_seq = c->seq;
        if (c->node != s->node || c->life != s->life)
            s->roam_us = c->w->now_us;
    }
    logins_said(c);
}

void client_session_offline(struct sim_client *c)
{
    struct client_session *s = &c->s;
    if (c->state != CLIENT_OFF && !s->token[0]) {
        c->repeat = c->state == CLIENT_JOINING && c->create_id >= 0;
        client_doubts(c);
    } else if (c->state != CLIENT_OFF && c->state != CLIENT_HELLO) {
        s->was = c->state;
        s->lost_us = c->w->now_us;
    }
    client_set(c, CLIENT_OFF);
    c->conn = 0;
}

void client_session_forget(struct sim_client *c)
{
    bool joined = c->s.was == CLIENT_JOINING;
    if (c->s.token[0])
        client_doubts(c);
    c->repeat |= joined && c->create_id >= 0;
    c->s.token[0] = 0;
    c->s.was = CLIENT_READY;
    c->s.proving = false;
}

static void acknowledge(struct sim_client *c)
{
    struct wire_frame_ack ack = {.seq = c->seq};
    c->s.acked = c->seq;
    client_say(c, WIRE_OP_ACK, &ack);
}

bool client_session_tick(struct sim_client *c)
{
    struct client_session *s = &c->s;
    int64_t silent_ms = (c->w->now_us - s->heard_us) / SIM_MS;
    if (!s->can_resume || c->state == CLIENT_OFF || c->state == CLIENT_HELLO)
        return false;
    if (silent_ms > SILENCE_MS) {
        world_note(c->w, "%s hears nothing", c->name);
        client_disconnect(c, false);
        return true;
    }
    if (!s->unsure || c->paused || c->state != CLIENT_SEATED)
        s->unsure_us = c->w->now_us;
    if (s->heard_us - s->unsure_us > RESYNC_MS * (int64_t)SIM_MS)
        world_fail(c->w, "G4: %s has missed something in room %s, and is not sent its state", c->name, c->room_id.s);
    if (silent_ms > PING_MS && !s->pinged) {
        struct wire_frame_ping ping = {.t = 1};
        s->pinged = true;
        client_say(c, WIRE_OP_PING, &ping);
    }
    if (c->index % 3 && c->seq - s->acked >= ACK_MESSAGES && !s->gap) /* every third never acknowledges */
        acknowledge(c);
    return false;
}

/* ---- in: welcome ---- */

static bool has_room(struct wire_raw rooms, int64_t room, int64_t *other)
{
    struct mp_read r;
    struct mp_token t;
    bool found = false;
    mp_read_init(&r, rooms.data, rooms.len);
    if (!rooms.len || mp_next(&r, &t, NULL) || t.type != MP_ARRAY)
        return false;
    for (uint32_t left = t.count; left > 0 && mp_next(&r, &t, NULL) == 0 && t.type == MP_INT; left--) {
        found |= t.i == room;
        if (t.i != room)
            *other = t.i;
    }
    return found;
}

/* Nothing was wrong while it was away. */
static bool calm(const struct sim_client *c)
{
    return faults_calm_since(c->w, c->s.lost_us - CALM_MS * SIM_MS);
}

/* Nothing was in its way: its own node has run on and nobody else was asked, or nothing is wrong anywhere. */
static bool must_be_there(const struct sim_client *c)
{
    const struct client_session *s = &c->s;
    const struct sim_proc *p = &c->w->procs[c->node];
    bool young = c->w->now_us - s->lost_us < SURELY_HELD_MS * (int64_t)SIM_MS;
    bool roamed = s->roam_us && c->w->now_us - s->roam_us < ROAM_MS * (int64_t)SIM_MS;
    bool home = c->node == s->node && c->life == s->life && !roamed && !p->stopping && p->drain_life != p->life;
    return young && !logins_since(c) && (home || calm(c));
}

/* A seat that nobody has given up is held; but a room may end with its owner. */
void client_session_unseated(struct sim_client *c)
{
    if (must_be_there(c) && calm(c))
        world_fail(c->w, "G4: %s has its session again, but its seat in room %s is gone", c->name, c->room_id.s);
}

static void say_again(struct sim_client *c)
{
    for (unsigned i = 0; i < c->open_count; i++) {
        client_input(c, &c->open[i]);
        c->s.again_n = c->open[i].n;
    }
}

static void take_seat_up(struct sim_client *c, bool there)
{
    if (!there) {
        client_session_unseated(c);
        client_doubts(c);
        return;
    }
    client_set(c, CLIENT_SEATED);
    if (c->s.proving)
        c->s.proved = true;
    say_again(c);
}

static void give_back(struct sim_client *c, int64_t room)
{
    struct wire_frame_leave leave = {.id = ++c->request, .room = room};
    client_say(c, WIRE_OP_LEAVE, &leave);
}

static void go_on(struct sim_client *c, const struct wire_frame_welcome *m)
{
    struct client_session *s = &c->s;
    bool had = s->was == CLIENT_SEATED || s->was == CLIENT_LEAVING;
    int64_t other = 0;
    bool there = has_room(m->rooms, had ? c->room : 0, &other);
    c->w->resumes++;
    if (m->seq < c->seq)
        world_fail(c->w, "G4: %s has heard up to %lld, and is told to go on at %lld", c->name, (long long)c->seq,
                   (long long)m->seq);
    s->gap = m->seq > c->seq;
    if (s->gap && c->seq > s->whole && must_be_there(c) && calm(c))
        world_fail(c->w, "G4: %s has heard up to %lld and goes on at %lld, though its gateway has the rest", c->name,
                   (long long)c->seq, (long long)m->seq);
    s->from = m->seq;
    s->again = true;
    c->paused = false;
    s->stray = s->was == CLIENT_JOINING ? other : 0;
    if (other && s->was != CLIENT_JOINING)
        give_back(c, other);
    if (s->was == CLIENT_SEATED) {
        take_seat_up(c, there);
    } else if (s->was == CLIENT_LEAVING && there) {
        client_leave(c);
    } else if (s->was == CLIENT_JOINING) {
        client_set(c, CLIENT_JOINING);
        client_say(c, WIRE_OP_JOIN, &s->asked);
    }
    s->proving = false;
}

static void begin(struct sim_client *c, const struct wire_frame_welcome *m)
{
    struct client_session *s = &c->s;
    if (s->resuming && must_be_there(c))
        world_fail(c->w, "G4: %s is back after %lld ms, but session %s is over", c->name,
                   (long long)(c->w->now_us - s->lost_us) / SIM_MS, s->id.s);
    if (m->seq)
        world_fail(c->w, "G4: %s begins at message %lld", c->name, (long long)m->seq);
    client_session_forget(c);
    c->n = c->acknowledged = c->seq = 0;
    s->acked = s->stray = s->again_n = s->whole = 0;
    s->again = s->gap = s->unsure = false;
    memset(s->answers, 0, sizeof(s->answers));
    s->id = m->session;
    logins_welcomed(c);
}

void client_session_welcome(struct sim_client *c, const struct wire_frame_welcome *m)
{
    struct client_session *s = &c->s;
    if (m->resumed && (!s->resuming || strcmp(m->session.s, s->id.s) != 0))
        world_fail(c->w, "%s has a session %s taken up that it did not ask for", c->name, m->session.s);
    client_set(c, CLIENT_READY);
    logins_answered(c);
    world_note(c->w, "%s has session %s%s at %s", c->name, m->session.s, m->resumed ? " again" : "", m->server.s);
    if (m->resumed)
        go_on(c, m);
    else
        begin(c, m);
    c->login.welcomed = ++c->w->login_order;
    s->node = c->node;
    s->life = c->life;
    if (s->can_resume && !m->resume.len)
        world_fail(c->w, "%s got nothing to take its session up again with", c->name);
    snprintf(s->token, sizeof(s->token), "%.*s", (int)m->resume.len, m->resume.data);
}

/* ---- in: the rest ---- */

void client_session_message(struct sim_client *c, int64_t seq)
{
    if (c->s.gap)
        world_fail(c->w, "G4: %s was sent message %lld before a resync, though it has heard %lld and was told to go on at %lld",
                   c->name, (long long)seq, (long long)c->seq, (long long)c->s.from);
    else if (seq != c->seq + 1)
        world_fail(c->w, "G4: %s was sent message %lld after %lld", c->name, (long long)seq, (long long)c->seq);
    c->seq = seq;
}

/* Without a room: messages are lost. With one: nothing of it is, up to there. */
void client_session_resync(struct sim_client *c, const struct wire_frame_resync *m)
{
    struct client_session *s = &c->s;
    int64_t due = s->gap ? s->from : c->seq;
    if (m->seq != due || (s->gap && m->has_room))
        world_fail(c->w, "G4: %s has heard up to %lld, and a resync says %lld", c->name, (long long)due, (long long)m->seq);
    if (m->missed && m->missed != m->seq - c->seq)
        world_fail(c->w, "G4: %s has heard up to %lld, goes on at %lld, and is said to miss %lld", c->name, (long long)c->seq,
                   (long long)m->seq, (long long)m->missed);
    c->seq = m->seq;
    s->gap = false;
    s->unsure = !m->has_room || (s->unsure && m->room != c->room);
    s->whole = m->seq;
}

bool client_session_answered(struct sim_client *c, int64_t n, bool refused, int64_t value)
{
    struct client_answer *a = &c->s.answers[n % CLIENT_ANSWERS];
    for (unsigned i = 0; i < c->open_count; i++)
        if (c->open[i].n == n) {
            memmove(&c->open[i], &c->open[i + 1], (--c->open_count - i) * sizeof(c->open[0]));
            *a = (struct client_answer){n, value, refused};
            return true;
        }
    if (a->n == n && !refused && (a->refused || a->value != value))
        world_fail(c->w, "G3: input %lld of %s was %s, and is answered again with %lld", (long long)n, c->name,
                   a->refused ? "refused" : "done", (long long)value);
    return false;
}

void client_session_settled(struct sim_client *c, int64_t room)
{
    if (c->s.stray && c->s.stray != room)
        give_back(c, c->s.stray);
    c->s.stray = 0;
}
