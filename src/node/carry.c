/*
 * Snapshots on their way from this node's disk to the bucket `snapshots`, where every node can read them.
 *
 * Decides: the order of the steps for one snapshot (read it from the outbox, see what the bucket has, chunks first, the
 * entry last and only over an older one), and how many are on the way at once. What is not acknowledged stays in the
 * outbox and is tried again, also after a restart. Must not know what is in an image.
 * Weak point: a writer that is superseded between its look and its chunks leaves chunks behind; the bucket's age limit
 * removes them.
 */
#include <stdio.h>
#include <xxhash.h>

#include "node/state.h"

enum { ACTIVE_MAX = 16, INLINE_MAX = 64 * 1024, RETRY_MS = 500, KV_MS = 5000, SCAN_MS = 30000, LIST_MAX = 512 };
enum { STEP_WAIT, STEP_LOAD, STEP_LOOK, STEP_CHUNK, STEP_ENTRY, STEP_SENT };

static uint64_t token_of(const struct carry *c, unsigned kind)
{
    return c->serial | (uint64_t)kind << TOKEN_SHIFT;
}

static void drop_data(struct node *n, struct carry *c)
{
    alloc_put(n->alloc, c->data, c->len);
    c->data = NULL;
    c->len = 0;
}

static void finish(struct node *n, struct carry *c)
{
    n->carrying -= c->active;
    n->carry_due = true; /* there is room for another one */
    c->active = false;
    drop_data(n, c);
    c->step = STEP_WAIT;
    c->retry_at = n->now;
    if (c->again) { /* also of the next room of this name, after one that was forgotten */
        c->again = c->forgotten = false;
        return;
    }
    struct id room = c->room;
    map_del(&n->carries, c->room.s);
    umap_del(&n->carry_serials, c->serial);
    alloc_put(n->alloc, c, sizeof(*c));
    keep_carried(n, room.s);
}

static void later(struct node *n, struct carry *c)
{
    n->carrying -= c->active;
    c->active = false;
    drop_data(n, c);
    c->step = STEP_WAIT;
    c->retry_at = mono_add_ms(n->now, RETRY_MS);
}

const char *carry_key(char out[ID_SIZE + 64], const char *room, const struct store_mark *mark, uint32_t chunk)
{
    snprintf(out, ID_SIZE + 64, "%s.%llu.%llu.%u", room, (unsigned long long)mark->epoch, (unsigned long long)mark->version,
             chunk);
    return out;
}

void carry_add(struct node *n, const char *room, enum store_which which)
{
    struct carry *c = map_get(&n->carries, room);
    n->carry_due = true;
    if (c) {
        c->again = c->step != STEP_WAIT || c->forgotten;
        return;
    }
    c = alloc_get(n->alloc, sizeof(*c));
    if (!c)
        return; /* it is in the outbox: the next scan finds it */
    id_set(&c->room, room);
    c->serial = ++n->last_errand;
    c->which = which;
    c->retry_at = n->now;
    if (umap_put(&n->carry_serials, c->serial, c) && map_put(&n->carries, c->room.s, c))
        return;
    umap_del(&n->carry_serials, c->serial);
    alloc_put(n->alloc, c, sizeof(*c));
}

bool carry_has(const struct node *n, const char *room)
{
    return map_get(&n->carries, room) != NULL;
}

/* The room has ended: its entry goes too, once nothing of ours can be written after it. The name may be another room's by
 * then: what that one has saved stays. */
void carry_forget(struct node *n, const char *room, uint64_t epoch)
{
    if (!carry_has(n, room))
        carry_add(n, room, STORE_WAITING);
    struct carry *c = map_get(&n->carries, room);
    if (!c)
        return;
    c->forgotten = true;
    c->last_epoch = epoch;
}

static void look(struct node *n, struct carry *c)
{
    c->step = STEP_LOOK;
    if (bus_kv_get(n->bus, token_of(c, TOKEN_CARRY), "snapshots", c->room.s, KV_MS))
        later(n, c);
}

