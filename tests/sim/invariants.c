/*
 * What must be true after each step: one owner (G1), in the listing, in the journals and of the snapshots; no room overfilled
 * (G6), nothing twice and nothing of a fenced boot (G10).
 *
 * Decides: only from what was accepted by the registries and what the rooms themselves say. Must not use a node's view.
 * A room that was deleted from the registry and made again is a new room: its epochs begin anew.
 */
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/mp_read.h"

struct accepted {
    int64_t epoch;
    char boot[ID_SIZE];
    bool deleted;
};

struct logged { /* the last message of a room's journal */
    uint64_t sequence;
    int64_t epoch, number;
};

struct marked { /* the snapshot of a room that all nodes can read */
    struct store_mark mark;
};

void invariants_init(struct world *w)
{
    map_init(&w->logged, &alloc_libc);
    map_init(&w->marked, &alloc_libc);
    map_init(&w->epochs, &alloc_libc);
    map_init(&w->fenced, &alloc_libc);
    map_init(&w->boots, &alloc_libc);
    map_init(&w->appended, &alloc_libc);
}

void invariants_deinit(struct world *w)
{
    for (struct map_iter it = map_first(&w->epochs); it.value; map_next(&it))
        free(it.value);
    for (struct map_iter it = map_first(&w->boots); it.value; map_next(&it))
        free(it.value);
    for (struct map_iter it = map_first(&w->logged); it.value; map_next(&it))
        free(it.value);
    for (struct map_iter it = map_first(&w->marked); it.value; map_next(&it))
        free(it.value);
    map_deinit(&w->logged);
    map_deinit(&w->marked);
    map_deinit(&w->epochs);
    map_deinit(&w->fenced);
    map_deinit(&w->boots);
    map_deinit(&w->appended);
}

static void room_written(struct world *w, unsigned writer, const char *key, const void *data, size_t len, bool deleted)
{
    struct accepted *a = map_get(&w->epochs, key);
    if (!a) {
        a = world_alloc(sizeof(*a));
        a->deleted = true;
        map_put(&w->epochs, key, a);
    }
    if (deleted) {
        a->deleted = true;
        ledger_written(w, key, NULL, false);
        return;
    }
    struct wire_room_entry e;
    struct buf scratch;
    buf_init(&scratch, &alloc_libc, 1 << 20);
    struct err_detail detail = {{0}};
    if (wire_room_entry_from_json(&e, data, len, &scratch, &detail)) {
        world_fail(w, "room %s: its entry is not valid: %s", key, detail.text);
    } else {
        if (!a->deleted && e.epoch < a->epoch)
            world_fail(w, "G1: room %s: epoch %lld accepted after %lld", key, (long long)e.epoch, (long long)a->epoch);
        if (!a->deleted && e.epoch == a->epoch && strcmp(e.boot.s, a->boot) != 0)
            world_fail(w, "G1: room %s: boots %s and %s both wrote at epoch %lld", key, a->boot, e.boot.s,
                       (long long)e.epoch);
        /* Nobody but the former owner writes another's name into it. */
        if (!a->deleted && e.epoch > a->epoch && strcmp(e.owner.s, w->procs[writer].id) != 0) {
            w->moves.committed++;
            world_note(w, "%s moves from %s to %s", key, w->procs[writer].id, e.owner.s);
            ledger_moved(w, key, a->epoch);
        }
        a->epoch = e.epoch;
        a->deleted = false;
        snprintf(a->boot, sizeof(a->boot), "%s", e.boot.s);
        struct node *n = w->procs[writer].node;
        ledger_written(w, key, &e, n && strcmp(core_self(node_core(n))->boot, e.boot.s) == 0);
    }
    buf_deinit(&scratch);
}

