/* See core_cluster.h. */
#include "core_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void cluster_init(struct cluster *k)
{
    struct world w;
    world_init(&w); /* the same types and defaults */
    free(w.fx);
    memset(k, 0, sizeof(*k));
    alloc_budget_init(&k->memory, &alloc_libc, SIZE_MAX);
    k->config = w.config;
    k->config.alloc = &k->memory.alloc;
    k->now = w.now;
    k->wall = w.wall;
    k->last = &k->first;
    map_init(&k->rooms, &alloc_libc);
}

static void drop_effects(struct cluster *k)
{
    for (struct cluster_fx *f = k->first, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    k->first = NULL;
    k->last = &k->first;
}

void cluster_end(struct cluster *k)
{
    for (unsigned i = 0; i < k->count; i++)
        if (!k->nodes[i].dead)
            core_destroy(k->nodes[i].c);
    drop_effects(k);
    for (struct map_iter it = map_first(&k->rooms); it.value; map_next(&it))
        free(it.value);
    map_deinit(&k->rooms);
    cr_assert_eq(k->memory.used_bytes, 0, "%zu bytes were not given back", k->memory.used_bytes);
}

static void settle(struct cluster *k);

static int64_t processor_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void step(struct cluster *k, unsigned node, struct core_event ev)
{
    struct cluster_node *n = &k->nodes[node];
    if (n->dead)
        return;
    int64_t began = processor_us();
    const struct core_effects *e = core_step(n->c, &ev, k->now, k->wall);
    int64_t took = processor_us() - began;
    k->slowest_us = took > k->slowest_us ? took : k->slowest_us;
    for (size_t i = 0; i < e->count; i++) {
        struct cluster_fx *f = malloc(sizeof(*f));
        *f = (struct cluster_fx){.node = node, .life = n->life, .fx = e->items[i]};
        snprintf(f->reason, sizeof(f->reason), "%s", f->fx.reason ? f->fx.reason : "");
        f->fx.reason = f->reason;
        *k->last = f;
        k->last = &f->next;
    }
}

static struct cluster_room *entry(struct cluster *k, const char *id)
{
    struct cluster_room *r = map_get(&k->rooms, id);
    if (!r) {
        r = calloc(1, sizeof(*r));
        r->deleted = true;
        map_put(&k->rooms, id, r);
    }
    return r;
}

struct cluster_room *cluster_look(struct cluster *k, const char *id)
{
    return map_get(&k->rooms, id);
}

static void tell_room(struct cluster *k, const struct id *id)
{
    if (k->deaf)
        return;
    const struct cluster_room *r = map_get(&k->rooms, id->s);
    struct room_info info = r->deleted ? (struct room_info){.id = *id} : r->info;
    for (unsigned i = 0; i < k->count; i++)
        step(k, i, (struct core_event){.kind = CORE_EV_ROOM_ENTRY, .room = &info, .revision = r->revision});
}

static bool put_room(struct cluster *k, const struct core_fx *fx)
{
    const struct id *id = fx->kind == CORE_FX_PUT_ROOM ? &fx->room_entry.id : &fx->room;
    struct cluster_room *r = entry(k, id->s);
    if (fx->expected != r->revision && !(fx->expected == 0 && r->deleted))
        return false;
    cr_assert(fx->kind == CORE_FX_DEL_ROOM || r->deleted || fx->room_entry.epoch > r->info.epoch ||
                  (fx->room_entry.epoch == r->info.epoch && strcmp(fx->room_entry.boot, r->info.boot) == 0),
              "room %s: epoch %lu of %s after %lu of %s", id->s, (unsigned long)fx->room_entry.epoch,
              fx->room_entry.owner.s, (unsigned long)r->info.epoch, r->info.owner.s);
    r->revision = ++k->revision;
    r->deleted = fx->kind == CORE_FX_DEL_ROOM;
    if (!r->deleted)
        r->info = fx->room_entry;
    tell_room(k, id);
    return true;
}

void cluster_write(struct cluster *k, const struct room_info *info)
{
    struct cluster_room *r = entry(k, info->id.s);
    r->info = *info;
    r->deleted = false;
    r->revision = ++k->revision;
    tell_room(k, &info->id);
    settle(k);
}

static void kv_done(struct cluster *k, unsigned node, const struct core_fx *fx, enum core_kv_result result,
                    uint64_t revision, const struct room_info *room, const struct server_info *server)
{
    step(k, node, (struct core_event){.kind = CORE_EV_KV_DONE, .token = fx->token, .kv_result = result,
                                      .revision = revision, .room = room, .server = server});
}

static void room_fx(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    if (fx->kind == CORE_FX_GET_ROOM) {
        struct cluster_room *r = entry(k, fx->room.s);
        struct room_info info = r->info;
        kv_done(k, node, fx, r->deleted ? CORE_KV_NOT_FOUND : CORE_KV_OK, r->revision, r->deleted ? NULL : &info, NULL);
        return;
    }
    bool spared = k->spare && (fx->kind != CORE_FX_PUT_ROOM || strcmp(fx->room_entry.owner.s, k->nodes[node].id.s) == 0);
    enum cluster_fault fault = spared ? CLUSTER_FINE : k->fault;
    if (k->faults)
        k->faults -= !spared;
    else if (!spared)
        k->fault = CLUSTER_FINE;
    if (k->has_late)
        cluster_late(k);
    if (fault == CLUSTER_LATE || fault == CLUSTER_HELD) {
        k->late = *fx;
        k->late_keeps = entry(k, fx->kind == CORE_FX_PUT_ROOM ? fx->room_entry.id.s : fx->room.s)->keeps;
    }
    k->has_late = fault == CLUSTER_LATE;
    bool applied = (fault == CLUSTER_FINE || fault == CLUSTER_APPLIED) && put_room(k, fx);
    kv_done(k, node, fx, fault ? CORE_KV_UNKNOWN : applied ? CORE_KV_OK : CORE_KV_CONFLICT, k->revision, NULL, NULL);
}

void cluster_late(struct cluster *k)
{
    struct core_fx late = k->late;
    k->has_late = false;
    k->late = (struct core_fx){0};
    if (late.kind != CORE_FX_PUT_ROOM) {
        if (late.kind)
            put_room(k, &late);
        return;
    }
    const struct cluster_room *r = entry(k, late.room_entry.id.s);
    bool same = !r->deleted && late.room_entry.epoch == r->info.epoch;
    cr_assert(!put_room(k, &late) || same || r->keeps == k->late_keeps, "seed %lu: %s was kept, and is given away after all",
              (unsigned long)k->seed, r->info.id.s);
}

static void server_written(struct cluster *k, unsigned which)
{
    struct server_info info = k->servers[which];
    k->server_revisions[which] = ++k->revision;
    for (unsigned i = 0; i < k->count; i++)
        step(k, i, (struct core_event){.kind = CORE_EV_SERVER_ENTRY, .server = &info, .revision = k->revision});
}

static unsigned index_of(const struct id *id)
{
    return (unsigned)(id->s[0] - 'a');
}

static void server_fx(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    unsigned which = index_of(fx->kind == CORE_FX_PUT_SERVER ? &fx->server_entry.id : &fx->server);
    struct server_info info = k->servers[which];
    if (fx->kind == CORE_FX_GET_SERVER) {
        kv_done(k, node, fx, info.status ? CORE_KV_OK : CORE_KV_NOT_FOUND, k->server_revisions[which], NULL,
                info.status ? &info : NULL);
        return;
    }
    bool ok = !info.status || fx->expected == k->server_revisions[which];
    if (ok) {
        k->servers[which] = fx->kind == CORE_FX_PUT_SERVER ? fx->server_entry : (struct server_info){.id = fx->server};
        server_written(k, which);
    }
    kv_done(k, node, fx, ok ? CORE_KV_OK : CORE_KV_CONFLICT, k->server_revisions[which], NULL, NULL);
}

static void started(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    int code = fx->kind == CORE_FX_ROOM_RESTORE && k->restore ? k->restore(k, node, fx) : ROOM_E_OK;
    struct core_answer answer = {.code = code, .room = fx->room_entry.id, .epoch = fx->room_entry.epoch,
                                 .max_players = 2, .seats_version = 1};
    if (code != CLUSTER_HOLD)
        step(k, node, (struct core_event){.kind = CORE_EV_STARTED, .answer = &answer});
}

/* A call is answered under its token, with the node that asked in the four bits above. */
static void call(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    enum cluster_calls fate = fx->call.commit ? k->news : k->calls;
    unsigned to = index_of(&fx->server);
    bool there = !k->nodes[to].dead;
    if (fx->call.kind != CORE_CALL_ADOPT)
        return;
    k->asked += !fx->call.commit;
    if (there && fate != CALLS_LOST)
        step(k, to, (struct core_event){.kind = CORE_EV_CALL, .call = &fx->call,
                                        .req = fate == CALLS_UNHEARD ? UINT64_MAX : fx->token | (uint64_t)node << 60});
    struct core_answer none = {.code = there ? ROOM_E_TIMEOUT : ROOM_E_NO_RESPONDERS};
    if (!there || fate != CALLS_FINE)
        step(k, node, (struct core_event){.kind = CORE_EV_CALL_DONE, .token = fx->token, .answer = &none});
}

static void answered(struct cluster *k, const struct core_fx *fx)
{
    if (fx->req == UINT64_MAX)
        return;
    if (fx->req >> 32) {
        step(k, (unsigned)(fx->req >> 60), (struct core_event){.kind = CORE_EV_CALL_DONE, .answer = &fx->answer,
                                                               .token = fx->req << 4 >> 4});
        return;
    }
    k->answer = fx->answer;
    k->answers++;
}

/* The room host: a room that stands still is let go, or goes away. */
static void host(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    struct cluster_room *r = entry(k, fx->room.s);
    bool release = fx->kind == CORE_FX_ROOM_RELEASE;
    cr_assert(fx->kind != CORE_FX_ROOM_KEEP || r->still == node + 1, "%s is kept, and did not stand still", fx->room.s);
    if (release || r->still == node + 1) {
        k->still -= r->still != 0;
        r->still = release && fx->token ? node + 1 : 0;
        k->still += r->still != 0;
        k->still_max = k->still > k->still_max ? k->still : k->still_max;
    }
    r->keeps += fx->kind == CORE_FX_ROOM_KEEP;
    r->releases += release;
    r->token = release ? fx->token : r->token;
    if (release && !k->hold_release)
        cluster_released(k, node, fx->room.s, fx->token);
}

static void said(struct cluster *k, const struct core_fx *fx)
{
    bool dropped = fx->kind == CORE_FX_ROOM_DROP || fx->kind == CORE_FX_ROOM_GONE;
    struct cluster_room *r = entry(k, dropped ? fx->room.s : fx->room_entry.id.s);
    r->migrated += fx->kind == CORE_FX_MIGRATED;
    r->parked += fx->kind == CORE_FX_PARKED;
    r->disposed += fx->kind == CORE_FX_DISPOSED;
    r->gone += fx->kind == CORE_FX_ROOM_GONE;
    r->drops += fx->kind == CORE_FX_ROOM_DROP;
    r->restores += fx->kind == CORE_FX_ROOM_RESTORE;
    if (fx->kind == CORE_FX_ROOM_DROP)
        return;
    snprintf(r->reason, sizeof(r->reason), "%s", fx->reason);
    r->from = fx->server;
    if (fx->kind == CORE_FX_MIGRATED)
        r->moved = k->now;
}

static void perform(struct cluster *k, unsigned node, const struct core_fx *fx)
{
    switch (fx->kind) {
    case CORE_FX_PING: {
        bool there = index_of(&fx->server) != node && !k->nodes[index_of(&fx->server)].dead;
        if (there)
            step(k, index_of(&fx->server), (struct core_event){.kind = CORE_EV_PINGED});
        step(k, node, (struct core_event){.kind = CORE_EV_PING_DONE, .token = fx->token,
                                          .ping_result = there ? CORE_PING_OK : CORE_PING_NO_RESPONDERS});
        return;
    }
    case CORE_FX_GET_ROOM:
    case CORE_FX_PUT_ROOM:
    case CORE_FX_DEL_ROOM:
        room_fx(k, node, fx);
        return;
    case CORE_FX_GET_SERVER:
    case CORE_FX_PUT_SERVER:
    case CORE_FX_DEL_SERVER:
        server_fx(k, node, fx);
        return;
    case CORE_FX_ROOM_RESTORE:
        said(k, fx);
        started(k, node, fx);
        return;
    case CORE_FX_ROOM_START:
        started(k, node, fx);
        return;
    case CORE_FX_ROOM_DROP:
        said(k, fx);
        host(k, node, fx);
        return;
    case CORE_FX_ROOM_RELEASE:
    case CORE_FX_ROOM_KEEP:
        host(k, node, fx);
        return;
    case CORE_FX_CALL:
        call(k, node, fx);
        return;
    case CORE_FX_CALL_REPLY:
        answered(k, fx);
        return;
    case CORE_FX_DRAINING:
        k->nodes[node].draining++;
        return;
    case CORE_FX_MIGRATED:
    case CORE_FX_PARKED:
    case CORE_FX_DISPOSED:
    case CORE_FX_ROOM_GONE:
        said(k, fx);
        return;
    case CORE_FX_STOPPED:
        k->nodes[node].stopped = true;
        return;
    default:
        return;
    }
}

static void settle(struct cluster *k)
{
    for (struct cluster_fx *f; (f = k->first);) {
        k->first = f->next;
        if (!k->first)
            k->last = &k->first;
        if (!k->nodes[f->node].dead && k->nodes[f->node].life == f->life)
            perform(k, f->node, &f->fx);
        free(f);
    }
}

void cluster_released(struct cluster *k, unsigned node, const char *id, uint64_t token)
{
    struct room_info room = {.id = world_id(id)};
    struct core_answer answer = {.code = k->release_code};
    step(k, node, (struct core_event){.kind = CORE_EV_RELEASED, .room = &room, .token = token,
                                      .answer = k->release_code ? &answer : NULL});
}

void cluster_event(struct cluster *k, unsigned node, struct core_event ev)
{
    step(k, node, ev);
    settle(k);
}

void cluster_saved(struct cluster *k, unsigned node, const char *id)
{
    cluster_released(k, node, id, cluster_look(k, id)->token);
    settle(k);
}

void cluster_stop(struct cluster *k, unsigned node)
{
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_STOP});
}

