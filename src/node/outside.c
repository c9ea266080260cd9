/*
 * What this node's own process asks of the cluster, as a backend would over the bus: node_ask().
 *
 * Decides: to which subject it goes, and when it is asked again: only a push to a player, which bears an id and is therefore
 * done once however often it is asked. A push to all is asked of each node by itself, so that its answer is all of theirs. Must
 * not know who asks, nor how it is told to him.
 */
#include "node/state.h"

#include <stdio.h>

enum { ASK_MS = 5000, TRY_MS = 2500, PUSH_WITHIN_MS = 9000, OUTSIDE_MAX = 4096 };

struct asking {
    uint64_t ticket, serial;
    enum node_ask_kind kind;
    struct mono until;
    unsigned open, failed, nodes;
    int64_t players;
    char subject[SUBJECT_SIZE];
    size_t len;
    char json[];
};

static uint64_t token_of(const struct asking *a)
{
    return a->serial | (uint64_t)TOKEN_OUTSIDE << TOKEN_SHIFT;
}

static void end(struct node *n, struct asking *a, int code, const char *json, size_t len)
{
    umap_del(&n->outside, a->serial);
    if (n->out.asked)
        n->out.asked(n->out.arg, a->ticket, code, json, len);
    alloc_put(n->alloc, a, sizeof(*a) + a->len);
}

static int put_body(struct node *n, enum node_ask_kind kind, const char *json, size_t len, struct err_detail *detail)
{
    struct wire_push_request push;
    struct wire_room_send send;
    char id[ULID_SIZE];
    buf_reset(&n->frame);
    buf_reset(&n->scratch);
    if (kind == NODE_ASK_SEND_ROOM) {
        int code = wire_room_send_from_json(&send, json, len, &n->frame, detail);
        return code ? code : wire_room_send_to_json(&send, &n->scratch);
    }
    int code = wire_push_request_from_json(&push, json, len, &n->frame, detail);
    if (code)
        return code;
    if (!push.id.len) {
        id_ulid(id, n->wall, &n->rng);
        push.id = wire_str(id);
    }
    return wire_push_request_to_json(&push, &n->scratch);
}

static int ask_all(struct node *n, struct asking *a)
{
    int rc = ROOM_E_UNAVAILABLE;
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value; map_next(&it)) {
        if (!view_server_usable(it.value))
            continue;
        a->nodes++;
        int one = bus_request(n->bus, token_of(a), subject_server(a->subject, it.key, "broadcast"), a->json, a->len, ASK_MS);
        a->open += one == 0;
        a->failed += one != 0;
        rc = one == 0 ? 0 : rc;
    }
    return rc;
}

static int ask(struct node *n, struct asking *a)
{
    if (a->kind == NODE_ASK_PUSH_ALL)
        return ask_all(n, a);
    a->open = 1;
    return bus_request(n->bus, token_of(a), a->subject, a->json, a->len, a->kind == NODE_ASK_PUSH_PLAYER ? TRY_MS : ASK_MS);
}

int node_ask(struct node *n, uint64_t ticket, enum node_ask_kind kind, const char *id, const char *json, size_t len,
             struct mono now, struct wall wall, struct err_detail *detail)
{
    n->now = now;
    n->wall = wall;
    node_catch_up(n);
    if (id && !id_valid(id))
        return err_set(detail, ROOM_E_INVALID, "an id is 1 to 64 of A-Z a-z 0-9 _ - (not 'all')");
    if (!n->bus_up || !n->listening)
        return err_set(detail, ROOM_E_UNAVAILABLE, "this node does not reach the others now: ask another one, or try again");
    if (n->outside.count >= OUTSIDE_MAX)
        return err_set(detail, ROOM_E_FULL, "too much is asked at once: try again in a second");
    int code = put_body(n, kind, json, len, detail);
    if (code)
        return code;
    struct asking *a = alloc_get(n->alloc, sizeof(*a) + n->scratch.len);
    if (!a)
        return ROOM_E_NO_MEMORY;
    a->ticket = ticket;
    a->serial = ++n->last_errand;
    a->kind = kind;
    a->until = mono_add_ms(now, PUSH_WITHIN_MS);
    a->len = n->scratch.len;
    memcpy(a->json, n->scratch.data, a->len);
    if (kind == NODE_ASK_PUSH_PLAYER)
        subject_player(a->subject, id, "push");
    else if (kind != NODE_ASK_PUSH_ALL)
        subject_room(a->subject, id, kind == NODE_ASK_PUSH_ROOM ? "push" : "send");
    code = umap_put(&n->outside, a->serial, a) ? ask(n, a) : ROOM_E_NO_MEMORY;
    if (code) {
        umap_del(&n->outside, a->serial);
        alloc_put(n->alloc, a, sizeof(*a) + a->len);
        return err_set(detail, code, "the bus does not take it: %s; try again", room_error_text(code));
    }
    return 0;
}

/* All nodes have answered, or not. */
static void end_all(struct node *n, struct asking *a)
{
    char text[96];
    struct wire_push_reply r = {.status = a->failed ? WIRE_PUSH_REPLY_STATUS_UNKNOWN : WIRE_PUSH_REPLY_STATUS_SENT,
                                .server = core_self(n->core)->id, .has_players = true, .players = a->players};
    snprintf(text, sizeof(text), "%u of %u nodes have not answered; repeat it with its id", a->failed, a->nodes);
    if (a->failed) {
        r.error = wire_str(room_error_name(ROOM_E_UNKNOWN_RESULT));
        r.message = wire_str(text);
    }
    buf_reset(&n->scratch);
    if (wire_push_reply_to_json(&r, &n->scratch))
        end(n, a, ROOM_E_NO_MEMORY, NULL, 0);
    else
        end(n, a, 0, (const char *)n->scratch.data, n->scratch.len);
}

void outside_done(struct node *n, const struct bus_event *ev)
{
    struct asking *a = umap_get(&n->outside, ev->token & TOKEN_MASK);
    struct wire_push_reply r;
    if (!a)
        return;
    bool answered = ev->result == BUS_OK && ev->data;
    a->open--;
    if (a->kind == NODE_ASK_PUSH_ALL) {
        bool good = answered && wire_push_reply_from_json(&r, (const char *)ev->data, ev->len, &n->frame, NULL) == 0 &&
                    r.status == WIRE_PUSH_REPLY_STATUS_SENT;
        a->players += good ? r.players : 0;
        a->failed += !good;
        if (!a->open)
            end_all(n, a);
        return;
    }
    if (answered) {
        end(n, a, 0, (const char *)ev->data, ev->len);
        return;
    }
    bool again = a->kind == NODE_ASK_PUSH_PLAYER && !mono_reached(n->now, a->until);
    if (!again || ask(n, a))
        end(n, a, ev->result == BUS_NO_RESPONDERS ? ROOM_E_NO_RESPONDERS : ROOM_E_UNKNOWN_RESULT, NULL, 0);
}

void outside_deinit(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->outside); it.value; umap_next(&it)) {
        struct asking *a = it.value;
        alloc_put(n->alloc, a, sizeof(*a) + a->len);
    }
    umap_deinit(&n->outside);
}

enum node_health node_get_health(const struct node *n)
{
    if (n->draining || n->stopping || n->stop_after)
        return NODE_DRAINING;
    if (!n->listening)
        return NODE_STARTING;
    return n->bus_up && core_may_serve(n->core) && !core_is_isolated(n->core) ? NODE_READY : NODE_DEGRADED;
}
