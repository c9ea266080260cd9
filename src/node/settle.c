/*
 * The end of an arrival: its session gets into the tables, its player is welcomed, and what he said too early is heard.
 *
 * Decides: which of two hellos for one session has it, or of two logins at this node (the later one), that somebody who has gone
 * without ever having had anything gets nothing, and that who was welcome without the registry takes nobody's place unless his
 * client is there. Must not know the registry: presence.c says when.
 */
#include "node/state.h"

/* Two hellos of one client look for the same session: the later one has it. False: that is not this one. */
static bool is_latest(struct node *n, const struct arrival *a)
{
    struct session *twin = map_get(&n->by_session, a->made->id.s);
    bool latest = !twin || (a->conn && twin->hello < a->serial);
    if (twin && latest)
        session_moved(n, twin);
    else if (!latest && a->conn)
        n->out.close(n->out.arg, a->conn, "resumed", NULL, 0);
    return latest;
}

/* Into the tables, and welcome. False: it is gone, and so is `a`. */
static bool settle(struct node *n, struct arrival *a)
{
    struct session *s = a->made;
    uint64_t conn = a->conn;
    if (!is_latest(n, a)) {
        arrival_forget(n, a);
        return false;
    }
    s->hello = a->serial;
    bool wanted = conn || a->resumed; /* else whoever it was has gone, and had nothing yet */
    if (!wanted || !hello_settle(n, s, conn)) {
        presence_end(n, s);
        arrival_forget(n, a);
        if (wanted && conn)
            session_conn_error(n, conn, 0, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), "no_memory");
        return false;
    }
    if (conn)
        umap_del(&n->arriving, conn);
    s->resumed = a->resumed;
    a->made = NULL;
    a->conn = 0;
    a->session = s->serial;
    if (a->resumed)
        roster_changed(n, s);
    else
        registry_presence_event(n, true, &s->player, NULL);
    if (conn && a->resumed)
        resume_tell(n, s, a->seen, a->unknown_missed);
    else if (conn)
        hello_welcome(n, s, false, 0);
    if (s->claim)
        collect_begin(n, s);
    return true;
}

/* Frames that came before the welcome. */
static void replay(struct node *n, uint64_t conn, const struct buf *early)
{
    for (size_t at = 0; at + sizeof(uint32_t) <= early->len && umap_get(&n->conns, conn);) {
        uint32_t len;
        memcpy(&len, early->data + at, sizeof(len));
        at += sizeof(len);
        frames_in(n, conn, n->out.encoding(n->out.arg, conn), early->data + at, len);
        at += len;
    }
    struct session *s = umap_get(&n->conns, conn);
    if (s)
        s->words = 0; /* that was before the welcome */
}

bool arrival_begin(struct node *n, struct arrival *a, bool done)
{
    struct buf early = a->early;
    uint64_t conn = a->conn;
    buf_init(&a->early, n->alloc, ARRIVAL_EARLY_MAX);
    bool there = settle(n, a);
    if (there && done)
        arrival_forget(n, a);
    else if (there)
        arrival_wait(n, a);
    if (there && conn)
        replay(n, conn, &early);
    buf_deinit(&early);
    return there;
}

bool arrival_outdone(struct node *n, const struct arrival *a, const struct id *listed)
{
    const struct session *s = map_get(&n->by_session, listed->s);
    return !n->config.login_reject && s && s->hello > a->serial && strcmp(listed->s, a->wanted.s) != 0;
}

bool arrival_may_take(struct arrival *a, const struct session *s)
{
    if (!a->late)
        a->words = s->words;
    a->late = true;
    return s->conn && s->words > a->words;
}

void arrival_finish(struct node *n, struct arrival *a)
{
    if (a->made)
        (void)arrival_begin(n, a, true);
    else
        arrival_forget(n, a);
}
