/*
 * The snapshots of the rooms that run here: when one is taken, and that it reaches this node's own disk.
 *
 * Decides: which rooms are due (changed, and snapshot_interval is over; or the journal's tail has grown past what the
 * snapshot would cost), and what happens to the copies of rooms that ended. From the disk a snapshot goes onward by itself
 * (carry.c). Must not know what is in an image. A stored snapshot is the registries' incarnation (26 characters) and the
 * room host's image.
 */
#include "node/state.h"

enum { SWEEP_ROOMS = 512, AGAIN_MS = 1000, TAIL_MIN = 64, TAIL_MAX = 2048, TAIL_BYTES_MAX = 4 * 1024 * 1024 };

struct kept *keep_room(struct node *n, const char *room)
{
    return map_get(&n->kept, room);
}

/* Never by itself if the interval is 0. */
static struct mono next_due(const struct node *n, int64_t ms)
{
    return n->config.snapshot_ms ? mono_add_ms(n->now, ms) : (struct mono){INT64_MAX};
}

static struct kept *add(struct node *n, const struct room *room)
{
    struct kept *k = alloc_get(n->alloc, sizeof(*k));
    if (!k)
        return NULL;
    id_set(&k->room, host_room_id(room));
    k->serial = ++n->last_errand;
    k->epoch = host_room_epoch(room);
    k->due = next_due(n, 0); /* the first one at once */
    if (umap_put(&n->kept_serials, k->serial, k) && map_put(&n->kept, k->room.s, k))
        return k;
    umap_del(&n->kept_serials, k->serial);
    alloc_put(n->alloc, k, sizeof(*k));
    return NULL;
}

bool keep_add(struct node *n, const struct room *room)
{
    bool wanted = n->store && strcmp(host_room_durability(room), "none") != 0 && !keep_room(n, host_room_id(room));
    return !wanted || add(n, room);
}

void keep_remove(struct node *n, const char *room)
{
    struct kept *k = map_del(&n->kept, room);
    if (!k)
        return;
    umap_del(&n->kept_serials, k->serial);
    alloc_put_str(n->alloc, k->saver);
    alloc_put(n->alloc, k, sizeof(*k));
}

/* The room has ended for good: nobody may bring it back. */
void keep_forget(struct node *n, const char *room, uint64_t epoch)
{
    if (!n->store)
        return;
    keep_remove(n, room);
    carry_forget(n, room, epoch);
    (void)store_forget(n->store, 0, room); /* refused when too much waits: unlisted, it is forgotten at the next start */
    append_forget(n, room);
}

static void ask_again(const struct node *n, struct kept *k, int ms)
{
    k->again = true;
    k->again_at = mono_add_ms(n->now, ms);
}

int keep_save(struct node *n, const char *room, const char *reply)
{
    struct kept *k = keep_room(n, room);
    if (!k)
        return host_find(n->host, room) ? ROOM_E_UNSUPPORTED : ROOM_E_NOT_FOUND;
    if (k->saver)
        return ROOM_E_ALREADY;
    k->saver = alloc_str(n->alloc, reply);
    if (!k->saver)
        return ROOM_E_NO_MEMORY;
    ask_again(n, k, 0);
    return 0;
}

void keep_anew(struct node *n, const char *room)
{
    struct kept *k = keep_room(n, room);
    if (k)
        ask_again(n, k, 0);
}

static void ask(struct node *n, struct kept *k)
{
    k->due = next_due(n, n->config.snapshot_ms);
    k->again = false;
    if (host_snapshot(n->host, k->room.s, n->now))
        ask_again(n, k, AGAIN_MS); /* no memory for it now */
}

/* From the host: an image, durable as far as the journal goes. */
void keep_image(struct node *n, const struct room *room, uint64_t version, uint64_t position, const void *data, size_t len)
{
    struct kept *k = keep_room(n, host_room_id(room));
    if (!k)
        return;
    if (!n->cluster[0]) { /* whose journal it speaks of is not known yet: another one is taken then */
        ask_again(n, k, NODE_TICK_MS);
        return;
    }
    k->version = version;
    fault_point("snapshot_taken");
    struct journal *j = map_get(&n->journals, k->room.s);
    if (j) {
        j->tail_count = 0;
        j->tail_bytes = 0;
        j->image_len = len;
        j->image_asked = false;
    }
    buf_reset(&n->image);
    struct store_snapshot s = {.room = k->room.s, .type = host_room_type(room)->name.s, .saved = n->wall, .codec = KEEP_CODEC,
                               .mark = {.epoch = k->epoch, .position = position, .version = version}};
    int rc = buf_write(&n->image, n->cluster, ULID_SIZE - 1) && buf_write(&n->image, data, len) ? 0 : ROOM_E_NO_MEMORY;
    s.data = n->image.data;
    s.len = n->image.len;
    if (!rc)
        rc = store_save(n->store, k->serial | (uint64_t)STORE_TOKEN_SAVE << TOKEN_SHIFT, &s);
    if (rc == 0) {
        k->saving++;
        return;
    }
    ask_again(n, k, AGAIN_MS);
    if (rc == ROOM_E_TOO_BIG && n->config.log)
        LOG_ERR("the room is too big for a snapshot", "room=%s bytes=%zu", k->room.s, len);
}

void keep_saved(struct node *n, const struct store_event *ev)
{
    struct kept *k = umap_get(&n->kept_serials, ev->token & TOKEN_MASK);
    if (!k)
        return;
    k->saving--;
    fault_point("snapshot_on_disk");
    if (ev->result == STORE_OK)
        carry_add(n, k->room.s, STORE_WAITING);
    if (ev->result == STORE_OK || ev->result == STORE_SUPERSEDED)
        return;
    ask_again(n, k, AGAIN_MS);
}

