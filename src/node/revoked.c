/*
 * The list of revoked tokens and players: the bucket `revoked`, followed by every node that asks for tokens.
 *
 * Decides: what an entry says, and whether the list is known well enough to let anybody in. The key is a token's `jti`, or
 * `player.` and a player's id. It errs on the side of those who revoke: a value that cannot be read revokes for ever, and
 * while there are more entries than this node holds, or it has not read the list yet, nobody new comes in.
 * Without NATS the list stays as it was heard last. Weak point: `until` was reckoned on another machine's clock.
 */
#include "node/state.h"

#include <stdio.h>
#include <string.h>

enum { REVOKED_MAX = 100000 };

struct revoked {
    struct wall until; /* 0: for ever */
    uint64_t listing;  /* the last one that it was in */
};

static void forget(struct node *n, const char *key)
{
    struct revoked *r = map_del(&n->revoked.entries, key);
    alloc_put(n->alloc, r, sizeof(*r));
}

static struct revoked *hold(struct node *n, const char *key)
{
    struct revoked *r = map_get(&n->revoked.entries, key);
    if (r || n->revoked.entries.count >= REVOKED_MAX)
        return r;
    r = alloc_get(n->alloc, sizeof(*r));
    if (r && !map_put(&n->revoked.entries, key, r)) {
        alloc_put(n->alloc, r, sizeof(*r));
        r = NULL;
    }
    return r;
}

static void entry(struct node *n, const struct bus_event *ev)
{
    struct wire_revoked_entry e = {0};
    struct wall until = {0};
    if (!ev->data) {
        forget(n, ev->key);
        return;
    }
    struct revoked *r = hold(n, ev->key);
    if (!r) {
        n->revoked.missed = n->revoked.missing = true;
        if (n->config.log)
            LOG_ERR("too many revoked tokens, or no memory: nobody new comes in", "held=%zu limit=%d", n->revoked.entries.count,
                    REVOKED_MAX);
        return;
    }
    if (wire_revoked_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL) ||
        !time_from_rfc3339(e.until.data, e.until.len, &until))
        until.ms = 0;
    r->until = until;
    r->listing = n->revoked.listing;
    n->revoked.changed = true;
}

static void kept(struct node *n, const char *key)
{
    struct revoked *r = map_get(&n->revoked.entries, key);
    if (r)
        r->listing = n->revoked.listing;
    else
        n->revoked.missing = true; /* there was no room for it */
}

/* What the listing did not show is gone. */
static void listed(struct node *n)
{
    for (struct map_iter it = map_first(&n->revoked.entries); it.value; map_next(&it)) {
        const struct revoked *r = it.value;
        if (r->listing != n->revoked.listing)
            forget(n, it.key);
    }
    n->revoked.missed = n->revoked.missing;
    n->revoked.known = true;
    if (n->revoked.announce) {
        n->revoked.announce = false;
        n->out.ready(n->out.arg);
    }
}

void revoked_event(struct node *n, const struct bus_event *ev)
{
    switch (ev->kind) {
    case BUS_EV_SYNC:
        n->revoked.listing++;
        n->revoked.missing = false;
        return;
    case BUS_EV_ENTRY:
        entry(n, ev);
        return;
    case BUS_EV_KEPT:
        kept(n, ev->key);
        return;
    default:
        listed(n);
        return;
    }
}

static bool in_force(const struct node *n, const char *key)
{
    const struct revoked *r = map_get(&n->revoked.entries, key);
    return r && (!r->until.ms || n->wall.ms < r->until.ms);
}

bool revoked_has(const struct node *n, const struct id *player, const struct id *jti)
{
    char key[ID_SIZE + 8];
    if (!n->revoked.entries.count)
        return false;
    snprintf(key, sizeof(key), "player.%s", player->s);
    return (jti->s[0] && in_force(n, jti->s)) || in_force(n, key);
}

bool revoked_ready(struct node *n)
{
    n->revoked.announce = n->config.login && !n->revoked.known;
    return !n->revoked.announce;
}

void revoked_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->revoked.entries); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct revoked));
    map_deinit(&n->revoked.entries);
}
