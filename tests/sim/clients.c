/*
 * The players of the simulated cluster: what they do.
 *
 * Decides: from the seed, which node a player connects to, what it joins, sends and leaves, and that it does what the
 * protocol asks of a client (follow a redirect, repeat a create with its id, go elsewhere when a node is gone, take its session
 * up again). Must not look into nodes. Invariant: what a client says over one connection arrives in order, or not at all.
 */
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#include "wire/codec.h"
#include "wire/mp_write.h"

const struct client_type client_types[CLIENT_TYPES] = {
    {"duo", "duo=relay,max_players=2", "room-duo", false},
    {"kept", "kept=counter,max_players=4", "room-kept", false},
    {"trio", "trio=relay,max_players=3", "room-trio", false},
    {"saved", "saved=counter,max_players=4,durability=snapshot", "room-saved", false},
    {"quad", "quad=relay,max_players=4", "room-quad", false},
    {"forever", "forever=counter,max_players=6,auto_dispose=false", "room-forever", true},
    {"eight", "eight=relay,max_players=8", "room-eight", false},
    {"count", "count=counter,max_players=4,durability=none", "room-count", false},
    {"long", "long=counter,max_players=6,durability=snapshot,auto_dispose=false", "room-long", true},
};

void client_set(struct sim_client *c, enum client_state state)
{
    static const int patience_s[] = {0, 5, 0, 14, 0, 5};
    c->state = state;
    c->deadline_us = patience_s[state] ? c->w->now_us + patience_s[state] * (int64_t)SIM_S : 0;
}

/* ---- to the node ---- */

struct arrive_arg {
    unsigned index;
    uint64_t conn;
};

/* The oldest of that connection: another one may be held up by a frozen node. */
static struct client_item **next_item(struct sim_client *c, uint64_t conn)
{
    struct client_item **at = &c->first;
    while (*at && (*at)->conn != conn)
        at = &(*at)->next;
    return at;
}

static void arrive(struct world *w, void *arg)
{
    const struct arrive_arg *a = arg;
    struct sim_client *c = &w->clients[a->index];
    struct client_item **at = next_item(c, a->conn), *item = *at;
    struct sim_proc *p = &w->procs[item->node];
    bool there = p->life == item->life && p->node;
    if (there && p->frozen) {
        struct arrive_arg *again = world_alloc(sizeof(*again));
        *again = *a;
        world_at(w, p->frozen_until_us + 10, arrive, again);
        return;
    }
    *at = item->next;
    if (!*at)
        c->last = at;
    if (there) {
        world_note(w, "%s -> %s kind %d len %zu %016llx", c->name, p->id, (int)item->kind, item->len,
                   (unsigned long long)XXH3_64bits(item->data, item->len));
        struct mono now = proc_mono(p);
        struct wall wall = proc_wall(p);
        if (item->kind == ITEM_OPEN)
            logins_heard(c, item->node, item->conn);
        if (item->kind == ITEM_OPEN)
            node_opened(p->node, item->conn, "10.0.0.1", now, wall);
        else if (item->kind == ITEM_CLOSE)
            node_closed(p->node, item->conn, "closed by the client", now, wall);
        else
            node_frame(p->node, item->conn, NODE_MSGPACK, item->data, item->len, now, wall);
        proc_wake(p, w->now_us + 20);
        invariants_node(w, p);
    }
    free(item);
}

static void post_at(struct sim_client *c, int kind, const void *data, size_t len, int64_t at_us)
{
    struct client_item *item = world_alloc(sizeof(*item) + len);
    item->kind = kind;
    item->node = c->node;
    item->life = c->life;
    item->conn = c->conn;
    item->len = len;
    if (len)
        memcpy(item->data, data, len);
    *c->last = item;
    c->last = &item->next;
    struct arrive_arg *arg = world_alloc(sizeof(*arg));
    *arg = (struct arrive_arg){c->index, c->conn};
    world_at(c->w, at_us, arrive, arg);
}

static void post(struct sim_client *c, int kind, const void *data, size_t len)
{
    post_at(c, kind, data, len, c->w->now_us + world_between(c->w, 50, 1500));
}

void client_say(struct sim_client *c, int op, const void *message)
{
    struct buf out;
    buf_init(&out, &alloc_libc, 65536);
    if (codec_pack(codec_by_op(op), message, &out))
        world_fail(c->w, "%s cannot write a frame %d", c->name, op);
    else
        post(c, ITEM_FRAME, out.data, out.len);
    buf_deinit(&out);
}