/* The journal's tail is what a new owner must read: beyond some messages and the size of an image, an image is cheaper. */
void keep_grown(struct node *n, struct journal *j)
{
    bool long_tail = j->tail_count >= TAIL_MIN && j->tail_bytes >= j->image_len;
    struct kept *k = long_tail || j->tail_count >= TAIL_MAX || j->tail_bytes >= TAIL_BYTES_MAX ? keep_room(n, j->room.s) : NULL;
    if (!k || j->image_asked || k->saving)
        return;
    j->image_asked = true;
    ask_again(n, k, 0);
}

/* Tells the core that the room is saved; one that moves stands still until the core has decided. */
static void release_done(struct node *n, const char *id, uint64_t token, uint64_t version, int code)
{
    struct id room;
    id_set(&room, id);
    struct queued *q = step_event(n, CORE_EV_RELEASED);
    if (!q)
        return; /* the core's own deadline ends it */
    q->room.id = room;
    q->ev.room = &q->room;
    q->ev.token = token;
    q->ev.revision = version;
    q->answer.code = code;
    q->ev.answer = &q->answer;
}

void keep_release(struct node *n, const char *room, uint64_t token, const char *reason)
{
    revive_drop(n, room); /* then there is nothing to save that is not saved already */
    const struct room *r = host_find(n->host, room);
    struct kept *k = keep_room(n, room);
    if (r && !k && token && (k = add(n, r)))
        k->passing = true;
    if (!k || !r) {
        release_done(n, room, token, 0, r ? ROOM_E_NO_MEMORY : token ? ROOM_E_NOT_FOUND : 0);
        return;
    }
    attach_still(n, r, true);
    fault_point("move_still");
    k->releasing = k->still = true;
    k->token = token;
    if (host_room_unsaved(r) || k->passing)
        ask(n, k);
    if (n->config.log)
        LOG_DBG("room stands still", "room=%s reason=%s", room, reason ? reason : "");
}

/* It does not move after all. */
void keep_stay(struct node *n, const char *room)
{
    const struct room *r = host_find(n->host, room);
    struct kept *k = keep_room(n, room);
    if (!k || !r)
        return;
    k->releasing = k->still = false;
    if (k->passing) {
        uint64_t epoch = k->epoch;
        keep_remove(n, room);
        carry_forget(n, room, epoch);
        (void)store_forget(n->store, 0, room);
    }
    attach_still(n, r, core_is_isolated(n->core) && host_room_freezes(r));
}

static bool released(const struct node *n, const struct kept *k)
{
    const struct room *r = host_find(n->host, k->room.s);
    bool at_rest = !r || (!host_room_unsaved(r) && !host_room_waits(r));
    return !k->saving && !k->again && !carry_has(n, k->room.s) && at_rest;
}

/* Whoever waits for all of it to be in the bucket. */
static void reached(struct node *n, struct kept *k)
{
    struct id room = k->room;
    if (!(k->saver || k->releasing) || !released(n, k))
        return;
    if (k->saver) {
        ctl_saved(n, k->saver, k);
        alloc_put_str(n->alloc, k->saver);
        k->saver = NULL;
    }
    if (!k->releasing)
        return;
    fault_point("move_saved");
    k->releasing = false;
    release_done(n, room.s, k->token, map_get(&n->journals, room.s) ? 0 : k->version, 0);
    if (!k->token)
        node_unhost(n, room.s, false);
}

void keep_carried(struct node *n, const char *room)
{
    struct kept *k = keep_room(n, room);
    if (k)
        reached(n, k);
}

/* A part of the rooms in each tick, in the order of their ids. */
void keep_tick(struct node *n)
{
    if (!n->store || !n->cluster[0])
        return;
    struct map_iter it = map_after(&n->kept, n->kept_at.s);
    for (int left = SWEEP_ROOMS; it.value && left > 0; left--) {
        struct kept *k = it.value;
        n->kept_at = k->room;
        map_next(&it);
        if (k->saver || k->releasing) {
            struct id room = k->room;
            reached(n, k);
            if (keep_room(n, room.s) != k)
                continue;
        }
        const struct room *r = host_find(n->host, k->room.s);
        /* A player may leave a room that stands still: then the image it was to move with is not the last. */
        bool wanted = k->releasing || mono_reached(n->now, k->due);
        bool due = k->again ? mono_reached(n->now, k->again_at) : wanted && r && host_room_unsaved(r);
        if (r && due && !k->saving)
            ask(n, k);
    }
    if (!it.value)
        n->kept_at.s[0] = '\0';
}

/* What the whole state of the room was like when it was saved, from the stored bytes. */
bool keep_unwrap(const struct store_snapshot *s, char cluster[ULID_SIZE], const uint8_t **image, size_t *len)
{
    if (s->codec != KEEP_CODEC || s->len < ULID_SIZE - 1)
        return false;
    memcpy(cluster, s->data, ULID_SIZE - 1);
    cluster[ULID_SIZE - 1] = '\0';
    *image = (const uint8_t *)s->data + ULID_SIZE - 1;
    *len = s->len - (ULID_SIZE - 1);
    return true;
}

void keep_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->kept); it.value; map_next(&it)) {
        struct kept *k = it.value;
        alloc_put_str(n->alloc, k->saver);
        alloc_put(n->alloc, k, sizeof(*k));
    }
    map_deinit(&n->kept);
    umap_deinit(&n->kept_serials);
}