static void put_entry(struct node *n, struct carry *c)
{
    char saved[TIME_RFC3339_SIZE], sum[17];
    struct wire_snapshot_entry e = {.room = c->room, .type = c->type, .cluster = wire_str(c->cluster),
                                    .server = core_self(n->core)->id, .epoch = (int64_t)c->mark.epoch,
                                    .version = (int64_t)c->mark.version, .position = (int64_t)c->mark.position,
                                    .bytes = (int64_t)c->len, .codec = KEEP_CODEC, .chunks = c->chunks};
    time_rfc3339(c->saved, saved);
    snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)XXH3_64bits(c->data, c->len));
    e.saved = wire_str(saved);
    e.checksum = wire_str(sum);
    buf_reset(&n->tail_json);
    if (!c->chunks) {
        mp_write_bin(&n->tail_json, c->data, c->len);
        e.data = (struct wire_raw){n->tail_json.data, (uint32_t)n->tail_json.len};
    }
    fault_point("snapshot_entry");
    c->step = STEP_ENTRY;
    buf_reset(&n->scratch);
    if (wire_snapshot_entry_to_json(&e, &n->scratch) ||
        bus_kv_put(n->bus, token_of(c, TOKEN_CARRY), "snapshots", c->room.s, c->expected, n->scratch.data, n->scratch.len,
                   KV_MS))
        later(n, c);
}

static void put_chunk(struct node *n, struct carry *c)
{
    char key[ID_SIZE + 64];
    size_t from = (size_t)c->chunk * CARRY_CHUNK, len = c->len - from < CARRY_CHUNK ? c->len - from : CARRY_CHUNK;
    fault_point("snapshot_chunk");
    c->step = STEP_CHUNK;
    if (bus_kv_put(n->bus, token_of(c, TOKEN_CARRY), "snapshots", carry_key(key, c->room.s, &c->mark, c->chunk),
                   BUS_ANY_REVISION, c->data + from, len, KV_MS))
        later(n, c);
}

/* Out of the outbox. */
static void strike(struct node *n, struct carry *c)
{
    fault_point("snapshot_in_bucket");
    c->step = STEP_SENT;
    if (store_sent(n->store, token_of(c, STORE_TOKEN_CARRY), c->room.s, c->mark.epoch, c->mark.version))
        later(n, c);
}

static void sent(struct node *n, struct carry *c)
{
    const struct kept *k = keep_room(n, c->room.s);
    char key[ID_SIZE + 64];
    bool newer = store_mark_cmp(&c->old, &c->mark) < 0;
    for (uint32_t i = 0; newer && i < c->old_chunks; i++)
        (void)bus_kv_delete(n->bus, 0, "snapshots", carry_key(key, c->room.s, &c->old, i), BUS_ANY_REVISION, KV_MS);
    if (c->mark.position && k && k->epoch == c->mark.epoch)
        append_purge(n, c->room.s, c->mark.position);
    strike(n, c);
}

/* Deletes what was found of a room that has ended. */
static void forget(struct node *n, struct carry *c)
{
    char key[ID_SIZE + 64];
    if (c->expected && c->old.epoch <= c->last_epoch) {
        (void)bus_kv_delete(n->bus, 0, "snapshots", c->room.s, c->expected, KV_MS);
        for (uint32_t i = 0; i < c->old_chunks; i++)
            (void)bus_kv_delete(n->bus, 0, "snapshots", carry_key(key, c->room.s, &c->old, i), BUS_ANY_REVISION, KV_MS);
    }
    finish(n, c);
}

/* Listed no more, and not because the listing was lost: what an outbox still has of it is of no use to anybody. */
static bool has_ended(const struct node *n, const struct carry *c)
{
    const struct view *v = core_view(n->core);
    return strcmp(c->cluster, n->cluster) == 0 && v->rooms_synced && !view_room(v, c->room.s) &&
           !map_get(&n->kept, c->room.s) && !map_get(&n->restores, c->room.s);
}

static void looked(struct node *n, struct carry *c, const struct bus_event *ev)
{
    struct wire_snapshot_entry e;
    c->expected = ev->revision;
    c->old = (struct store_mark){0};
    c->old_chunks = 0;
    if (ev->result == BUS_NOT_FOUND && !c->forgotten && has_ended(n, c)) {
        strike(n, c);
        return;
    }
    if (ev->result == BUS_NOT_FOUND) {
        c->expected = 0;
    } else if (ev->result != BUS_OK) {
        later(n, c);
        return;
    } else if (wire_snapshot_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL) == 0) {
        c->old = (struct store_mark){(uint64_t)e.epoch, (uint64_t)e.position, (uint64_t)e.version};
        c->old_chunks = (uint32_t)(e.chunks > CARRY_CHUNKS_MAX ? CARRY_CHUNKS_MAX : e.chunks);
        if (!c->forgotten && store_mark_cmp(&c->old, &c->mark) >= 0) {
            sent(n, c); /* ours already, or a newer one */
            return;
        }
    }
    if (c->forgotten)
        forget(n, c);
    else if (c->chunks)
        put_chunk(n, c);
    else
        put_entry(n, c);
}