void cluster_move(struct cluster *k, unsigned node, const char *id, const char *to)
{
    struct room_info room = {.id = world_id(id)};
    struct server_info server = {.id = world_id(to)};
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_MOVE, .req = 7, .room = &room, .server = &server,
                                               .reason = "migration"});
}

static void beat(struct cluster *k, unsigned node)
{
    const struct core *c = k->nodes[node].c;
    struct server_info info = *core_self(c);
    info.rooms = (uint32_t)c->owned.count;
    step(k, node, (struct core_event){.kind = CORE_EV_COUNTS, .server = &info});
    for (unsigned i = 0; i < k->count; i++)
        if (i != node)
            step(k, i, (struct core_event){.kind = CORE_EV_BEAT, .server = &info});
}

void cluster_run(struct cluster *k, int ms)
{
    for (int t = 0; t < ms; t += CORE_TICK_MS) {
        k->now = mono_add_ms(k->now, CORE_TICK_MS);
        k->wall.ms += CORE_TICK_MS;
        for (unsigned i = 0; i < k->count; i++) {
            if (!k->nodes[i].dead && k->now.us / CORE_TICK_MS / 1000 % 20 == 0)
                beat(k, i);
            for (int more = 0; more < 1000 && !k->nodes[i].dead && (!more || core_has_more(k->nodes[i].c)); more++) {
                step(k, i, (struct core_event){.kind = CORE_EV_TICK});
                settle(k);
            }
        }
    }
}