void client_connect(struct sim_client *c, unsigned node)
{
    struct world *w = c->w;
    if (!w->procs[node].node)
        return;
    c->node = node;
    c->life = w->procs[node].life;
    c->conn = ++w->conns;
    client_set(c, CLIENT_HELLO);
    post(c, ITEM_OPEN, NULL, 0);
    struct wire_frame_hello hello = {.v = 1};
    id_set(&hello.player, c->player);
    if (c->can_redirect)
        hello.can.items[hello.can.count++] = wire_str("redirect");
    if (c->can_relay)
        hello.can.items[hello.can.count++] = wire_str("relay");
    client_session_hello(c, &hello);
    client_say(c, WIRE_OP_HELLO, &hello);
}

void client_disconnect(struct sim_client *c, bool word)
{
    if (c->state == CLIENT_OFF)
        return;
    if (word)
        post(c, ITEM_CLOSE, NULL, 0);
    else
        post_at(c, ITEM_CLOSE, NULL, 0, c->w->now_us + world_between(c->w, 1000, 6000) * SIM_MS);
    client_session_offline(c);
}

void client_join(struct sim_client *c, enum wire_frame_join_mode mode, const char *type, const char *room)
{
    struct wire_frame_join join = {.id = ++c->request, .mode = mode};
    id_set(&join.type, type);
    if (room)
        id_set(&join.room_id, room);
    if (c->create_id >= 0) {
        char text[32];
        snprintf(text, sizeof(text), "create-%d", c->create_id);
        id_set(&join.create_id, text);
    }
    if (c->ticket[0])
        join.ticket = wire_str(c->ticket);
    c->asked_proof = c->w->healing && mode == WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE && !room;
    client_set(c, CLIENT_JOINING);
    world_note(c->w, "%s asks %s for %s %s mode %d create id %d", c->name, c->w->procs[c->node].id, type,
               room ? room : "", (int)mode, c->create_id);
    client_say(c, WIRE_OP_JOIN, &join);
    c->s.asked = join;
    memcpy(c->s.asked_ticket, c->ticket, sizeof(c->ticket));
    if (c->ticket[0])
        c->s.asked.ticket = wire_str(c->s.asked_ticket);
    c->ticket[0] = 0;
}

void client_doubts(struct sim_client *c)
{
    if (c->counts)
        ledger_doubt(c->w, c->room_id.s, c->joined_epoch, c->open_count);
    c->open_count = 0;
}

/* ---- what a player does next ---- */

static void choose_join(struct sim_client *c)
{
    struct world *w = c->w;
    const struct client_type *type = &client_types[rng_below(&w->rng, CLIENT_TYPES)];
    if (!c->repeat)
        c->create_id = -1;
    if (w->healing && !c->proved) {
        c->create_id = -1;
        client_join(c, WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE, type->name, NULL);
    } else if (c->create_id >= 0 || world_chance(w, 15)) {
        if (c->create_id < 0)
            c->create_id = (int)rng_below(&w->rng, SIM_CREATE_IDS);
        c->repeat = false;
        client_join(c, WIRE_FRAME_JOIN_MODE_CREATE, client_types[c->create_id % CLIENT_TYPES].name, NULL);
    } else if (type->named_only || world_chance(w, 35)) {
        bool only_join = world_chance(w, 25);
        client_join(c, only_join ? WIRE_FRAME_JOIN_MODE_JOIN : WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE, type->name, type->room);
    } else if (world_chance(w, 15)) {
        client_join(c, WIRE_FRAME_JOIN_MODE_CREATE, type->name, NULL);
    } else {
        client_join(c, WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE, type->name, NULL);
    }
}

void client_input(struct sim_client *c, const struct client_input *in)
{
    uint8_t bytes[64];
    struct buf data = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = &alloc_libc};
    if (c->counts) {
        mp_write_map(&data, 1);
        mp_write_text(&data, "add");
        mp_write_int(&data, 1);
    } else {
        mp_write_array(&data, 2);
        mp_write_uint(&data, in->join);
        mp_write_int(&data, in->number);
    }
    struct wire_frame_send send = {.room = c->room, .n = in->n, .data = {bytes, (uint32_t)data.len}};
    client_say(c, WIRE_OP_SEND, &send);
}

static void send_some(struct sim_client *c)
{
    unsigned most = c->s.can_resume ? CLIENT_AGAIN_MAX : CLIENT_OPEN_MAX;
    for (int64_t count = world_between(c->w, 1, 4); count > 0 && c->open_count < most; count--) {
        struct client_input *in = &c->open[c->open_count++];
        *in = (struct client_input){.n = ++c->n, .join = c->join, .number = c->counts ? 0 : ++c->number};
        client_input(c, in);
    }
}

void client_leave(struct sim_client *c)
{
    struct wire_frame_leave frame = {.id = ++c->request, .room = c->room};
    client_doubts(c); /* what is answered yet is not looked at */
    client_set(c, CLIENT_LEAVING);
    client_say(c, WIRE_OP_LEAVE, &frame);
}

