/*
 * What must be true after each step: one owner (G1), no room overfilled (G6), nothing twice and nothing of a fenced
 * boot (G10).
 *
 * Decides: only from what was accepted by the registries and what the rooms themselves say. Must not use a node's view.
 * A room that was deleted from the registry and made again is a new room: its epochs begin anew.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire_gen.h"

struct accepted {
    int64_t epoch;
    char boot[ID_SIZE];
    bool deleted;
};

void invariants_init(struct world *w)
{
    map_init(&w->epochs, &alloc_libc);
    map_init(&w->fenced, &alloc_libc);
    map_init(&w->boots, &alloc_libc);
}

void invariants_deinit(struct world *w)
{
    for (struct map_iter it = map_first(&w->epochs); it.value; map_next(&it))
        free(it.value);
    for (struct map_iter it = map_first(&w->boots); it.value; map_next(&it))
        free(it.value);
    map_deinit(&w->epochs);
    map_deinit(&w->fenced);
    map_deinit(&w->boots);
}

static void room_written(struct world *w, const char *key, const void *data, size_t len, bool deleted)
{
    struct accepted *a = map_get(&w->epochs, key);
    if (!a) {
        a = world_alloc(sizeof(*a));
        a->deleted = true;
        map_put(&w->epochs, key, a);
    }
    if (deleted) {
        a->deleted = true;
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
        a->epoch = e.epoch;
        a->deleted = false;
        snprintf(a->boot, sizeof(a->boot), "%s", e.boot.s);
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

void invariants_written(struct world *w, const char *bucket, const char *key, const void *data, size_t len, bool deleted)
{
    if (strcmp(bucket, "rooms") == 0)
        room_written(w, key, data, len, deleted);
    else if (strcmp(bucket, "servers") == 0)
        server_written(w, key, data, len, deleted);
}

void invariants_node(struct world *w, const struct sim_proc *p)
{
    if (!p->node)
        return;
    struct host *h = node_host(p->node);
    for (const struct room *r = host_room_next(h, NULL); r; r = host_room_next(h, r)) {
        const char *id = host_room_id(r);
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

void invariants_created(struct world *w, unsigned create_id, const char *room)
{
    char *known = w->created[create_id];
    if (!known[0])
        snprintf(known, sizeof(w->created[0]), "%s", room);
    else if (strcmp(known, room) != 0)
        world_fail(w, "G10: create id %u gave the rooms %s and %s", create_id, known, room);
}
