/*
 * Sessions whose connection is gone, until their player is back.
 *
 * Decides: which sessions wait and for how long, who may take one up again on this node, and what whoever comes back (from
 * another gateway, too) is told of the time between: every message he has not seen, in order, or that some cannot be said again
 * and the whole state of his rooms. What the client asked and has no answer to it asks again; rooms and this node know what they
 * did already.
 */
#include "login/digest.h"
#include "node/state.h"

enum { AWAY_MAX = 10000, AWAY_LOOK_MS = 250, BEYOND = 1 << 20 /* more than is ever said while nobody hears */ };
#define SEEN_MAX (UINT64_C(1) << 52)

bool resume_wait(struct node *n, struct session *s)
{
    if (!s->can_resume || n->stopping || n->config.hold_ms <= 0 || n->away >= AWAY_MAX)
        return false;
    umap_del(&n->conns, s->conn);
    s->conn = 0;
    s->away_until = mono_add_ms(n->now, n->config.hold_ms);
    n->away++;
    return true;
}

/* How long it takes does not tell how much of it is right. */
static bool same_secret(const char *a, const char *b, size_t len)
{
    unsigned differ = 0;
    for (size_t i = 0; i < len; i++)
        differ |= (unsigned)(uint8_t)(a[i] ^ b[i]);
    return differ == 0;
}

bool resume_token(struct wire_str token, struct id *session, char secret[SESSION_SECRET_SIZE])
{
    const size_t len = SESSION_SECRET_SIZE - 1;
    if (token.len < len + 2 || token.data[token.len - len - 1] != '.' || !id_set_n(session, token.data, token.len - len - 1))
        return false;
    memcpy(secret, token.data + token.len - len, len);
    secret[len] = '\0';
    return true;
}

struct session *resume_match(struct node *n, const struct id *session, const struct id *player, struct wire_str secret)
{
    struct session *s = map_get(&n->by_session, session->s);
    bool his = s && s->can_resume && strcmp(s->player.s, player->s) == 0 && secret.len == SESSION_SECRET_SIZE - 1 &&
               same_secret(s->secret, secret.data, secret.len);
    return his ? s : NULL;
}

bool resume_listed(const struct arrival *a, const struct wire_player_entry *e)
{
    char hash[DIGEST_SIZE];
    digest(hash, a->secret, strlen(a->secret));
    return a->made && a->wants && strcmp(e->session.s, a->wanted.s) == 0 && wire_str_is(e->resume, hash);
}

struct session *resume_find(struct node *n, const struct id *player, struct wire_str token)
{
    char secret[SESSION_SECRET_SIZE];
    struct id id;
    return resume_token(token, &id, secret) ? resume_match(n, &id, player, wire_str(secret)) : NULL;
}

/* The connection before this one may not know yet that it is dead. */
static void take_over(struct node *n, struct session *s, uint64_t conn)
{
    uint64_t former = s->conn;
    s->conn = conn;
    if (!former) {
        n->away--;
        return;
    }
    umap_del(&n->conns, former);
    n->out.close(n->out.arg, former, "resumed", NULL, 0);
}

static void say_again(struct node *n, struct session *s, uint64_t after)
{
    const struct tail_message *t;
    while ((t = tail_at(&s->tail, ++after))) {
        const struct words *w = t->words;
        struct speech m = {.from = w->from.s[0] ? w->from.s : NULL, .data = {w->data, w->len}, .push = w->push,
                           .number = w->number, .missed = w->missed};
        session_repeat(n, s, after, t->room, &m);
        session_said(n, &m);
    }
}

/* Up to `after`, for ever: those that were said and are not kept. */
static void missed(struct node *n, struct session *s, uint64_t after, uint64_t count)
{
    struct wire_frame_resync f = {.seq = (int64_t)after, .missed = (int64_t)count};
    session_send(n, s, WIRE_OP_RESYNC, &f);
}

static void tell_places(struct node *n, struct session *s, bool whole)
{
    for (struct place *p = s->places, *next; p; p = next) {
        next = p->next;
        if (p->joined && p->away) {
            struct wire_frame_paused f = {.room = p->number, .epoch = (int64_t)p->epoch};
            session_send(n, s, WIRE_OP_PAUSED, &f);
        } else if (p->joined && whole) {
            attach_anew(n, p);
        }
    }
}

/* Two gateways may have a session for a while, when one of them was out of reach: what each of them says is never of the same
 * number. */
uint64_t resume_beyond(uint64_t seen, uint64_t claim)
{
    uint64_t next = (seen < SEEN_MAX ? seen : 0) + BEYOND, own = claim < SEEN_MAX / BEYOND ? (claim + 1) * BEYOND : 0;
    return own > next ? own : next;
}

/* A room's state that was sent in the middle cannot be sent again there, nor can what the room said after it go without it. */
uint64_t resume_after(const struct session *s, uint64_t seen)
{
    uint64_t kept = s->tail.floor > seen ? s->tail.floor : seen;
    return s->anew && seen <= s->anew_at && kept < s->tail.last ? s->tail.last : kept;
}

void resume_tell(struct node *n, struct session *s, uint64_t seen, bool unknown)
{
    bool strange = seen > s->tail.last || s->tail.floor >= seen + BEYOND / 2; /* another gateway had it since, or before */
    if (!strange && !unknown)
        collect_acked(n, s, seen);
    if (strange)
        tail_begin_after(&s->tail, n->alloc, seen > s->tail.last ? resume_beyond(seen, s->claim) : s->tail.last);
    unknown |= strange;
    uint64_t from = resume_after(s, seen);
    if (from > seen && collect_lost(n, s, from)) { /* pushes among it are said again */
        tail_begin_after(&s->tail, n->alloc, s->tail.last);
        from = s->tail.floor;
    }
    uint64_t lost = unknown ? 0 : from - seen;
    bool gap = unknown || lost || (s->anew && seen <= s->anew_at);
    tail_acknowledge(&s->tail, n->alloc, from);
    hello_welcome(n, s, true, from);
    if (gap)
        missed(n, s, from, lost);
    say_again(n, s, from);
    tell_places(n, s, gap);
}

void resume_here(struct node *n, struct session *s, uint64_t conn, const struct wire_frame_hello *m)
{
    if (!umap_put(&n->conns, conn, s)) {
        session_conn_error(n, conn, 0, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), "no_memory");
        return;
    }
    take_over(n, s, conn);
    hello_can(s, m);
    s->sent_away = false;
    s->can_resume = s->resumed = true;
    s->bad_frames = 0;
    s->words++; /* only whoever heard its welcome can ask for it */
    n->out.established(n->out.arg, conn);
    s->recheck |= s->claim != 0; /* whoever took it up meanwhile may not have been heard here */
    n->rechecks |= s->recheck;
    resume_tell(n, s, m->has_last_seq ? (uint64_t)m->last_seq : 0, false);
}

void resume_tick(struct node *n)
{
    if (!n->away || !mono_reached(n->now, n->next_away_look))
        return;
    n->next_away_look = mono_add_ms(n->now, AWAY_LOOK_MS);
    for (struct umap_iter it = umap_first(&n->sessions); it.value;) {
        struct session *s = it.value;
        umap_next(&it);
        if (s->conn || !mono_reached(n->now, s->away_until))
            continue;
        s->moved = s->sent_away;
        session_end(n, s, s->moved ? "reconnect" : "timeout");
    }
}