/* When it comes back: mostly at once, sometimes when its time is over. */
static void stay_away(struct sim_client *c)
{
    struct world *w = c->w;
    uint64_t dice = rng_below(&w->rng, 100);
    int64_t ms = dice < 60 ? world_between(w, 0, 300) : dice < 92 ? world_between(w, 300, 4000) : world_between(w, 4000, 12000);
    c->s.back_us = w->now_us + ms * SIM_MS;
}

/* For a while, or for good. */
static void go_away(struct sim_client *c)
{
    struct world *w = c->w;
    uint64_t dice = rng_below(&w->rng, 100);
    if (dice < 15) {
        struct wire_frame_bye bye = {.reason = wire_str("enough")};
        client_say(c, WIRE_OP_BYE, &bye);
    }
    client_disconnect(c, dice % 3 != 0);
    if (dice < 25)
        client_session_forget(c);
    stay_away(c);
}

/* Who has logged in as somebody who plays elsewhere is often not the only one who does at this moment. */
static void connect_somewhere(struct sim_client *c)
{
    struct world *w = c->w;
    bool token = c->s.token[0] != 0;
    unsigned node = (unsigned)rng_below(&w->rng, w->proc_count);
    if (c->redirected)
        node = c->target;
    else if (c->s.proving && node == c->s.node)
        node = (node + 1) % w->proc_count;
    else if (token && !c->s.proving && world_chance(w, 35))
        node = c->s.node;
    client_connect(c, node);
    if (!token && c->state != CLIENT_OFF && w->client_count > w->player_count && world_chance(w, 50))
        logins_rush(c);
}

/* After the faults each session is taken up at another node once, when nothing is in its way. */
static bool proves(struct sim_client *c)
{
    struct world *w = c->w;
    if (!w->healing || !c->proved || !c->s.token[0] || c->s.proved || !faults_calm_since(w, w->now_us - 2 * (int64_t)SIM_S))
        return false;
    client_disconnect(c, world_chance(w, 50));
    c->s.proving = true;
    c->s.back_us = w->now_us + world_between(w, 0, 1000) * SIM_MS;
    return true;
}

static void act_off(struct sim_client *c)
{
    struct world *w = c->w;
    if (c->login.retired || w->now_us < c->s.back_us)
        return;
    if (!w->procs[c->target].node)
        c->redirected = false; /* its seat died with the node */
    connect_somewhere(c);
}

static void wait(struct sim_client *c)
{
    struct world *w = c->w;
    if (c->s.token[0] && !w->healing && world_chance(w, 6)) {
        client_disconnect(c, world_chance(w, 50));
        return;
    }
    if (!c->deadline_us || w->now_us < c->deadline_us)
        return;
    world_note(w, "%s has waited too long in state %d", c->name, (int)c->state);
    bool over = c->state != CLIENT_HELLO; /* what it asked for it does not want any more */
    c->repeat = c->create_id >= 0;
    client_disconnect(c, true);
    if (over)
        client_session_forget(c);
}

static void act(struct sim_client *c)
{
    struct world *w = c->w;
    uint64_t dice = rng_below(&w->rng, 100);
    if (client_session_tick(c))
        return;
    switch (c->state) {
    case CLIENT_OFF:
        act_off(c);
        break;
    case CLIENT_READY:
        if (w->healing ? dice < 5 && !c->proved : dice < 6 && c->s.can_resume)
            client_disconnect(c, true); /* this node may take nobody: try another */
        else
            choose_join(c);
        break;
    case CLIENT_SEATED:
        if (w->healing ? !c->proved : dice < 12)
            client_leave(c);
        else if (!w->healing && dice < (c->s.can_resume ? 26 : 16))
            go_away(c);
        else if (!proves(c))
            send_some(c);
        break;
    default: /* waits for an answer, but not for ever */
        wait(c);
    }
}

static void think(struct world *w, void *arg)
{
    const unsigned *index = arg;
    struct sim_client *c = &w->clients[*index];
    if (!w->quiet || (c->state != CLIENT_SEATED && c->state != CLIENT_READY))
        act(c);
    else
        (void)client_session_tick(c);
    unsigned *again = world_alloc(sizeof(*again));
    *again = *index;
    world_at(w, w->now_us + world_between(w, 30, 900) * SIM_MS, think, again);
}

/* ---- life ---- */

struct sim_client *client_at(struct world *w, const char *player)
{
    unsigned i;
    return sscanf(player, "p%u", &i) == 1 && i < w->client_count ? &w->clients[i] : NULL;
}