static void server_written(struct world *w, const char *key, const void *data, size_t len, bool deleted)
{
    struct wire_server_entry e;
    struct buf scratch;
    char *last = map_get(&w->boots, key);
    if (deleted) {
        if (last)
            map_put(&w->fenced, last, w);
        return;
    }
    buf_init(&scratch, &alloc_libc, 1 << 20);
    struct err_detail detail = {{0}};
    if (wire_server_entry_from_json(&e, data, len, &scratch, &detail)) {
        world_fail(w, "server %s: its entry is not valid: %s", key, detail.text);
        buf_deinit(&scratch);
        return;
    }
    if (last && strcmp(last, e.boot.s) != 0)
        map_put(&w->fenced, last, w);
    if (e.status != WIRE_SERVER_STATUS_DOWN && map_get(&w->fenced, e.boot.s))
        world_fail(w, "G10: server %s: boot %s was fenced and is accepted again", key, e.boot.s);
    if (e.status == WIRE_SERVER_STATUS_DOWN)
        map_put(&w->fenced, e.boot.s, w);
    if (!last || strcmp(last, e.boot.s) != 0) {
        char *copy = world_alloc(ID_SIZE);
        snprintf(copy, ID_SIZE, "%s", e.boot.s);
        free(last);
        map_put(&w->boots, key, copy);
    }
    buf_deinit(&scratch);
}

/* Keys with a dot are chunks: what is in them counts from the entry's write on. */
static void snapshot_written(struct world *w, const char *key, const void *data, size_t len, bool deleted)
{
    struct marked *m = map_get(&w->marked, key);
    struct wire_snapshot_entry e;
    struct buf scratch;
    if (strchr(key, '.'))
        return;
    if (deleted) {
        free(map_del(&w->marked, key));
        return;
    }
    buf_init(&scratch, &alloc_libc, 1 << 24);
    struct err_detail detail = {{0}};
    if (wire_snapshot_entry_from_json(&e, data, len, &scratch, &detail))
        world_fail(w, "snapshot of room %s: its entry is not valid: %s", key, detail.text);
    struct store_mark mark = {(uint64_t)e.epoch, (uint64_t)e.position, (uint64_t)e.version};
    buf_deinit(&scratch);
    if (!m) {
        m = world_alloc(sizeof(*m));
        map_put(&w->marked, key, m);
    } else if (store_mark_cmp(&mark, &m->mark) <= 0) {
        world_fail(w, "G1: the snapshot %llu.%llu.%llu of room %s took the place of a newer one, %llu.%llu.%llu",
                   (unsigned long long)mark.epoch, (unsigned long long)mark.position, (unsigned long long)mark.version, key,
                   (unsigned long long)m->mark.epoch, (unsigned long long)m->mark.position,
                   (unsigned long long)m->mark.version);
    }
    m->mark = mark;
}

void invariants_written(struct world *w, unsigned writer, const char *bucket, const char *key, const void *data, size_t len,
                        bool deleted)
{
    if (strcmp(bucket, "rooms") == 0)
        room_written(w, writer, key, data, len, deleted);
    else if (strcmp(bucket, "snapshots") == 0)
        snapshot_written(w, key, data, len, deleted);
    else if (strcmp(bucket, "servers") == 0)
        server_written(w, key, data, len, deleted);
    else if (strcmp(bucket, "players") == 0)
        logins_written(w, writer, key, data, len, deleted);
}

/* [before, [format, epoch, number, records]] */
static bool read_batch(const void *data, size_t len, uint64_t *before, struct logged *out)
{
    struct mp_read r;
    struct mp_token two, at, four, format, epoch, number;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &two, NULL) || two.type != MP_ARRAY || two.count != 2 || mp_next(&r, &at, NULL) || at.type != MP_INT ||
        mp_next(&r, &four, NULL) || four.type != MP_ARRAY || four.count != 4 || mp_next(&r, &format, NULL) ||
        mp_next(&r, &epoch, NULL) || epoch.type != MP_INT || mp_next(&r, &number, NULL) || number.type != MP_INT)
        return false;
    *before = (uint64_t)at.i;
    out->epoch = epoch.i;
    out->number = number.i;
    return true;
}