void cluster_listing(struct cluster *k, unsigned node)
{
    for (int rooms = 0; rooms < 2; rooms++) {
        step(k, node, (struct core_event){.kind = CORE_EV_SYNC, .rooms = rooms});
        for (unsigned i = 0; i < k->count && !rooms; i++)
            if (k->servers[i].status)
                step(k, node, (struct core_event){.kind = CORE_EV_SERVER_ENTRY, .server = &k->servers[i],
                                                  .revision = k->server_revisions[i]});
        for (struct map_iter it = map_first(&k->rooms); it.value && rooms; map_next(&it)) {
            struct cluster_room *r = it.value;
            if (!r->deleted)
                step(k, node, (struct core_event){.kind = CORE_EV_ROOM_ENTRY, .room = &r->info, .revision = r->revision});
        }
        step(k, node, (struct core_event){.kind = CORE_EV_SYNCED, .rooms = rooms});
    }
    settle(k);
}

static void start(struct cluster *k, unsigned node)
{
    struct cluster_node *n = &k->nodes[node];
    n->dead = n->stopped = false;
    n->life++;
    n->config.seed = 100 * node + (uint64_t)n->life;
    n->c = core_create(&n->config, k->now, k->wall);
    cr_assert_not_null(n->c);
    step(k, node, (struct core_event){.kind = CORE_EV_BUS_UP});
    cluster_listing(k, node);
}