void clients_frame(struct world *w, unsigned node, uint64_t conn, const void *data, size_t len)
{
    for (unsigned i = 0; i < w->client_count; i++)
        if (w->clients[i].conn == conn && w->clients[i].node == node && w->clients[i].state != CLIENT_OFF)
            client_told(&w->clients[i], data, len);
}

void clients_closed(struct world *w, unsigned node, uint64_t conn)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        struct sim_client *c = &w->clients[i];
        if (c->node != node || c->state == CLIENT_OFF || (conn && c->conn != conn))
            continue;
        world_note(w, "%s lost its connection", c->name);
        client_session_offline(c);
    }
}

void clients_init(struct world *w)
{
    w->player_count = 4 + (unsigned)rng_below(&w->rng, SIM_CLIENTS_MAX - SIM_RIVALS_MAX - 3);
    w->client_count = w->player_count + (unsigned)rng_below(&w->rng, SIM_RIVALS_MAX + 1);
    w->clients = world_alloc(w->client_count * sizeof(*w->clients));
    for (unsigned i = 0; i < w->client_count; i++) {
        struct sim_client *c = &w->clients[i];
        c->w = w;
        c->index = i;
        c->last = &c->first;
        c->create_id = -1;
        map_init(&c->epochs, &alloc_libc);
        /* Rivals of two players only, so that there are often several of one. */
        unsigned player = i < w->player_count ? i : (unsigned)rng_below(&w->rng, 2);
        snprintf(c->player, sizeof(c->player), "p%u", player);
        snprintf(c->name, sizeof(c->name), i < w->player_count ? "p%u" : "p%u+%u", player, i);
        c->s.can_resume = world_chance(w, 70);
        c->s.was = CLIENT_READY;
        c->can_redirect = world_chance(w, 60);
        c->can_relay = !c->can_redirect || world_chance(w, 60) || w->seed % 8 == 5; /* proc.c: no public addresses */
        unsigned *arg = world_alloc(sizeof(*arg));
        *arg = i;
        world_at(w, world_between(w, 500, 4000) * SIM_MS, think, arg);
    }
}

void clients_deinit(struct world *w)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        map_deinit(&w->clients[i].epochs);
        for (struct client_item *item = w->clients[i].first, *next; item; item = next) {
            next = item->next;
            free(item);
        }
    }
    free(w->clients);
}

bool clients_proved(const struct world *w, char *why, size_t size)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        const struct sim_client *c = &w->clients[i];
        if (c->login.retired || (c->proved && (c->s.proved || !c->s.can_resume)))
            continue;
        snprintf(why, size, "%s cannot get %s, state %d", c->name, c->proved ? "its session at another node" : "a seat",
                 (int)c->state);
        return false;
    }
    return logins_proved(w, why, size);
}

static const struct room *room_with(const struct world *w, const char *room, const char *player)
{
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct node *n = w->procs[i].node;
        const struct room *r = n ? host_find(node_host(n), room) : NULL;
        if (r && host_room_who(r, player))
            return r;
    }
    return NULL;
}

static bool sits_in(const struct world *w, const char *player, const char *room)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        const struct sim_client *c = &w->clients[i];
        if (c->state == CLIENT_SEATED && strcmp(c->player, player) == 0 && strcmp(c->room_id.s, room) == 0)
            return true;
    }
    return false;
}

bool clients_agree(const struct world *w, char *why, size_t size)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        const struct sim_client *c = &w->clients[i];
        if (c->state == CLIENT_SEATED && settle_room_waits(w, c->room_id.s))
            continue; /* its player hears of it when it runs again */
        if (c->state == CLIENT_SEATED && !room_with(w, c->room_id.s, c->player)) {
            snprintf(why, size, "%s believes it sits in room %s, but has no seat", c->name, c->room_id.s);
            return false;
        }
        if (c->state == CLIENT_SEATED && (c->open_count || c->paused || c->s.gap || c->s.unsure)) {
            snprintf(why, size, "%s in room %s %s, and has %u inputs without an answer%s", c->name, c->room_id.s,
                     c->paused ? "is paused" : "plays", c->open_count, c->s.gap || c->s.unsure ? ", waits for a resync" : "");
            return false;
        }
    }
    for (unsigned i = 0; i < w->proc_count; i++) {
        struct host *h = w->procs[i].node ? node_host(w->procs[i].node) : NULL;
        for (const struct room *r = h ? host_room_next(h, NULL) : NULL; r; r = host_room_next(h, r)) {
            const void *cursor = NULL;
            struct host_member m;
            while (host_room_member(r, &cursor, &m)) {
                if (sits_in(w, m.player, host_room_id(r)))
                    continue;
                snprintf(why, size, "room %s on %s has a %s seat for %s, who is not there", host_room_id(r), w->procs[i].id,
                         m.who ? "taken" : "held", m.player);
                return false;
            }
        }
    }
    return true;
}