void carry_done(struct node *n, const struct bus_event *ev)
{
    struct carry *c = umap_get(&n->carry_serials, ev->token & TOKEN_MASK);
    if (!c)
        return;
    if (c->step == STEP_LOOK) {
        looked(n, c, ev);
    } else if (c->forgotten) {
        look(n, c);
    } else if (c->step == STEP_CHUNK && ev->result == BUS_OK) {
        if (++c->chunk < c->chunks)
            put_chunk(n, c);
        else
            put_entry(n, c);
    } else if (c->step == STEP_ENTRY && ev->result == BUS_OK) {
        sent(n, c);
    } else if (c->step == STEP_ENTRY) {
        look(n, c); /* somebody wrote, or it is unknown: what is there now? */
    } else {
        later(n, c);
    }
}

static void loaded(struct node *n, struct carry *c, const struct store_snapshot *s)
{
    const uint8_t *image;
    size_t len;
    if (!keep_unwrap(s, c->cluster, &image, &len) || !len)
        return;
    drop_data(n, c);
    c->data = alloc_get(n->alloc, len);
    if (!c->data)
        return;
    memcpy(c->data, image, len);
    c->len = len;
    c->mark = s->mark;
    c->saved = s->saved;
    id_set(&c->type, s->type);
    c->chunk = 0;
    c->chunks = len <= INLINE_MAX ? 0 : (uint32_t)((len + CARRY_CHUNK - 1) / CARRY_CHUNK);
}

void carry_store(struct node *n, const struct store_event *ev)
{
    struct carry *c = umap_get(&n->carry_serials, ev->token & TOKEN_MASK);
    if (!c)
        return;
    if (ev->kind == STORE_EV_SNAPSHOT) {
        loaded(n, c, &ev->snapshot);
    } else if (c->forgotten) {
        look(n, c);
    } else if (c->step == STEP_SENT || ev->result == STORE_NOT_FOUND) {
        finish(n, c);
    } else if (ev->result == STORE_DAMAGED) {
        c->mark = ev->snapshot.mark;
        keep_anew(n, c->room.s); /* what it was an image of may still run here */
        strike(n, c);            /* there is nothing to send */
    } else if (ev->result == STORE_OK && c->data) {
        look(n, c);
    } else {
        later(n, c);
    }
}

/* What an earlier process left in the outbox, and what could not be remembered. */
static void scan(struct node *n)
{
    if (n->scanning || !mono_reached(n->now, n->next_scan))
        return;
    n->scanning = store_list(n->store, (uint64_t)STORE_TOKEN_SCAN << TOKEN_SHIFT, STORE_WAITING,
                             n->scan_after.s[0] ? n->scan_after.s : NULL, LIST_MAX) == 0;
}

void carry_scanned(struct node *n, const struct store_event *ev)
{
    if (ev->kind == STORE_EV_ROOM) {
        id_set(&n->scan_after, ev->snapshot.room);
        if (!carry_has(n, ev->snapshot.room))
            carry_add(n, ev->snapshot.room, STORE_WAITING);
        return;
    }
    n->scanning = false;
    if (ev->result == STORE_OK && ev->count == LIST_MAX)
        return; /* more behind `scan_after`, at the next tick */
    n->scan_after.s[0] = '\0';
    n->next_scan = mono_add_ms(n->now, SCAN_MS);
}

static void start_waiting(struct node *n)
{
    n->carry_due = false;
    if (!n->store || !n->bus_up || !n->cluster[0] || n->carries.count <= n->carrying)
        return;
    for (struct map_iter it = map_first(&n->carries); it.value && n->carrying < ACTIVE_MAX; map_next(&it)) {
        struct carry *c = it.value;
        if (c->step != STEP_WAIT || !mono_reached(n->now, c->retry_at))
            continue;
        c->step = STEP_LOAD;
        c->active = true;
        n->carrying++;
        if (c->forgotten)
            look(n, c);
        else if (store_load(n->store, token_of(c, STORE_TOKEN_CARRY), c->which, c->room.s))
            later(n, c);
    }
}

void carry_turn(struct node *n)
{
    if (n->carry_due)
        start_waiting(n);
}

void carry_tick(struct node *n)
{
    if (!n->store || !n->bus_up || !n->cluster[0])
        return;
    scan(n);
    start_waiting(n);
}

void carry_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->carries); it.value; map_next(&it)) {
        struct carry *c = it.value;
        alloc_put(n->alloc, c->data, c->len);
        alloc_put(n->alloc, c, sizeof(*c));
    }
    map_deinit(&n->carries);
    umap_deinit(&n->carry_serials);
}
