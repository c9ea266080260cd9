/*
 * The login policy `reject`: the session that a player has stays, if he is connected.
 *
 * Decides: whether the session that stands in the player's entry is in the way of a new login. Its gateway knows, and ends one
 * without a connection when it is asked. A gateway that is listed as down, or says nothing for POLICY_WAIT_MS, stands in nobody's
 * way. Must not touch the entry: presence.c does, by compare-and-set, whatever was said here.
 * Weak point: a connection counts until TCP, or --idle-timeout, says that it is gone.
 */
#include "node/state.h"

enum { ASK_MS = 500 };

int policy_absent(struct node *n, const struct id *session)
{
    struct session *s = map_get(&n->by_session, session->s);
    if (s && !s->conn) {
        session_end(n, s, "replaced");
        return 0;
    }
    bool here = s != NULL;
    for (struct umap_iter it = umap_first(&n->arrivals); it.value && !here; umap_next(&it)) {
        const struct arrival *a = it.value; /* it may have won the entry without knowing yet */
        here = a->made && a->conn && a->tried && strcmp(a->made->id.s, session->s) == 0;
    }
    return here ? ROOM_E_ALREADY_CONNECTED : ROOM_E_NOT_FOUND;
}

enum in_way policy_look(struct node *n, struct arrival *a, uint64_t token)
{
    const struct view_server *v = view_server(core_view(n->core), a->gateway.s);
    struct wire_rpc_displace m = {.session = a->other, .player = a->player, .absent = true};
    char subject[SUBJECT_SIZE];
    if (!a->other.s[0])
        return WAY_FREE;
    if (!a->stands)
        a->stands_since = n->now;
    a->stands = true;
    if (mono_diff_ms(a->stands_since, n->now) > POLICY_WAIT_MS)
        return WAY_FREE;
    if (strcmp(a->gateway.s, core_self(n->core)->id.s) == 0)
        return policy_absent(n, &a->other) == ROOM_E_ALREADY_CONNECTED ? WAY_BARRED : WAY_FREE;
    if (!v || v->info.status == SERVER_DOWN)
        return WAY_FREE;
    buf_reset(&n->scratch);
    int rc = wire_rpc_displace_pack(&m, &n->scratch);
    if (!rc)
        rc = bus_request(n->bus, token, subject_server(subject, a->gateway.s, "rpc"), n->scratch.data, n->scratch.len, ASK_MS);
    return rc ? WAY_UNKNOWN : WAY_ASKED;
}

/* Silence, and nobody who listens, may pass: the next look tells whether that gateway is dead. */
enum in_way policy_answer(const struct bus_event *ev)
{
    struct wire_rpc_session m;
    if (ev->result != BUS_OK || wire_rpc_session_unpack(&m, ev->data, ev->len, NULL))
        return WAY_UNKNOWN;
    return m.code == ROOM_E_ALREADY_CONNECTED ? WAY_BARRED : WAY_FREE;
}