unsigned cluster_node(struct cluster *k, uint32_t capacity)
{
    unsigned i = k->count++;
    struct cluster_node *n = &k->nodes[i];
    n->id = world_id((char[]){(char)('a' + i), 0});
    n->config = k->config;
    n->config.self = world_server(n->id.s, "");
    n->config.self.capacity = capacity;
    start(k, i);
    cluster_run(k, 1000);
    cr_assert(core_may_serve(n->c));
    return i;
}

void cluster_crash(struct cluster *k, unsigned node)
{
    k->nodes[node].dead = true;
    core_destroy(k->nodes[node].c);
}

void cluster_kill(struct cluster *k, unsigned node)
{
    cluster_crash(k, node);
    k->servers[node].status = SERVER_DOWN;
    server_written(k, node);
    settle(k);
}

void cluster_restart(struct cluster *k, unsigned node)
{
    if (!k->nodes[node].dead)
        cluster_crash(k, node);
    start(k, node);
}

void cluster_room(struct cluster *k, unsigned node, const char *id, const char *type)
{
    struct core_call call = {.kind = CORE_CALL_CREATE, .room = world_id(id), .type = world_id(type), .generated = true};
    cluster_event(k, node, (struct core_event){.kind = CORE_EV_CALL, .req = 1, .call = &call});
}

unsigned cluster_running(const struct cluster *k, unsigned node)
{
    unsigned n = 0;
    if (k->nodes[node].dead)
        return 0;
    for (struct map_iter it = map_first(&k->nodes[node].c->owned); it.value; map_next(&it))
        n += ((const struct owned *)it.value)->state == OWNED_RUNNING;
    return n;
}

bool cluster_runs(struct cluster *k, unsigned node, const char *id)
{
    const struct cluster_room *r = cluster_look(k, id);
    for (unsigned i = 0; i < k->count; i++) {
        const struct owned *o = k->nodes[i].dead ? NULL : map_get(&k->nodes[i].c->owned, id);
        if ((o && o->state == OWNED_RUNNING) != (i == node))
            return false;
    }
    return r && !r->deleted && r->info.state == ROOM_RUNNING && strcmp(r->info.owner.s, k->nodes[node].id.s) == 0 &&
           strcmp(r->info.boot, core_self(k->nodes[node].c)->boot) == 0;
}
