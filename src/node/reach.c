/*
 * What a room here tells a player who is connected somewhere.
 *
 * Decides: where the player is, by the entry in the registry, and what the room is told came of it: delivered means that the
 * message is in the sequence of a session whose player is connected. Must not keep anything for who is away.
 * Weak point: a message is handed to the gateway once; if its answer is lost, nobody knows.
 */
#include "node/state.h"

enum { REACHES_MAX = 1024, LOOK_MS = 1000, PUSH_MS = 2000 };

struct reach { /* under way */
    struct id room, player;
    uint64_t epoch, request;
    bool pushed; /* its gateway has been asked */
    size_t len;
    uint8_t data[];
};

static uint64_t token_of(uint64_t serial)
{
    return serial | (uint64_t)TOKEN_REACH << TOKEN_SHIFT;
}

static void finish(struct node *n, uint64_t serial, int code)
{
    struct reach *r = umap_del(&n->reaches, serial);
    struct room_event event = {.kind = ROOM_EVENT_PLAYER, .from = r->player.s, .request = r->request, .code = code};
    talk_event(n, r->room.s, r->epoch, &event);
    alloc_put(n->alloc, r, sizeof(*r) + r->len);
}

int reach_player(struct node *n, const char *room, uint64_t epoch, uint64_t request, const char *player, const void *data,
                 size_t len)
{
    struct reach *r = n->reaches.count < REACHES_MAX ? alloc_get(n->alloc, sizeof(*r) + len) : NULL;
    uint64_t serial = ++n->last_errand;
    if (!r)
        return ROOM_E_FULL;
    id_set(&r->room, room);
    id_set(&r->player, player);
    r->epoch = epoch;
    r->request = request;
    r->len = len;
    memcpy(r->data, data, len);
    int rc = umap_put(&n->reaches, serial, r) ? 0 : ROOM_E_NO_MEMORY;
    if (!rc)
        rc = bus_kv_get(n->bus, token_of(serial), "players", player, LOOK_MS);
    if (rc) {
        umap_del(&n->reaches, serial);
        alloc_put(n->alloc, r, sizeof(*r) + len);
    }
    return rc;
}

/* NOT_FOUND: the session is not here, or nobody is connected. */
static int deliver(struct node *n, const struct id *session, const struct id *player, struct wire_raw data)
{
    struct session *s = map_get(&n->by_session, session->s);
    struct speech m = {.data = data, .push = true};
    if (!s || !s->conn || strcmp(s->player.s, player->s) != 0)
        return ROOM_E_NOT_FOUND;
    (void)session_push(n, s, &m);
    session_said(n, &m);
    return 0;
}

static void looked(struct node *n, uint64_t serial, struct reach *r, const struct bus_event *ev)
{
    struct wire_player_entry e;
    char subject[SUBJECT_SIZE];
    if (ev->result != BUS_OK && ev->result != BUS_NOT_FOUND) {
        finish(n, serial, ROOM_E_UNAVAILABLE);
        return;
    }
    if (ev->result == BUS_NOT_FOUND || wire_player_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL)) {
        finish(n, serial, ROOM_E_NOT_FOUND);
        return;
    }
    struct wire_rpc_reach m = {.session = e.session, .player = r->player, .data = {r->data, (uint32_t)r->len}};
    if (strcmp(e.gateway.s, core_self(n->core)->id.s) == 0) {
        finish(n, serial, deliver(n, &m.session, &m.player, m.data));
        return;
    }
    r->pushed = true;
    buf_reset(&n->scratch);
    int rc = wire_rpc_reach_pack(&m, &n->scratch);
    if (!rc)
        rc = bus_request(n->bus, token_of(serial), subject_server(subject, e.gateway.s, "rpc"), n->scratch.data, n->scratch.len,
                         PUSH_MS);
    if (rc)
        finish(n, serial, ROOM_E_UNAVAILABLE);
}

void reach_done(struct node *n, const struct bus_event *ev)
{
    uint64_t serial = ev->token & TOKEN_MASK;
    struct reach *r = umap_get(&n->reaches, serial);
    struct wire_rpc_session m;
    if (!r)
        return;
    if (!r->pushed)
        looked(n, serial, r, ev);
    else if (ev->result == BUS_NO_RESPONDERS)
        finish(n, serial, ROOM_E_NOT_FOUND);
    else if (ev->result != BUS_OK || wire_rpc_session_unpack(&m, ev->data, ev->len, NULL))
        finish(n, serial, ROOM_E_UNKNOWN_RESULT);
    else
        finish(n, serial, m.code == 0 ? 0 : ROOM_E_NOT_FOUND);
}

void reach_in(struct node *n, const struct bus_event *ev)
{
    struct wire_rpc_reach m;
    struct wire_rpc_session answer = {.code = ROOM_E_BAD_FRAME};
    if (wire_rpc_reach_unpack(&m, ev->data, ev->len, NULL) == 0)
        answer.code = deliver(n, &m.session, &m.player, m.data);
    buf_reset(&n->scratch);
    if (wire_rpc_session_pack(&answer, &n->scratch) == 0)
        (void)bus_publish(n->bus, ev->reply, NULL, n->scratch.data, n->scratch.len);
}

void reach_init(struct node *n)
{
    umap_init(&n->reaches, n->alloc);
}

void reach_deinit(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->reaches); it.value; umap_next(&it)) {
        struct reach *r = it.value;
        alloc_put(n->alloc, r, sizeof(*r) + r->len);
    }
    umap_deinit(&n->reaches);
}
