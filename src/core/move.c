/*
 * Rooms that move to another node, as seen from the old owner.
 *
 * Decides: who is asked to take the room, when it stands still, and whether it has moved. A move is a release to somebody:
 * the target agrees, the room host saves the room and holds it still, and then one compare-and-set of its entry names the
 * target at the next epoch. Before that write any failure rolls back and the room goes on at its old epoch; after it only
 * the target serves. While the write's result is unknown the room stands still, for as long as the registry cannot say
 * (that is the price). Must not know how a room is saved or brought back.
 * Invariant: once the commit was sent the room goes on here only after a write of ours was accepted at a revision read
 * since: with that one in the registry the commit can never be applied any more.
 */
#include "core/state.h"

#include <string.h>

const char *move_reason(const char *word)
{
    return word && strcmp(word, "drain") == 0 ? "drain" : "migration";
}

/* Where the room is now is what the answer says. */
static void reply(struct core *c, struct owned *o, int code, const struct room_info *info)
{
    struct moving *m = o->move;
    struct core_fx *fx = m->req ? core_fx(c, CORE_FX_CALL_REPLY) : NULL;
    if (fx) {
        fx->req = m->req;
        fx->answer = (struct core_answer){.code = code, .room = o->info.id, .type = o->info.type, .server = info->owner,
                                          .epoch = info->epoch};
    }
    m->req = 0;
}

void move_end(struct core *c, struct owned *o, int code)
{
    struct moving *m = o->move;
    if (!m)
        return;
    reply(c, o, code, code ? &o->info : &m->entry);
    *(m->prev ? &m->prev->next : &c->moves_head) = m->next;
    *(m->next ? &m->next->prev : &c->moves_tail) = m->prev;
    c->moves--;
    if (m->drain)
        drain_ended(c, o, code);
    alloc_put(c->alloc, m, sizeof(*m));
    o->move = NULL;
}

static int blocked(const struct core *c, const struct owned *o)
{
    const struct core_config *f = &c->config;
    bool savable = o->info.durability || (f->type_movable && f->type_movable(f->type_arg, o->info.type.s));
    return o->move                                                        ? ROOM_E_ALREADY
           : !self_serves(c) || o->state != OWNED_RUNNING || !o->revision ? ROOM_E_UNAVAILABLE
           : !savable                                                     ? ROOM_E_UNSUPPORTED
           : c->moves >= CORE_MOVES_MAX                                   ? ROOM_E_FULL
                                                                          : ROOM_E_OK;
}

/* The registry does not say that it is gone; it may be news to us. */
static bool may_live(const struct core *c, const struct room_info *target)
{
    const struct view_server *v = view_server(&c->view, target->owner.s);
    int boots = v ? strcmp(v->info.boot, target->boot) : -1;
    return boots < 0 || (boots == 0 && v->info.status != SERVER_DOWN);
}

static int ask(struct core *c, struct owned *o)
{
    struct moving *m = o->move;
    const struct view_server *v = m->fixed ? view_server(&c->view, m->entry.owner.s) : NULL;
    int code = !m->fixed                                     ? core_place(c, m->avoid, m->avoids, &m->entry.owner)
               : !v || v->info.status == SERVER_DOWN         ? ROOM_E_NO_RESPONDERS
               : strcmp(v->info.id.s, c->self.info.id.s) == 0 ? ROOM_E_INVALID
                                                              : ROOM_E_OK;
    if (code)
        return m->code ? m->code : code; /* who has refused says more than that nobody else is left */
    struct core_call call = {.kind = CORE_CALL_ADOPT, .room = o->info.id, .type = o->info.type,
                             .epoch = o->info.epoch + 1, .server = c->self.info.id, .reason = m->reason};
    struct op *op = op_call(c, OP_MOVE, NULL, m->entry.owner.s, &call, c->config.call_ms);
    if (op)
        op->req = m->number;
    return op ? ROOM_E_OK : ROOM_E_FULL;
}

