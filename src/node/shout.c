/*
 * Pushes to all in a room (room.<id>.push, at its owner) and to all on a node (server.all.broadcast, server.<id>.broadcast).
 *
 * Decides: that they go to whoever is there, seated or with a session, and are kept for nobody; that one which is repeated with
 * its id is not done again while it is among the last ones, and gets the answer it had. The room itself does not hear of it.
 * Weak point: what is remembered of ids dies with the node, and does not move with a room.
 */
#include <xxhash.h>

#include "node/state.h"

enum { SHOUTS = 256 };

struct shout {
    uint64_t key; /* 0: free */
    unsigned players;
};

/* 0: it has no id. */
static uint64_t key_of(const char *where, const struct wire_push_request *m)
{
    return m->id.len ? XXH3_64bits_withSeed(m->id.data, m->id.len, XXH3_64bits(where, strlen(where))) : 0;
}

static const struct shout *find(const struct node *n, uint64_t key)
{
    for (unsigned i = 0; n->shouts && key && i < SHOUTS; i++)
        if (n->shouts[i].key == key)
            return &n->shouts[i];
    return NULL;
}

static void keep(struct node *n, uint64_t key, unsigned players)
{
    if (!n->shouts)
        n->shouts = alloc_get(n->alloc, SHOUTS * sizeof(*n->shouts));
    if (n->shouts && key)
        n->shouts[n->next_shout++ % SHOUTS] = (struct shout){key, players};
}

static void answer(struct node *n, const char *to, unsigned players)
{
    struct wire_push_reply r = {.status = WIRE_PUSH_REPLY_STATUS_SENT, .has_players = true, .players = players};
    push_answer(n, to, &r);
}

/* False: it was refused. */
static bool read(struct node *n, const struct bus_event *ev, struct wire_push_request *m)
{
    struct err_detail detail = {{0}};
    buf_reset(&n->frame);
    int code = wire_push_request_from_json(m, (const char *)ev->data, ev->len, &n->frame, &detail);
    if (!code && m->data.len > ROOM_DATA_MAX)
        code = err_set(&detail, ROOM_E_TOO_BIG, "a push may have 768 KiB at most");
    if (code)
        push_refuse(n, ev->reply, code, detail.text);
    return code == 0;
}

void shout_room(struct node *n, const char *id, const struct bus_event *ev)
{
    struct wire_push_request m;
    if (!read(n, ev, &m))
        return;
    const struct room *room = host_find(n->host, id);
    uint64_t key = key_of(id, &m);
    const struct shout *before = find(n, key);
    if (!before && (!room || !core_may_serve(n->core))) {
        push_refuse(n, ev->reply, ROOM_E_UNAVAILABLE, "the room is between two owners: ask again");
        return;
    }
    unsigned players = before ? before->players : seat_push(n, room, m.data.data, m.data.len);
    if (!before)
        keep(n, key, players);
    answer(n, ev->reply, players);
}

void shout_all(struct node *n, const struct bus_event *ev)
{
    struct wire_push_request m;
    if (!read(n, ev, &m))
        return;
    uint64_t key = key_of("*", &m); /* no room is called that */
    const struct shout *before = find(n, key);
    unsigned players = before ? before->players : 0;
    struct speech said = {.data = m.data, .push = true};
    for (struct umap_iter it = umap_first(&n->sessions); it.value && !before; umap_next(&it)) {
        (void)session_push(n, it.value, &said);
        players++;
    }
    session_said(n, &said);
    if (!before)
        keep(n, key, players);
    answer(n, ev->reply, players);
}

void shout_deinit(struct node *n)
{
    alloc_put(n->alloc, n->shouts, n->shouts ? SHOUTS * sizeof(*n->shouts) : 0);
}
