/*
 * What an operator asks of this node about one player: to be shown, and to be gone.
 *
 * Decides: what is told of a session, and that whoever is kicked hears why before the rest of the cluster does. Knows only the
 * sessions that are here; where a player's is, the registry says. Must not keep anybody out: whoever was kicked may log in again.
 */
#include "node/state.h"

static void text(struct buf *b, const char *key, const char *value)
{
    mp_write_text(b, key);
    mp_write_text(b, value);
}

void people_write(const struct session *s, uint32_t more, struct buf *b)
{
    char since[TIME_RFC3339_SIZE];
    uint32_t joined = 0, relayed = 0;
    for (const struct place *p = s->places; p; p = p->next) {
        joined += p->joined;
        relayed += p->joined && p->relayed;
    }
    time_rfc3339(s->since, since);
    mp_write_map(b, 6 + more);
    text(b, "player", s->player.s);
    text(b, "session", s->id.s);
    text(b, "status", s->conn ? "online" : "away");
    text(b, "since", since);
    text(b, "via", relayed ? "relay" : "local");
    mp_write_text(b, "rooms");
    mp_write_array(b, joined);
    for (const struct place *p = s->places; p; p = p->next)
        if (p->joined)
            mp_write_text(b, p->room.s);
}

/* More than one only while an earlier session does not know yet that it is over: the newest counts. */
static struct session *find(struct node *n, const struct wire_ctl_request *q)
{
    if (q->session.s[0]) {
        struct session *s = map_get(&n->by_session, q->session.s);
        return s && strcmp(s->player.s, q->player.s) == 0 ? s : NULL;
    }
    struct session *found = NULL;
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        if (strcmp(s->player.s, q->player.s) == 0 && (!found || s->serial > found->serial))
            found = s;
    }
    return found;
}

int people_show(struct node *n, const struct wire_ctl_request *q, struct buf *b)
{
    const struct session *s = find(n, q);
    if (!s)
        return ROOM_E_NOT_FOUND;
    int64_t left = s->conn ? 0 : mono_diff_ms(n->now, s->away_until);
    people_write(s, 2, b);
    mp_write_text(b, "resumable");
    mp_write_bool(b, s->can_resume);
    mp_write_text(b, "away_ms_left");
    mp_write_uint(b, left > 0 ? (uint64_t)left : 0);
    return 0;
}

int people_kick(struct node *n, const struct wire_ctl_request *q, struct buf *b)
{
    struct session *s = find(n, q);
    if (!s)
        return ROOM_E_NOT_FOUND;
    char message[129] = ""; /* the request is in a buffer that is used again */
    if (q->reason.data)
        memcpy(message, q->reason.data, q->reason.len < sizeof(message) ? q->reason.len : sizeof(message) - 1);
    people_write(s, 0, b);
    if (n->config.log)
        LOG_INF("player kicked", "player=%s session=%s", s->player.s, s->id.s);
    registry_kicked_event(n, &s->player, message[0] ? message : NULL);
    session_kick(n, s, "kicked", message[0] ? message : NULL);
    return 0;
}
