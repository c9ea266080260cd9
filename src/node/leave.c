/*
 * Leaving without anybody noticing: rooms move to other nodes, then the players of this one are told to go there.
 *
 * Decides: when players are told `reconnect` (no room is left here, or nobody can take those that are), where to, and when
 * a node that is to end is empty enough. Which rooms move where is the core's matter.
 * A session that can be resumed waits here for the gateway that its player goes to; if none asks in time, what is written
 * down of it must do. Any other one ends, and seats of rooms that are kept are held for its player.
 */
#include "node/state.h"

enum { SESSIONS_PER_TICK = 64, PROGRESS_MS = 1000, TRIES_MS = 3000, COLLECT_MS = 5000 };

void leave_set(struct node *n, bool on)
{
    struct queued *q = step_event(n, CORE_EV_DRAIN);
    if (!q)
        return;
    q->ev.on = on;
    n->draining = on;
    n->drained_rooms = false;
    n->next_progress = mono_add_ms(n->now, PROGRESS_MS);
    n->drain_began = n->now;
}

/* Takes what leaves this node. */
static bool takes(const struct node *n, const struct view_server *v)
{
    return view_server_usable(v) && v->info.status == SERVER_UP && strcmp(v->info.id.s, core_self(n->core)->id.s) != 0;
}

bool leave_possible(const struct node *n)
{
    struct map_iter it = map_first(&core_view(n->core)->servers);
    while (it.value && !takes(n, it.value))
        map_next(&it);
    return it.value != NULL;
}

/* Everybody's own choice among the nodes that take players, so that they spread. */
static const struct view_server *elsewhere(const struct node *n, const char *session)
{
    const struct view_server *best = NULL;
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value; map_next(&it)) {
        const struct view_server *v = it.value;
        if (!takes(n, v) || !v->info.address[0])
            continue;
        if (!best || view_rank(session, it.key) > view_rank(session, best->info.id.s))
            best = v;
    }
    return best;
}

bool leave_to(const struct node *n, const char *session, struct wire_frame_reconnect *out)
{
    const struct view_server *v = elsewhere(n, session);
    if (v)
        *out = (struct wire_frame_reconnect){.address = wire_str(v->info.address), .port = v->info.port,
                                             .ticket = wire_str(""), .reason = wire_str("draining")};
    return v != NULL;
}

static bool part_with(struct node *n, struct session *s)
{
    struct wire_frame_reconnect f;
    uint64_t conn = s->conn;
    if (!leave_to(n, s->id.s, &f))
        return false;
    session_send(n, s, WIRE_OP_RECONNECT, &f);
    if (conn ? resume_wait(n, s) : s->can_resume) {
        s->sent_away = true;
        s->away_until = mono_add_ms(n->now, COLLECT_MS);
    } else {
        session_end(n, s, "reconnect");
    }
    if (conn)
        n->out.close(n->out.arg, conn, "draining", NULL, 0);
    return true;
}

/* What cannot be moved does not keep players here for ever: those in it are the last. */
static bool rooms_done(const struct node *n, const struct core_drain *d)
{
    return d->left == 0 || (d->moving == 0 && d->failed >= d->left && mono_diff_ms(n->drain_began, n->now) > TRIES_MS);
}

static bool sits_here(const struct session *s)
{
    for (const struct place *p = s->places; p; p = p->next)
        if (!p->relayed)
            return true;
    return false;
}

static void send_away(struct node *n)
{
    int left = SESSIONS_PER_TICK;
    for (struct umap_iter it = umap_first(&n->sessions); it.value && left > 0;) {
        struct session *s = it.value;
        umap_next(&it);
        if (!s->sent_away && !sits_here(s) && !s->joining && part_with(n, s))
            left--;
    }
}

void leave_tick(struct node *n)
{
    struct core_drain d = core_drain_state(n->core);
    if (!n->draining)
        return;
    bool alone = !n->bus_up || core_is_isolated(n->core); /* nothing can be moved */
    bool done = !alone && rooms_done(n, &d);
    if (done)
        send_away(n);
    bool empty = d.left == 0 && n->sessions.count == 0;
    if (n->config.log && (mono_reached(n->now, n->next_progress) || (empty && !n->drained_rooms))) {
        n->next_progress = mono_add_ms(n->now, PROGRESS_MS);
        LOG_INF(empty ? "drained" : "draining", "left=%u moving=%u moved=%u failed=%u reason=%s sessions=%zu", d.left, d.moving,
                d.moved, d.failed, d.reason[0] ? d.reason : "-", n->sessions.count);
    }
    n->drained_rooms = empty;
    bool nobody = d.failed >= d.left && d.left && done && n->sessions.count == 0;
    if (n->stop_after && (empty || nobody || alone || mono_reached(n->now, n->drain_deadline)))
        node_end(n);
}