int move_begin(struct core *c, struct owned *o, const char *server, const char *reason, uint64_t req, bool drain)
{
    int code = blocked(c, o);
    struct moving *m = code ? NULL : alloc_get(c->alloc, sizeof(*m));
    if (!m)
        return code ? code : ROOM_E_NO_MEMORY;
    *m = (struct moving){.room = o, .number = ++c->last_move, .reason = move_reason(reason), .drain = drain,
                         .deadline = mono_add_ms(c->now, c->config.migration_timeout_ms), .prev = c->moves_tail,
                         .fixed = server && *server};
    if (m->fixed)
        id_set(&m->entry.owner, server);
    m->avoid[m->avoids++] = c->self.info.id;
    o->move = m;
    code = ask(c, o);
    if (code) {
        alloc_put(c->alloc, m, sizeof(*m));
        o->move = NULL;
        return code;
    }
    m->req = req;
    *(c->moves_tail ? &c->moves_tail->next : &c->moves_head) = m;
    c->moves_tail = m;
    c->moves++;
    return ROOM_E_OK;
}

void move_asked(struct core *c, const struct core_event *ev)
{
    struct owned *o = map_get(&c->owned, ev->room->id.s);
    int code = o ? move_begin(c, o, ev->server ? ev->server->id.s : NULL, ev->reason, ev->req, false) : ROOM_E_NOT_FOUND;
    struct core_fx *fx = code ? core_fx(c, CORE_FX_CALL_REPLY) : NULL;
    if (!fx)
        return;
    fx->req = ev->req;
    fx->answer = (struct core_answer){.code = code, .room = ev->room->id};
    if (o) {
        fx->answer.server = c->self.info.id;
        fx->answer.type = o->info.type;
        fx->answer.epoch = o->info.epoch;
    }
}

/* It does not move, and it is certain that it has not: it goes on, or ends as it would have otherwise. */
static void keep(struct core *c, struct owned *o, int code)
{
    struct moving *m = o->move;
    if (m->ended) {
        owner_close(c, o, o->reason);
        return;
    }
    if (c->self.state != SELF_UP) {
        m->sent = false;
        release_room(c, o, "server_stopping");
        return;
    }
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_KEEP);
    m->keep = !fx;
    m->code = code;
    if (!fx) {
        o->state = OWNED_MOVING; /* nothing of it is written meanwhile */
        return;
    }
    fx->room = o->info.id;
    fx->reason = m->reason;
    o->state = OWNED_RUNNING;
    c->moves_kept++;
    move_end(c, o, code);
    create_reply(c, o, ROOM_E_OK, NULL);
}

void move_keep(struct core *c, struct owned *o)
{
    o->move->sent = false;
    keep(c, o, o->move->code);
}

/* The target agrees: from here on the room's players wait. */
static void freeze(struct core *c, struct owned *o)
{
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_RELEASE);
    if (!fx) {
        move_end(c, o, ROOM_E_NO_MEMORY);
        return;
    }
    fx->room = o->info.id;
    fx->reason = o->move->reason;
    fx->token = o->move->number;
    o->state = OWNED_MOVING;
}

void move_answered(struct core *c, const struct op *op, const struct core_answer *answer)
{
    struct owned *o = map_get(&c->owned, op->room.s);
    struct moving *m = o ? o->move : NULL;
    if (!m || m->number != op->req || o->state != OWNED_RUNNING)
        return;
    if (answer->code == ROOM_E_OK && answer->boot[0]) {
        memcpy(m->entry.boot, answer->boot, sizeof(m->entry.boot));
        freeze(c, o);
        return;
    }
    m->code = answer->code ? answer->code : ROOM_E_UNSUPPORTED; /* a node that does not know of moves */
    int code = m->code;
    if (!m->fixed && m->avoids <= REFUSALS_MAX) {
        m->avoid[m->avoids++] = m->entry.owner;
        code = ask(c, o);
    }
    if (code)
        move_end(c, o, code);
}

void move_released(struct core *c, struct owned *o, int code, uint64_t version)
{
    if (o->move->keep)
        return;
    if (code || !may_live(c, &o->move->entry)) {
        keep(c, o, code ? code : ROOM_E_NO_RESPONDERS);
        return;
    }
    o->move->saved = version;
    o->state = OWNED_COMMITTING;
    owner_soon(c, o);
}