static void journal_written(struct world *w, const char *subject, uint64_t last, uint64_t sequence, const void *data,
                            size_t len)
{
    struct logged now = {.sequence = sequence}, *l = map_get(&w->logged, subject);
    uint64_t before;
    if (!read_batch(data, len, &before, &now)) {
        world_fail(w, "%s: message %llu is no batch", subject, (unsigned long long)sequence);
        return;
    }
    if (before != last)
        world_fail(w, "%s: message %llu says that %llu is before it, but that is %llu", subject,
                   (unsigned long long)sequence, (unsigned long long)before, (unsigned long long)last);
    if (!l) {
        l = world_alloc(sizeof(*l));
        map_put(&w->logged, subject, l);
    }
    if (last && now.epoch < l->epoch)
        world_fail(w, "G1: %s: a batch of epoch %lld was accepted after one of %lld", subject, (long long)now.epoch,
                   (long long)l->epoch);
    /* A mark of which nobody knows whether it was applied is appended again; a room that is new begins without one. */
    bool marks = now.number == 0 && l->number == 0;
    bool next = last && now.epoch == l->epoch ? marks || now.number == l->number + 1 : now.number == (last ? 0 : now.number > 0);
    if (!next)
        world_fail(w, "G1: %s: batch %lld of epoch %lld was accepted after batch %lld of %lld", subject,
                   (long long)now.number, (long long)now.epoch, (long long)l->number, (long long)l->epoch);
    *l = now;
}

void invariants_log(struct world *w, const char *stream, const char *subject, uint64_t before, uint64_t sequence,
                    const void *data, size_t len)
{
    uint64_t last = (uintptr_t)map_get(&w->appended, stream);
    if (sequence <= last)
        world_fail(w, "stream %s: %s got the sequence %llu after %llu", stream, subject, (unsigned long long)sequence,
                   (unsigned long long)last);
    if (!map_put(&w->appended, stream, (void *)(uintptr_t)sequence))
        exit(2);
    if (strncmp(stream, "ROOM_JOURNAL_", 13) == 0)
        journal_written(w, subject, before, sequence, data, len);
}

static bool can_save(const struct world *w, const struct sim_proc *p)
{
    const struct sim_bus *b = p->bus;
    const struct sim_bucket *bucket = sim_kv_find((struct world *)w, "snapshots");
    return proc_active(p) && b->attached && !b->cut_in && !b->cut_out && !core_is_isolated(node_core(p->node)) &&
           w->now_us >= bucket->leaderless_until_us && !sim_disk_is_full(p->store);
}

void invariants_node(struct world *w, const struct sim_proc *p)
{
    if (!p->node)
        return;
    struct host *h = node_host(p->node);
    for (const struct room *r = host_room_next(h, NULL); r; r = host_room_next(h, r)) {
        const char *id = host_room_id(r);
        if (host_room_type(r)->durability == ROOM_DURABILITY_SNAPSHOT && host_room_running(r))
            ledger_runs(w, id, (int64_t)host_room_epoch(r), can_save(w, p));
        if (host_room_seats(r) > host_room_max_players(r) || host_room_players(r) > host_room_seats(r))
            world_fail(w, "G6: room %s on %s: %u players, %u seats of %u", id, p->id, host_room_players(r),
                       host_room_seats(r), host_room_max_players(r));
        for (unsigned i = 0; i < w->proc_count; i++) {
            struct node *other = w->procs[i].node;
            const struct room *twin = other && other != p->node ? host_find(node_host(other), id) : NULL;
            if (twin && host_room_epoch(twin) == host_room_epoch(r))
                world_fail(w, "G1: room %s runs at epoch %llu on %s and on %s", id,
                           (unsigned long long)host_room_epoch(r), p->id, w->procs[i].id);
        }
    }
}

void invariants_moved(struct world *w, const char *room, const char *server, int64_t epoch)
{
    const struct accepted *a = map_get(&w->epochs, room);
    const char *boot = map_get(&w->boots, server);
    if (!a || epoch > a->epoch)
        world_fail(w, "G8: room %s is said to be on %s at epoch %lld, but that never was accepted", room, server,
                   (long long)epoch);
    else if (a->epoch == epoch && !a->deleted && (!boot || (strcmp(boot, a->boot) != 0 && !map_get(&w->fenced, a->boot))))
        world_fail(w, "G8: room %s is said to be on %s at epoch %lld, but another has it", room, server, (long long)epoch);
}

void invariants_created(struct world *w, unsigned create_id, const char *room)
{
    char *known = w->created[create_id];
    if (!known[0])
        snprintf(known, sizeof(w->created[0]), "%s", room);
    else if (strcmp(known, room) != 0)
        world_fail(w, "G10: create id %u gave the rooms %s and %s", create_id, known, room);
}
