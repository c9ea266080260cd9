/*
 * Operations under way: a token for each effect that will be answered, and what to do with the answer.
 *
 * Decides: nothing. A token holds the slot's generation, so that an answer that comes after its operation was given up
 * finds nothing. Slots are reused through a free list; the table is bounded by CORE_OPS_MAX.
 */
#include "core/state.h"

#include <string.h>

/* The top six bits of a token are free for the caller. */
enum { GENERATION_MASK = 0x03ffffff };

uint64_t op_token(const struct core *c, const struct op *op)
{
    return ((uint64_t)op->generation << 32) | (uint64_t)(op - c->ops + 1);
}

uint64_t op_start(struct core *c, enum op_kind kind, void *owner, struct op **out)
{
    if (!c->ops_free) {
        size_t cap = c->ops_cap ? c->ops_cap * 2 : 64;
        if (cap > CORE_OPS_MAX)
            return 0;
        struct op *ops = alloc_resize(c->alloc, c->ops, c->ops_cap * sizeof(*ops), cap * sizeof(*ops));
        if (!ops)
            return 0;
        memset(ops + c->ops_cap, 0, (cap - c->ops_cap) * sizeof(*ops));
        for (size_t i = cap; i > c->ops_cap; i--) {
            ops[i - 1].next_free = c->ops_free;
            c->ops_free = (uint32_t)i;
        }
        c->ops = ops;
        c->ops_cap = cap;
    }
    struct op *op = &c->ops[c->ops_free - 1];
    c->ops_free = op->next_free;
    *op = (struct op){.kind = kind, .generation = (op->generation + 1) & GENERATION_MASK, .owner = owner, .sent = c->now};
    *out = op;
    return op_token(c, op);
}

struct op *op_find(struct core *c, uint64_t token)
{
    uint32_t index = (uint32_t)token;
    if (index == 0 || index > c->ops_cap)
        return NULL;
    struct op *op = &c->ops[index - 1];
    return op->kind != OP_FREE && op->generation == token >> 32 ? op : NULL;
}

struct op op_end(struct core *c, uint64_t token)
{
    struct op *op = op_find(c, token);
    ASSERT(op);
    struct op copy = *op;
    op->kind = OP_FREE;
    op->next_free = c->ops_free;
    c->ops_free = (uint32_t)token;
    return copy;
}

/* The effect and its operation together, or neither. */
static struct core_fx *begin(struct core *c, enum op_kind kind, void *owner, enum core_fx_kind fx_kind, struct op **op)
{
    uint64_t token = op_start(c, kind, owner, op);
    if (!token)
        return NULL;
    struct core_fx *fx = core_fx(c, fx_kind);
    if (!fx) {
        op_end(c, token);
        return NULL;
    }
    fx->token = token;
    fx->timeout_ms = c->config.kv_ms;
    return fx;
}

struct op *op_ping(struct core *c, enum op_kind kind, void *owner, const char *server, int timeout_ms)
{
    struct op *op;
    struct core_fx *fx = begin(c, kind, owner, CORE_FX_PING, &op);
    if (!fx)
        return NULL;
    fx->timeout_ms = timeout_ms;
    id_set(&fx->server, server);
    op->server = fx->server;
    return op;
}

struct op *op_call(struct core *c, enum op_kind kind, void *owner, const char *server, const struct core_call *call,
                   int timeout_ms)
{
    struct op *op;
    struct core_fx *fx = begin(c, kind, owner, CORE_FX_CALL, &op);
    if (!fx)
        return NULL;
    fx->timeout_ms = timeout_ms;
    fx->call = *call;
    id_set(&fx->server, server);
    op->server = fx->server;
    op->room = call->room;
    op->step = (int)call->kind;
    return op;
}

static struct core_fx *registry(struct core *c, enum op_kind kind, void *owner, int step, enum core_fx_kind fx_kind,
                                const char *server, const char *room)
{
    struct op *op;
    struct core_fx *fx = begin(c, kind, owner, fx_kind, &op);
    if (!fx)
        return NULL;
    op->step = step;
    if (server)
        id_set(&fx->server, server);
    if (room)
        id_set(&fx->room, room);
    op->server = fx->server;
    op->room = fx->room;
    return fx;
}

bool op_get(struct core *c, enum op_kind kind, void *owner, int step, const char *server, const char *room)
{
    return registry(c, kind, owner, step, room ? CORE_FX_GET_ROOM : CORE_FX_GET_SERVER, server, room) != NULL;
}

bool op_put_server(struct core *c, enum op_kind kind, void *owner, int step, const struct server_info *info,
                   uint64_t expected)
{
    struct core_fx *fx = registry(c, kind, owner, step, CORE_FX_PUT_SERVER, info->id.s, NULL);
    if (!fx)
        return false;
    fx->expected = expected;
    fx->server_entry = *info;
    return true;
}

bool op_put_room(struct core *c, enum op_kind kind, void *owner, int step, const struct room_info *info,
                 uint64_t expected)
{
    struct core_fx *fx = registry(c, kind, owner, step, CORE_FX_PUT_ROOM, NULL, info->id.s);
    if (!fx)
        return false;
    fx->expected = expected;
    fx->room_entry = *info;
    return true;
}

bool op_del(struct core *c, enum op_kind kind, void *owner, int step, const char *server, const char *room,
            uint64_t expected)
{
    struct core_fx *fx = registry(c, kind, owner, step, room ? CORE_FX_DEL_ROOM : CORE_FX_DEL_SERVER, server, room);
    if (!fx)
        return false;
    fx->expected = expected;
    return true;
}
