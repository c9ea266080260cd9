/*
 * Players who log in from several places: of all their sessions one is left (G5).
 *
 * Decides: whether somebody who is told `replaced` was, by what hellos were said and what the registry accepted; whether one
 * client of each player is left in the end, and the registry and the nodes know that one and no other. A login counts from its
 * hello; one that was welcome while the registry could not be asked counts from its entry, too. Must not look into nodes but to
 * count sessions.
 */
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 7000 };

struct login { /* a session that the registry has accepted */
    char player[16];
    uint64_t taken; /* when it took the entry from another, or from nobody, last */
    unsigned node;  /* which did that */
    int64_t taken_us;
    bool known;     /* some client was welcomed with it */
};

void logins_init(struct world *w)
{
    map_init(&w->logins, &alloc_libc);
}

void logins_deinit(struct world *w)
{
    for (struct map_iter it = map_first(&w->logins); it.value; map_next(&it))
        free(it.value);
    map_deinit(&w->logins);
}

static struct login *login_of(struct world *w, const char *session, const char *player)
{
    struct login *l = map_get(&w->logins, session);
    if (l)
        return l;
    l = world_alloc(sizeof(*l));
    snprintf(l->player, sizeof(l->player), "%s", player);
    if (!map_put(&w->logins, session, l))
        exit(2);
    return l;
}

/* The newest entry of a player; false: none. */
static bool entry_of(const struct world *w, const char *player, struct wire_player_entry *out, struct buf *scratch)
{
    const struct sim_kv_entry *e = sim_kv_look(w, sim_kv_find((struct world *)w, "players"), player);
    return e && wire_player_entry_from_json(out, (const char *)e->data, e->len, scratch, NULL) == 0;
}

void logins_written(struct world *w, unsigned writer, const char *player, const void *data, size_t len, bool deleted)
{
    struct wire_player_entry e;
    struct err_detail detail = {{0}};
    struct buf scratch;
    if (deleted)
        return;
    buf_init(&scratch, &alloc_libc, 65536);
    if (wire_player_entry_from_json(&e, data, len, &scratch, &detail))
        world_fail(w, "player %s: his entry is not valid: %s", player, detail.text);
    struct login *l = w->failed ? NULL : login_of(w, e.session.s, player);
    if (l) {
        l->taken = ++w->login_order;
        l->node = writer;
        l->taken_us = w->now_us;
    }
    buf_deinit(&scratch);
}

/* ---- what clients say and are told ---- */

void logins_said(struct sim_client *c)
{
    c->login.said = ++c->w->login_order;
    c->login.welcomed = 0;
    if (!c->s.resuming)
        c->login.began = c->login.said;
}

void logins_heard(struct sim_client *c, unsigned node, uint64_t conn)
{
    c->login.unanswered[c->login.hellos++ % CLIENT_HELLOS] = (struct client_hello){node, conn, c->w->now_us};
}

void logins_answered(struct sim_client *c)
{
    for (unsigned i = 0; i < CLIENT_HELLOS; i++)
        if (c->login.unanswered[i].conn == c->conn)
            c->login.unanswered[i].at_us = 0;
}

void logins_welcomed(struct sim_client *c)
{
    if (c->s.resuming)
        c->login.began = c->login.said;
    login_of(c->w, c->s.id.s, c->player)->known = true;
}

static bool same_player(const struct sim_client *a, const struct sim_client *b)
{
    return strcmp(a->player, b->player) == 0;
}

/* Was it taken for a client who had said hello there, and was given up before he was answered? A node welcomes whoever it has
 * when its patience ends; after that, others go first. */
static bool given_up(const struct sim_client *c, const struct login *l)
{
    for (unsigned i = 0; i < CLIENT_HELLOS; i++) {
        const struct client_hello *h = &c->login.unanswered[i];
        if (h->at_us && h->node == l->node && l->taken_us >= h->at_us && l->taken_us - h->at_us < PATIENCE_MS * (int64_t)SIM_MS)
            return true;
    }
    return false;
}