/* That it runs there is the first of its tries: it has run well enough here to be saved. */
bool move_write(struct core *c, struct owned *o)
{
    struct moving *m = o->move;
    struct room_info entry = o->info;
    entry.owner = m->entry.owner;
    memcpy(entry.boot, m->entry.boot, sizeof(entry.boot));
    id_ulid(entry.nonce, c->wall, &c->rng);
    entry.epoch++;
    entry.state = ROOM_STARTING;
    entry.restores = 1;
    entry.seats_version = 0;
    entry.saved_epoch = m->saved ? o->info.epoch : 0;
    entry.saved_version = m->saved;
    bool sent = op_put_room(c, OP_ROOM, o, OWNER_COMMIT, &entry, o->revision);
    if (sent)
        m->entry = entry;
    m->sent |= sent;
    return sent;
}

void move_unsure(struct owned *o, enum core_kv_result result)
{
    o->state = OWNED_KEEPING;
    o->move->code = result == CORE_KV_CONFLICT ? ROOM_E_CONFLICT : ROOM_E_TIMEOUT;
}

bool move_settled(struct core *c, struct owned *o, const struct room_info *info, uint64_t revision)
{
    struct moving *m = o->move;
    if (!m || !m->sent || info->epoch != m->entry.epoch || strcmp(info->owner.s, m->entry.owner.s) != 0 ||
        strcmp(info->boot, m->entry.boot) != 0)
        return false;
    struct core_call news = {.kind = CORE_CALL_ADOPT, .room = o->info.id, .type = o->info.type, .epoch = info->epoch,
                             .server = c->self.info.id, .reason = m->reason, .commit = true, .revision = revision};
    view_put_room(&c->view, info, revision);
    (void)op_call(c, OP_MOVE, NULL, info->owner.s, &news, c->config.call_ms); /* it would see it in the registry too */
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_DROP);
    if (fx) {
        fx->room = o->info.id;
        fx->reason = "moved";
    }
    create_reply(c, o, ROOM_E_UNAVAILABLE, &(struct core_answer){.server = info->owner});
    move_end(c, o, ROOM_E_OK);
    owner_forget(c, o);
    return true;
}

bool move_over(struct core *c, struct owned *o, uint64_t deleted)
{
    if (!o->move || !o->move->sent || deleted <= o->revision)
        return false;
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_DROP);
    if (fx) {
        fx->room = o->info.id;
        fx->reason = "moved";
    }
    create_reply(c, o, ROOM_E_UNAVAILABLE, NULL);
    move_end(c, o, ROOM_E_NOT_FOUND);
    owner_forget(c, o);
    return true;
}

bool move_open(struct owned *o)
{
    bool open = o->move && o->move->sent;
    if (open)
        o->move->ended = true;
    return open;
}

bool move_stop(struct core *c, struct owned *o)
{
    if (!o->move)
        return true;
    if (o->move->sent)
        return false;
    o->state = OWNED_RUNNING; /* the room host hears of an ordinary release next */
    move_end(c, o, ROOM_E_CANCELLED);
    return true;
}

static void tick(struct core *c, struct moving *m)
{
    struct owned *o = m->room;
    bool late = mono_reached(c->now, m->deadline);
    if (m->keep)
        keep(c, o, m->code);
    else if (m->sent && late)
        reply(c, o, ROOM_E_TIMEOUT, &o->info); /* and the registry settles it some day */
    else if (!m->sent && o->state != OWNED_RUNNING && (late || !may_live(c, &m->entry)))
        keep(c, o, late ? ROOM_E_TIMEOUT : ROOM_E_NO_RESPONDERS);
    else if (o->state == OWNED_RUNNING && late)
        move_end(c, o, ROOM_E_TIMEOUT);
}

struct core_moves core_moves(const struct core *c)
{
    return (struct core_moves){.open = c->moves, .expected = (unsigned)c->expected.count, .rolled_back = c->moves_kept};
}

void move_tick(struct core *c)
{
    for (struct moving *m = c->moves_head, *next; m; m = next) {
        next = m->next;
        tick(c, m);
    }
}
