/*
 * Who comes in: the first frame of a connection, and the session that it leads to.
 *
 * Decides: who is referred to another node, and what a welcome says. Must not know what a session does afterwards, whether the
 * player is somebody else's (presence.c), nor what one that is taken up again has missed (resume.c).
 */
#include "node/state.h"

#include <stdio.h>

enum { SERVERS_MAX = 16 };

/* Before there is a session. */
static void refer(struct node *n, struct session *nobody)
{
    struct wire_frame_reconnect f;
    if (!leave_to(n, nobody->id.s, &f)) {
        session_conn_error(n, nobody->conn, 0, ROOM_E_DRAINING, "this node takes no players and knows no other", "draining");
        return;
    }
    session_send(n, nobody, WIRE_OP_RECONNECT, &f);
    n->out.close(n->out.arg, nobody->conn, "draining", NULL, 0);
}

void hello_can(struct session *s, const struct wire_frame_hello *m)
{
    s->can_relay = m->can.count == 0;
    s->can_redirect = s->can_resume = s->relay_first = false;
    for (uint32_t i = 0; i < m->can.count; i++) {
        s->can_redirect |= wire_str_is(m->can.items[i], "redirect");
        s->can_relay |= wire_str_is(m->can.items[i], "relay");
        s->can_resume |= wire_str_is(m->can.items[i], "resume");
        s->relay_first |= s->can_relay && !s->can_redirect;
    }
    s->can_relay |= !s->can_redirect;
}

static void list_servers(const struct node *n, struct wire_frame_welcome *w, char addresses[SERVERS_MAX][ADDRESS_SIZE + 8])
{
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value && w->servers.count < SERVERS_MAX;
         map_next(&it)) {
        const struct view_server *v = it.value;
        if (!view_server_usable(v) || v->info.status != SERVER_UP || !v->info.address[0])
            continue;
        snprintf(addresses[w->servers.count], sizeof(addresses[0]), "%s:%u", v->info.address, v->info.port);
        w->servers.items[w->servers.count] = wire_str(addresses[w->servers.count]);
        w->servers.count++;
    }
}

void hello_welcome(struct node *n, struct session *s, bool resumed, uint64_t seq)
{
    char addresses[SERVERS_MAX][ADDRESS_SIZE + 8], token[ID_SIZE + SESSION_SECRET_SIZE + 1] = "";
    struct wire_frame_welcome w = {.session = s->id, .player = s->player, .resumed = resumed, .seq = (int64_t)seq,
                                   .server = core_self(n->core)->id};
    if (s->can_resume) {
        snprintf(token, sizeof(token), "%s.%s", s->id.s, s->secret);
        w.grace_ms = n->config.hold_ms;
    }
    w.resume = wire_str(token);
    list_servers(n, &w, addresses);
    buf_reset(&n->scratch);
    if (resumed) {
        uint32_t count = 0;
        for (const struct place *p = s->places; p; p = p->next)
            count += p->joined;
        mp_write_array(&n->scratch, count);
        for (const struct place *p = s->places; p; p = p->next)
            if (p->joined)
                mp_write_uint(&n->scratch, p->number);
        w.rooms = (struct wire_raw){n->scratch.data, (uint32_t)n->scratch.len};
    }
    session_send(n, s, WIRE_OP_WELCOME, &w);
    ticket_welcome(n, s, resumed);
}

void hello_renew(struct node *n, struct session *s)
{
    char ulid[ULID_SIZE];
    uint8_t bytes[(SESSION_SECRET_SIZE - 1) / 2];
    s->since = n->wall;
    id_ulid(ulid, n->wall, &n->rng);
    id_set(&s->id, ulid);
    n->config.fill_random(n->config.random_arg, bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(s->secret + 2 * i, 3, "%02x", bytes[i]);
}

void hello_discard(struct node *n, struct session *s)
{
    session_drop_places(n, s);
    collect_drop(n, s);
    tail_clear(&s->tail, n->alloc);
    alloc_put(n->alloc, s, sizeof(*s));
}

bool hello_settle(struct node *n, struct session *s, uint64_t conn)
{
    s->serial = ++n->last_serial;
    if ((conn && !umap_put(&n->conns, conn, s)) || !umap_put(&n->sessions, s->serial, s) || !map_put(&n->by_session, s->id.s, s)) {
        if (conn)
            umap_del(&n->conns, conn);
        umap_del(&n->sessions, s->serial);
        return false;
    }
    s->conn = conn;
    n->stats.sessions++;
    matching_session(n, s);
    if (conn) {
        n->out.established(n->out.arg, conn);
    } else {
        s->away_until = mono_add_ms(n->now, n->config.hold_ms);
        n->away++;
    }
    return true;
}

void hello_in(struct node *n, uint64_t conn, const struct wire_frame_hello *m)
{
    struct login_claims claims;
    if (!admit(n, conn, m, &claims))
        return;
    if (n->stopping) { /* nor does it take up again what is written down for others already */
        session_conn_error(n, conn, 0, ROOM_E_DRAINING, "this node is stopping: connect to another", "server_stopping");
        return;
    }
    if (n->draining) { /* it may know no better: another node takes players */
        struct session nobody = {.conn = conn, .id = m->player};
        refer(n, &nobody);
        return;
    }
    if (m->v != 1) {
        session_conn_error(n, conn, 0, ROOM_E_UNSUPPORTED, "hello.v must be 1, the protocol's only version", "bad_frame");
        return;
    }
    struct session *s = resume_find(n, &claims.player, m->resume);
    if (s && m->has_last_seq && (uint64_t)m->last_seq > s->tail.last) { /* another gateway has said more: this one is out of date */
        session_moved(n, s);
        s = NULL;
    }
    if (s) {
        admit_session(n, s, &claims);
        resume_here(n, s, conn, m);
        return;
    }
    s = alloc_get(n->alloc, sizeof(*s));
    if (!s) {
        session_conn_error(n, conn, 0, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), "no_memory");
        return;
    }
    s->player = claims.player;
    admit_session(n, s, &claims);
    hello_can(s, m);
    hello_renew(n, s);
    presence_arrive(n, conn, s, m);
}
