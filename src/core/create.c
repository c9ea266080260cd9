/*
 * Rooms that somebody asks for.
 *
 * Decides: whether a room may be made here, and what those who asked for it, or after it, are told and when. A room with a
 * generated id may run before it is listed, because nobody else can know the id; a named room runs only after its entry
 * was won (owner.c). So does a room with a journal: what it acknowledges before others know of it would be lost with this
 * node. A name whose room is kept, and will come back, is not free.
 * Invariant: each request is answered once, at the latest when its patience is over.
 */
#include "core/state.h"

#include <string.h>

enum { WAITERS_MAX = 4096 };

static void answer(struct core *c, const struct owned *o, uint64_t req, int code, const struct core_answer *from)
{
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (!fx)
        return;
    fx->req = req;
    if (from)
        fx->answer = *from;
    fx->answer.code = code;
    fx->answer.room = o->info.id;
    fx->answer.type = o->info.type;
    fx->answer.epoch = o->info.epoch;
    if (!fx->answer.server.s[0])
        fx->answer.server = c->self.info.id;
}

/* Those who asked after the first learn that it exists, or the same reason why not. */
void create_reply(struct core *c, struct owned *o, int code, const struct core_answer *from)
{
    if (o->req)
        answer(c, o, o->req, code, from);
    o->req = 0;
    struct core_answer elsewhere = {.server = from ? from->server : c->self.info.id};
    for (struct waiter *w = o->waiters, *next; w; w = next) {
        next = w->next;
        answer(c, o, w->req, code ? code : ROOM_E_EXISTS, &elsewhere);
        alloc_put(c->alloc, w, sizeof(*w));
    }
    o->waiters = NULL;
    o->waiting = 0;
}

static void refuse(struct core *c, uint64_t req, const struct core_call *call, int code, const struct id *server)
{
    struct core_fx *fx = core_fx(c, CORE_FX_CALL_REPLY);
    if (!fx)
        return;
    fx->req = req;
    fx->answer.code = code;
    fx->answer.room = call->room;
    fx->answer.type = call->type;
    if (server)
        fx->answer.server = *server;
}

void create_won(struct core *c, struct owned *o)
{
    o->state = OWNED_STARTING;
    struct core_fx *fx = core_fx(c, CORE_FX_ROOM_START);
    if (!fx) {
        create_reply(c, o, ROOM_E_NO_MEMORY, NULL);
        owner_forget(c, o);
        return;
    }
    fx->room_entry = o->info;
    fx->call = o->asked->call;
}

/* So long a create is kept waiting here; whoever asked waits a little longer. */
static struct mono patience(const struct core *c)
{
    return mono_add_ms(c->now, c->config.create_ms - c->config.call_ms);
}

/* Whether the room will be there is being decided: the answer comes with the outcome. */
static int wait_for(struct core *c, struct owned *o, uint64_t req)
{
    struct waiter *w = o->waiting < WAITERS_MAX ? alloc_get(c->alloc, sizeof(*w)) : NULL;
    if (!w)
        return o->waiting < WAITERS_MAX ? ROOM_E_NO_MEMORY : ROOM_E_FULL;
    if (!o->req && !o->waiters)
        o->deadline = patience(c);
    w->req = req;
    *(o->waiters ? o->waiters_last : &o->waiters) = w;
    o->waiters_last = &w->next;
    o->waiting++;
    if (!o->busy)
        owner_mark(c, o); /* for his patience */
    return ROOM_E_OK;
}