bool logins_since(const struct sim_client *c)
{
    const struct world *w = c->w;
    bool has = c->state != CLIENT_HELLO || c->s.resuming;
    const struct login *own = has ? map_get(&w->logins, c->s.id.s) : NULL;
    uint64_t since = own && own->taken > c->login.began ? own->taken : c->login.began;
    for (unsigned i = 0; i < w->client_count; i++) {
        const struct client_login *l = &w->clients[i].login;
        if (&w->clients[i] != c && same_player(&w->clients[i], c) && l->said &&
            (l->said > c->login.began || !l->welcomed || l->welcomed > c->login.began))
            return true;
    }
    for (struct map_iter it = map_first(&w->logins); it.value; map_next(&it)) {
        const struct login *l = it.value;
        if (l == own || l->taken <= since || strcmp(l->player, c->player) != 0)
            continue;
        bool meant = l->known;
        for (unsigned i = 0; i < w->client_count && !meant; i++)
            meant = same_player(&w->clients[i], c) && given_up(&w->clients[i], l);
        if (meant)
            return true;
    }
    return false;
}

static unsigned left_of(const struct world *w, const struct sim_client *c)
{
    unsigned left = 0;
    for (unsigned i = 0; i < w->client_count; i++)
        left += same_player(&w->clients[i], c) && !w->clients[i].login.retired;
    return left;
}

void logins_replaced(struct sim_client *c)
{
    struct world *w = c->w;
    w->replaced++;
    if (!logins_since(c))
        world_fail(w, "G5: %s is told that it was replaced, but nobody has logged in as %s since", c->name, c->player);
    c->login.retired = w->healing && left_of(w, c) > 1;
    c->s.back_us = w->now_us + world_between(w, 500, 8000) * SIM_MS;
}

void logins_rush(struct sim_client *c)
{
    struct world *w = c->w;
    for (unsigned i = 0; i < w->client_count; i++) {
        struct sim_client *other = &w->clients[i];
        if (other != c && same_player(other, c) && other->state == CLIENT_OFF && !other->login.retired)
            client_connect(other, (unsigned)rng_below(&w->rng, w->proc_count));
    }
}

/* ---- after the faults ---- */

bool logins_proved(const struct world *w, char *why, size_t size)
{
    for (unsigned i = 0; i < w->player_count; i++) {
        unsigned left = left_of(w, &w->clients[i]);
        if (left != 1) {
            snprintf(why, size, "%u clients are %s", left, w->clients[i].player);
            return false;
        }
    }
    return true;
}

static bool one_agrees(const struct world *w, const struct sim_client *c, char *why, size_t size)
{
    struct wire_player_entry e;
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 65536);
    bool listed = entry_of(w, c->player, &e, &scratch), on = c->state != CLIENT_OFF;
    bool ok = on && listed && strcmp(e.session.s, c->s.id.s) == 0 && strcmp(e.gateway.s, w->procs[c->node].id) == 0;
    if (!ok)
        snprintf(why, size, "%s %s session %s at %s, the registry says %s at %s", c->name, on ? "has" : "had", c->s.id.s,
                 w->procs[c->node].id, listed ? e.session.s : "none", listed ? e.gateway.s : "none");
    buf_deinit(&scratch);
    return ok;
}

bool logins_agree(const struct world *w, char *why, size_t size)
{
    uint64_t sessions = 0, clients = 0;
    for (unsigned i = 0; i < w->client_count; i++) {
        const struct sim_client *c = &w->clients[i];
        clients += c->state != CLIENT_OFF;
        if (c->login.retired && c->state != CLIENT_OFF) {
            snprintf(why, size, "%s was replaced and is there again", c->name);
            return false;
        }
        if (!c->login.retired && !one_agrees(w, c, why, size))
            return false;
    }
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct node_stats stats = {0};
        if (w->procs[i].node)
            node_get_stats(w->procs[i].node, &stats);
        sessions += stats.sessions;
    }
    if (sessions != clients)
        snprintf(why, size, "the nodes have %llu sessions, %llu clients are there", (unsigned long long)sessions,
                 (unsigned long long)clients);
    return sessions == clients;
}
