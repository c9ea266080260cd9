/*
 * The operator of the simulated cluster: what people ask of the nodes while the faults strike.
 *
 * Decides: from the seed, when a node is asked to move a room (to a named node or to any), to drain, to go on, to save; it asks
 * over `server.<id>.ctl`, as roomctl does, with what the listing says of the owner, and sometimes with something wrong. When
 * the faults are over it tells every node that it has had drained to go on, until that is answered. Counts what became of
 * it. Must not look into nodes to choose. Invariant: every seed has a share of it.
 */
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/mp_read.h"
#include "wire/subject.h"

enum { PATIENCE_S = 25, AGAIN_MS = 400 };

struct sim_order { /* without an answer yet */
    struct sim_order *next;
    uint64_t number, life;
    unsigned node;
    enum wire_ctl_request_op op;
};

struct undrain_arg {
    unsigned node;
    uint64_t life;
};

static struct sim_order *take(struct world *w, uint64_t number)
{
    struct sim_order **at = &w->orders;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    struct sim_order *o = *at;
    if (o)
        *at = o->next;
    return o;
}

/* A drain is answered, or will not be any more: what is asked from now on comes after it, and not only what was asked. */
static void drain_over(struct world *w, const struct sim_order *o)
{
    struct sim_proc *p = &w->procs[o->node];
    if (o->op == WIRE_CTL_REQUEST_OP_DRAIN && o->number == p->drain_asked)
        p->drain_over = w->numbers;
}

static void lose_patience(struct world *w, void *arg)
{
    const uint64_t *number = arg;
    struct sim_order *o = take(w, *number);
    if (o)
        drain_over(w, o);
    free(o);
}

static void ask(struct world *w, unsigned node, enum wire_ctl_request_op op, const char *room, const char *server)
{
    struct wire_ctl_request q = {.op = op};
    char subject[SUBJECT_SIZE];
    struct buf text;
    struct sim_proc *p = &w->procs[node];
    struct sim_order *o = world_alloc(sizeof(*o));
    uint64_t *number = world_alloc(sizeof(*number));
    if (room)
        id_set(&q.room, room);
    if (server)
        id_set(&q.server, server);
    *o = (struct sim_order){.next = w->orders, .number = ++w->numbers, .life = p->life, .node = node, .op = op};
    *number = o->number;
    w->orders = o;
    world_note(w, "operator asks %s: %s %s %s", p->id, wire_ctl_request_op_word(op), q.room.s, q.server.s);
    buf_init(&text, &alloc_libc, 65536);
    ASSERT(wire_ctl_request_to_json(&q, &text) == 0);
    sim_bus_ask(w, subject_server(subject, p->id, "ctl"), o->number, text.data, text.len);
    buf_deinit(&text);
    world_at(w, w->now_us + PATIENCE_S * (int64_t)SIM_S, lose_patience, number);
}

/* ---- answers ---- */

/* {"room": r, "server": s, "epoch": e} */
static void moved(struct world *w, struct wire_raw result)
{
    struct mp_read r;
    struct mp_token map, key, room, server, epoch;
    struct id room_id, server_id;
    mp_read_init(&r, result.data, result.len);
    bool ok = mp_next(&r, &map, NULL) == 0 && map.type == MP_MAP && map.count == 3 && mp_next(&r, &key, NULL) == 0 &&
              mp_next(&r, &room, NULL) == 0 && mp_next(&r, &key, NULL) == 0 && mp_next(&r, &server, NULL) == 0 &&
              mp_next(&r, &key, NULL) == 0 && mp_next(&r, &epoch, NULL) == 0;
    if (!ok || room.type != MP_STR || server.type != MP_STR || epoch.type != MP_INT ||
        !id_set_n(&room_id, (const char *)room.data, room.len) || !id_set_n(&server_id, (const char *)server.data, server.len))
        world_fail(w, "the answer to a migrate cannot be read");
    else
        invariants_moved(w, room_id.s, server_id.s, epoch.i);
}

void operator_answered(struct world *w, uint64_t number, const void *data, size_t len)
{
    struct sim_order *o = take(w, number);
    struct wire_ctl_reply reply = {0};
    struct err_detail detail = {{0}};
    struct buf scratch;
    if (!o)
        return;
    struct sim_proc *p = &w->procs[o->node];
    buf_init(&scratch, &alloc_libc, 1 << 20);
    if (data && wire_ctl_reply_from_json(&reply, data, len, &scratch, &detail))
        world_fail(w, "%s answers the operator with what is no answer: %s", p->id, detail.text);
    world_note(w, "%s to the operator: %s %s %.*s", p->id, wire_ctl_request_op_word(o->op),
               !data ? "nobody is there" : reply.ok ? "done" : "refused", (int)reply.error.len,
               reply.error.data ? reply.error.data : "");
    if (reply.ok && o->op == WIRE_CTL_REQUEST_OP_MIGRATE)
        moved(w, reply.result);
    drain_over(w, o);
    if (reply.ok && o->op == WIRE_CTL_REQUEST_OP_UNDRAIN && p->drain_life == o->life && o->number > p->drain_over)
        p->drain_life = 0;
    buf_deinit(&scratch);
    free(o);
}

/* ---- orders ---- */