void create_asked(struct core *c, uint64_t req, const struct core_call *call)
{
    uint32_t max = c->config.type_max_players(c->config.type_arg, call->type.s);
    struct owned *o = map_get(&c->owned, call->room.s);
    struct view_server *here = view_server(&c->view, c->self.info.id.s);
    if (here && here->handed_out > 0)
        here->handed_out--; /* what was handed out to this node itself counts as owned from here on */
    if (o) {
        int code = o->state == OWNED_RUNNING ? ROOM_E_EXISTS : wait_for(c, o, req);
        if (code)
            refuse(c, req, call, code, &c->self.info.id);
        return;
    }
    int code = !call->room.s[0]                              ? ROOM_E_INVALID
               : !self_serves(c)                             ? ROOM_E_UNAVAILABLE
               : c->drain.shown.on                           ? ROOM_E_DRAINING
               : max == 0                                    ? ROOM_E_UNKNOWN_TYPE
               : core_rooms(c) >= c->self.info.capacity      ? ROOM_E_FULL
                                                             : ROOM_E_OK;
    if (code) {
        refuse(c, req, call, code, NULL);
        return;
    }
    o = alloc_get(c->alloc, sizeof(*o));
    bool kept = false;
    if (o && (o->asked = alloc_get(c->alloc, sizeof(*o->asked)))) {
        o->asked->call = *call;
        o->asked->options = core_keep_options(c, &o->asked->call, &kept);
        o->info.id = call->room;
        kept = kept && map_put_borrowed(&c->owned, o->info.id.s, o);
    }
    if (!kept) {
        if (o)
            owner_release(c, o);
        refuse(c, req, call, ROOM_E_NO_MEMORY, NULL);
        return;
    }
    o->req = req;
    o->info = (struct room_info){.id = call->room, .type = call->type, .owner = c->self.info.id, .epoch = 1,
                                 .max_players = max, .is_private = call->is_private, .state = ROOM_RUNNING,
                                 .created = c->wall};
    memcpy(o->info.boot, c->self.info.boot, sizeof(o->info.boot));
    o->next = c->now;
    o->deadline = patience(c);
    o->info.durability = c->config.type_durability ? c->config.type_durability(c->config.type_arg, call->type.s) : 0;
    o->unsure = !call->generated; /* a name may be somebody's already */
    if (call->generated && o->info.durability != DURABILITY_JOURNAL)
        create_won(c, o);
    else
        owner_act(c, o);
}

static void announce(struct core *c, struct owned *o)
{
    if (o->announced)
        return;
    struct core_fx *fx = core_fx(c, CORE_FX_CREATED);
    if (!fx)
        return;
    fx->room_entry = o->info;
    o->announced = true;
}

void create_started(struct core *c, const struct core_answer *answer)
{
    struct owned *o = map_get(&c->owned, answer->room.s);
    if (!o || o->state != OWNED_STARTING || (answer->epoch && answer->epoch != o->info.epoch))
        return;
    if (o->restoring) {
        restore_started(c, o, answer);
        return;
    }
    if (answer->code != ROOM_E_OK) {
        create_reply(c, o, answer->code, NULL);
        owner_close(c, o, "create_failed");
        return;
    }
    o->state = OWNED_RUNNING;
    o->info.players = answer->players;
    o->info.seats = answer->seats;
    o->info.seats_version = answer->seats_version;
    o->info.max_players = answer->max_players;
    announce(c, o);
    create_reply(c, o, ROOM_E_OK, answer);
    owner_forget_call(c, o);
    owner_mark(c, o);
}

/* A named room's entry is somebody else's. If that somebody is dead and the room with it, the name may be taken over at
 * the next epoch; a room that is kept comes back, and whoever asked tries again. */
void create_taken(struct core *c, struct owned *o, const struct room_info *info, uint64_t revision)
{
    struct view_server *v = view_server(&c->view, info->owner.s);
    bool dead = v && (v->info.status == SERVER_DOWN || strcmp(info->boot, v->info.boot) < 0);
    if (dead && !info->durability) {
        o->info.epoch = info->epoch + 1;
        o->revision = revision;
        o->unsure = false;
        owner_mark(c, o);
        return;
    }
    view_put_room(&c->view, info, revision);
    bool away = dead || info->state == ROOM_PENDING || info->state == ROOM_PARKED;
    struct core_answer answer = {.server = info->owner};
    o->info.epoch = info->epoch;
    create_reply(c, o, away ? ROOM_E_UNAVAILABLE : ROOM_E_EXISTS, &answer);
    owner_forget(c, o);
}

/* The claim goes on: a repeated request will find the room. */
void create_lose_patience(struct core *c, struct owned *o)
{
    if ((o->req || o->waiters) && mono_reached(c->now, o->deadline))
        create_reply(c, o, ROOM_E_TIMEOUT, NULL);
}