/* As the listing has it: false: there is no room. */
static bool choose_room(struct world *w, struct wire_room_entry *out, char room[ID_SIZE], struct buf *scratch)
{
    const struct sim_bucket *b = sim_kv_find(w, "rooms");
    size_t listed = 0;
    const struct sim_kv_entry *chosen = NULL;
    for (struct map_iter it = map_first(&b->entries); it.value; map_next(&it)) {
        const struct sim_kv_entry *e = sim_kv_look(w, b, it.key);
        if (!e || rng_below(&w->rng, ++listed))
            continue;
        chosen = e;
        snprintf(room, ID_SIZE, "%s", it.key);
    }
    return chosen && wire_room_entry_from_json(out, (const char *)chosen->data, chosen->len, scratch, NULL) == 0;
}

static void move_room(struct world *w)
{
    struct wire_room_entry e;
    char room[ID_SIZE];
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 1 << 20);
    bool any = choose_room(w, &e, room, &scratch);
    const struct sim_proc *owner = any ? proc_by_id(w, e.owner.s) : NULL;
    unsigned other = (unsigned)rng_below(&w->rng, w->proc_count);
    unsigned asked = owner && !world_chance(w, 4) ? owner->index : (unsigned)rng_below(&w->rng, w->proc_count);
    bool named = world_chance(w, 60);
    if (owner && other == owner->index && !world_chance(w, 5))
        other = (other + 1) % w->proc_count;
    buf_deinit(&scratch);
    if (!any)
        return;
    w->moves.asked++;
    ask(w, asked, WIRE_CTL_REQUEST_OP_MIGRATE, room, named ? w->procs[other].id : NULL);
}

static void save_room(struct world *w)
{
    struct wire_room_entry e;
    char room[ID_SIZE];
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 1 << 20);
    const struct sim_proc *owner = choose_room(w, &e, room, &scratch) ? proc_by_id(w, e.owner.s) : NULL;
    buf_deinit(&scratch);
    if (owner)
        ask(w, owner->index, WIRE_CTL_REQUEST_OP_SAVE, room, NULL);
}

static void undrain(struct world *w, void *arg)
{
    const struct undrain_arg *a = arg;
    if (w->procs[a->node].drain_life == a->life)
        ask(w, a->node, WIRE_CTL_REQUEST_OP_UNDRAIN, NULL, NULL);
}

static void drain(struct world *w, unsigned node)
{
    struct sim_proc *p = &w->procs[node];
    if (!p->node)
        return;
    p->drain_life = p->life;
    ask(w, node, WIRE_CTL_REQUEST_OP_DRAIN, NULL, NULL);
    p->drain_asked = w->orders->number;
    p->drain_over = UINT64_MAX;
    if (world_chance(w, 15))
        return; /* it is forgotten, until all is over */
    struct undrain_arg *a = world_alloc(sizeof(*a));
    *a = (struct undrain_arg){node, p->life};
    world_at(w, w->now_us + world_between(w, 50, world_chance(w, 30) ? 800 : 9000) * SIM_MS, undrain, a);
}

static void next_order(struct world *w, void *arg)
{
    if (w->healing)
        return;
    uint64_t dice = rng_below(&w->rng, 100);
    if (dice < 72)
        move_room(w);
    else if (dice < 86)
        drain(w, (unsigned)rng_below(&w->rng, w->proc_count));
    else if (dice < 90)
        ask(w, (unsigned)rng_below(&w->rng, w->proc_count), WIRE_CTL_REQUEST_OP_UNDRAIN, NULL, NULL);
    else
        save_room(w);
    world_at(w, w->now_us + world_between(w, 50, 2 * w->order_gap_ms) * SIM_MS, next_order, NULL);
}

void operator_init(struct world *w)
{
    static const int gaps_ms[] = {600, 1500, 4000};
    w->order_gap_ms = gaps_ms[rng_below(&w->rng, sizeof(gaps_ms) / sizeof(gaps_ms[0]))];
    world_at(w, world_between(w, 3000, 8000) * SIM_MS, next_order, NULL);
}

static void undrain_until_done(struct world *w, void *arg)
{
    const unsigned *node = arg;
    struct sim_proc *p = &w->procs[*node];
    if (p->drain_life == 0 || p->drain_life != p->life || !p->node)
        return; /* a process that has started anew drains no more */
    ask(w, *node, WIRE_CTL_REQUEST_OP_UNDRAIN, NULL, NULL);
    unsigned *again = world_alloc(sizeof(*again));
    *again = *node;
    world_at(w, w->now_us + AGAIN_MS * SIM_MS, undrain_until_done, again);
}

void operator_heal(struct world *w)
{
    for (unsigned i = 0; i < w->proc_count; i++)
        undrain_until_done(w, &i);
}

void operator_deinit(struct world *w)
{
    for (struct sim_order *o = w->orders, *next; o; o = next) {
        next = o->next;
        free(o);
    }
}

void operator_look(struct world *w, struct sim_proc *p)
{
    struct core_drain d = core_drain_state(node_core(p->node));
    uint64_t rolled_back = core_moves(node_core(p->node)).rolled_back;
    w->moves.rolled_back += (unsigned)(rolled_back - p->rolled_back);
    p->rolled_back = rolled_back;
    w->moves.drains += d.on && !p->drains;
    if (!d.on || !p->drains)
        p->drains_rooms = d.on && d.left;
    p->drains = d.on;
    if (p->drains_rooms && !d.left && d.moved)
        w->moves.drained++;
    p->drains_rooms &= d.left > 0;
}
