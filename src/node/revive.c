/*
 * A room that was won from a dead, stopped or former owner is brought to life here.
 *
 * Decides: which copy of its state counts (the newest by epoch, position and version, of this node's disk and the bucket
 * `snapshots`), and for journalled rooms that the journal is fenced before it is read: a mark of our epoch is appended
 * first, so that nothing of a former owner can be added after what was read, and so that it is known what must be read: a
 * NATS server that led a stream and hung answers reads with what it knew then. Every message names the one before it; a
 * gap begins the restore anew and fails it at last, instead of losing what was in it.
 * What cannot be reached now is asked again until it answers; only what was read and is not whole, or does not exist, is a
 * result. Must not decide whether the room is ours: the core says so, and may take it away at any step.
 * Weak point: a room without a journal that was not moved has nothing to tell a stale answer of the bucket by; its state is
 * then some seconds older than it need be.
 */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "node/state.h"

enum { RETRY_MS = 100, READ_MS = 3000, LOOKS_MAX = 50, CHUNK_LOOKS_MAX = 3 };
enum { STEP_LOCAL, STEP_REMOTE, STEP_CHUNK, STEP_LAST, STEP_MARK, STEP_READ };

static void proceed(struct node *n, struct restoring *r);

static uint64_t token_of(const struct restoring *r, unsigned kind)
{
    return r->serial | (uint64_t)kind << TOKEN_SHIFT;
}

static void drop_image(struct node *n, uint8_t **data, size_t *len)
{
    alloc_put(n->alloc, *data, *len);
    *data = NULL;
    *len = 0;
}

static void end(struct node *n, struct restoring *r)
{
    map_del(&n->restores, r->info.id.s);
    umap_del(&n->restore_serials, r->serial);
    drop_image(n, &r->image, &r->len);
    drop_image(n, &r->incoming, &r->incoming_len);
    alloc_put(n->alloc, r, sizeof(*r));
}

/* How it went, to the core; the room runs here if `code` is 0. */
static void tell(struct node *n, const struct room_info *info, int code)
{
    struct queued *q = step_event(n, CORE_EV_STARTED);
    const struct room *room = code ? NULL : host_find(n->host, info->id.s);
    if (!q)
        return;
    q->answer = (struct core_answer){.code = code, .room = info->id, .type = info->type, .server = core_self(n->core)->id,
                                     .epoch = info->epoch};
    if (room) {
        q->answer.players = host_room_players(room);
        q->answer.seats = host_room_seats(room);
        q->answer.seats_version = host_room_seats_version(room);
        q->answer.max_players = host_room_max_players(room);
    }
    q->ev.answer = &q->answer;
}

static void fail(struct node *n, struct restoring *r, int code, const char *detail)
{
    struct room_info info = r->info;
    if (n->config.log)
        LOG_WRN("room not restored", "room=%s epoch=%llu err=%s detail=\"%s\"", info.id.s, (unsigned long long)info.epoch,
                room_error_name(code), detail);
    if (r->built)
        host_discard(n->host, info.id.s);
    if (info.durability == ROOM_DURABILITY_JOURNAL && (code == ROOM_E_CANCELLED || code == ROOM_E_NOT_FOUND))
        append_ended(n, info.id.s, r->last);
    end(n, r);
    tell(n, &info, code);
}

void revive_start(struct node *n, const struct room_info *info)
{
    struct restoring *r = alloc_get(n->alloc, sizeof(*r));
    if (!r || !n->store) {
        alloc_put(n->alloc, r, sizeof(*r));
        tell(n, info, r ? ROOM_E_UNSUPPORTED : ROOM_E_NO_MEMORY);
        return;
    }
    r->info = *info;
    r->began = n->now;
    r->serial = ++n->last_errand;
    r->step = STEP_LOCAL;
    if (!umap_put(&n->restore_serials, r->serial, r) || !map_put(&n->restores, info->id.s, r)) {
        end(n, r);
        tell(n, info, ROOM_E_NO_MEMORY);
        return;
    }
    fault_point("takeover_begun");
    proceed(n, r);
}

/* The core has taken the room away again, or this node is at its end. */
void revive_drop(struct node *n, const char *room)
{
    struct restoring *r = map_get(&n->restores, room);
    if (!r)
        return;
    if (r->built)
        host_discard(n->host, room);
    end(n, r);
}

static void again(struct node *n, struct restoring *r)
{
    r->waits = true;
    r->retry_at = mono_add_ms(n->now, RETRY_MS);
}

static void go(struct node *n, struct restoring *r, int step)
{
    r->step = step;
    proceed(n, r);
}

static void append_mark(struct node *n, struct restoring *r)
{
    char subject[SUBJECT_SIZE];
    fault_point("takeover_mark");
    buf_reset(&n->tail_json);
    buf_reset(&n->scratch);
    int rc = host_mark(&n->tail_json, r->info.epoch);
    append_wrap(&n->scratch, r->last, n->tail_json.data, n->tail_json.len);
    if (rc || n->scratch.failed ||
        bus_log_append(n->bus, token_of(r, TOKEN_RESTORE), subject_journal(subject, r->info.id.s), r->last, n->scratch.data,
                       n->scratch.len, READ_MS))
        again(n, r);
}

static void proceed(struct node *n, struct restoring *r)
{
    uint64_t token = token_of(r, TOKEN_RESTORE);
    const char *room = r->info.id.s;
    char subject[SUBJECT_SIZE], stream[JOURNAL_NAME_SIZE], key[ID_SIZE + 64];
    int rc = 0;
    if (!n->cluster[0]) { /* which copies speak of this journal is not known yet */
        again(n, r);
        return;
    }
    switch (r->step) {
    case STEP_LOCAL:
        rc = store_load(n->store, token_of(r, STORE_TOKEN_RESTORE), STORE_HELD, room);
        break;
    case STEP_REMOTE:
        rc = bus_kv_get(n->bus, token, "snapshots", room, READ_MS);
        break;
    case STEP_CHUNK:
        rc = bus_kv_get(n->bus, token, "snapshots", carry_key(key, room, &r->incoming_mark, r->chunk), READ_MS);
        break;
    case STEP_LAST:
        rc = bus_log_last(n->bus, token, append_stream(stream, room), subject_journal(subject, room), READ_MS);
        break;
    case STEP_MARK:
        append_mark(n, r);
        return;
    case STEP_READ:
        rc = bus_log_next(n->bus, token, append_stream(stream, room), subject_journal(subject, room), r->at + 1, READ_MS);
        break;
    }
    if (rc)
        again(n, r);
}

static void resume(struct node *n, struct restoring *r)
{
    struct room_info info = r->info;
    fault_point("takeover_replayed");
    int code = host_resume(n->host, info.id.s, n->now);
    if (code) {
        r->built = code != ROOM_E_CANCELLED;
        fail(n, r, code, "it had ended, or does not run");
        return;
    }
    bool journal = info.durability == ROOM_DURABILITY_JOURNAL;
    if (!keep_add(n, host_find(n->host, info.id.s)) || (journal && !append_open(n, info.id.s, info.epoch, r->last)) ||
        !talk_open(n, info.id.s)) {
        append_close(n, info.id.s);
        keep_remove(n, info.id.s);
        fail(n, r, ROOM_E_NO_MEMORY, "no memory for its journal");
        return;
    }
    struct kept *k = keep_room(n, info.id.s);
    int64_t age = journal ? 0 : n->wall.ms - r->saved.ms;
    if (k) {
        k->again = true; /* a whole image of the new epoch, as soon as may be */
        k->took_ms = mono_diff_ms(r->began, n->now);
        k->age_ms = age > 0 ? age : 0;
    } else {
        carry_forget(n, info.id.s, info.epoch); /* it was saved only to be moved */
    }
    if (n->config.log)
        LOG_DBG("room restored", "room=%s epoch=%llu position=%llu batches=%u bytes=%zu looks=%d", info.id.s,
                (unsigned long long)info.epoch, (unsigned long long)r->mark.position, r->replayed, r->len, r->looks);
    fault_point("takeover_resumed");
    end(n, r);
    tell(n, &info, 0);
}

/* All copies were seen: the room is made of the best, and for journalled rooms the tail follows. */
static void build(struct node *n, struct restoring *r)
{
    bool journal = r->info.durability == ROOM_DURABILITY_JOURNAL;
    struct err_detail detail = {{0}};
    if (!r->image && !(journal && r->any)) {
        fail(n, r, r->damaged ? ROOM_E_IO : ROOM_E_NOT_FOUND,
             r->damaged ? "all snapshots that can be reached are damaged" : "there is no snapshot of it");
        return;
    }
    struct host_restore h = {.id = r->info.id.s, .epoch = r->info.epoch, .image = r->image, .image_len = r->len,
                             .position = r->mark.position};
    int code = host_restore(n->host, &h, n->now, &detail);
    if (code) {
        fail(n, r, code, detail.text);
        return;
    }
    r->built = true;
    if (!journal) {
        resume(n, r);
        return;
    }
    r->at = r->mark.position;
    go(n, r, STEP_READ);
}

static void take_incoming(struct node *n, struct restoring *r)
{
    drop_image(n, &r->image, &r->len);
    r->image = r->incoming;
    r->len = r->incoming_len;
    r->mark = r->incoming_mark;
    memcpy(r->cluster, r->incoming_cluster, sizeof(r->cluster));
    r->saved = r->incoming_saved;
    r->incoming = NULL;
    r->incoming_len = 0;
}

/* What was read does not fit together: some of it may be stale, and is not for long. */
static void anew(struct node *n, struct restoring *r, const char *detail)
{
    if (r->looks++ >= LOOKS_MAX) {
        fail(n, r, ROOM_E_IO, detail);
        return;
    }
    host_discard(n->host, r->info.id.s);
    r->built = false;
    drop_image(n, &r->image, &r->len);
    r->mark = (struct store_mark){0};
    r->step = STEP_LOCAL;
    again(n, r);
}

/* It was given away with a newer copy than any that was seen: the bucket's answer is stale, and will not be for long. */
static bool stale(const struct restoring *r)
{
    struct store_mark given = {.epoch = r->info.saved_epoch, .version = r->info.saved_version};
    return given.epoch && (!r->image || store_mark_cmp(&r->mark, &given) < 0) && r->looks < LOOKS_MAX;
}

static void copies_seen(struct node *n, struct restoring *r)
{
    if (stale(r))
        anew(n, r, "the bucket does not show the snapshot it was given away with");
    else if (r->info.durability == ROOM_DURABILITY_JOURNAL)
        go(n, r, STEP_LAST);
    else
        build(n, r);
}

static void offer(struct node *n, struct restoring *r, const void *image, size_t len)
{
    drop_image(n, &r->incoming, &r->incoming_len);
    r->incoming = len ? alloc_get(n->alloc, len) : NULL;
    if (!r->incoming)
        return;
    r->incoming_len = len;
    if (image)
        memcpy(r->incoming, image, len);
}

static void damaged(struct node *n, struct restoring *r)
{
    r->damaged = true;
    if (n->config.log)
        LOG_ERR("a snapshot in the bucket is damaged", "room=%s epoch=%llu version=%llu", r->info.id.s,
                (unsigned long long)r->incoming_mark.epoch, (unsigned long long)r->incoming_mark.version);
}

static void checked(struct node *n, struct restoring *r)
{
    if (XXH3_64bits(r->incoming, r->incoming_len) == r->incoming_sum)
        take_incoming(n, r);
    else
        damaged(n, r);
    copies_seen(n, r);
}

static void remote_entry(struct node *n, struct restoring *r, const struct bus_event *ev)
{
    struct wire_snapshot_entry e;
    struct mp_read m;
    struct mp_token t;
    char sum[17];
    int rc = wire_snapshot_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL);
    if (!rc)
        r->incoming_mark = (struct store_mark){(uint64_t)e.epoch, (uint64_t)e.position, (uint64_t)e.version};
    bool newer = !rc && !r->no_image && (!r->image || store_mark_cmp(&r->incoming_mark, &r->mark) > 0);
    r->damaged |= rc != 0;
    if (!newer || e.bytes <= 0 || e.bytes > KEEP_IMAGE_MAX || e.checksum.len != 16 || e.codec != KEEP_CODEC) {
        copies_seen(n, r);
        return;
    }
    snprintf(sum, sizeof(sum), "%.16s", e.checksum.data);
    snprintf(r->incoming_cluster, sizeof(r->incoming_cluster), "%.*s", (int)(e.cluster.len < ULID_SIZE ? e.cluster.len : 0),
             e.cluster.data);
    r->incoming_sum = strtoull(sum, NULL, 16);
    r->incoming_saved = n->wall;
    (void)time_from_rfc3339(e.saved.data, e.saved.len, &r->incoming_saved);
    r->chunk = 0;
    r->chunks = (uint32_t)e.chunks;
    if (e.chunks) {
        offer(n, r, NULL, (size_t)e.bytes);
        if (!r->incoming || e.chunks != (e.bytes + CARRY_CHUNK - 1) / CARRY_CHUNK)
            copies_seen(n, r);
        else
            go(n, r, STEP_CHUNK);
        return;
    }
    mp_read_init(&m, e.data.data, e.data.len);
    if (!e.data.len || mp_next(&m, &t, NULL) || t.type != MP_BIN || t.len != e.bytes) {
        copies_seen(n, r);
        return;
    }
    offer(n, r, t.data, t.len);
    if (r->incoming)
        checked(n, r);
    else
        again(n, r);
}

static void chunk(struct node *n, struct restoring *r, const struct bus_event *ev)
{
    size_t from = (size_t)r->chunk * CARRY_CHUNK;
    size_t want = r->incoming_len - from < CARRY_CHUNK ? r->incoming_len - from : CARRY_CHUNK;
    if (ev->result != BUS_OK || ev->len != want) { /* replaced while we read: there is a newer entry, or another copy */
        if (r->looks++ < CHUNK_LOOKS_MAX) {
            go(n, r, STEP_REMOTE);
        } else {
            damaged(n, r);
            copies_seen(n, r);
        }
        return;
    }
    memcpy(r->incoming + from, ev->data, want);
    if (++r->chunk < r->chunks)
        proceed(n, r);
    else
        checked(n, r);
}

static void replayed(struct node *n, struct restoring *r, const struct bus_event *ev)
{
    struct append_message m;
    if (ev->result == BUS_NOT_FOUND || ev->revision > r->last) {
        anew(n, r, "the journal does not show our own mark");
        return;
    }
    if (!append_unwrap(ev->data, ev->len, &m)) {
        fail(n, r, ROOM_E_IO, "the journal holds what is no batch");
        return;
    }
    if (m.before != r->at) {
        r->no_image = m.before == 0 && m.epoch > r->mark.epoch;
        anew(n, r, "the journal has a gap");
        return;
    }
    r->at = ev->revision;
    r->replayed++;
    fault_point("takeover_replay");
    int code = host_replay(n->host, r->info.id.s, ev->revision, m.batch, m.batch_len);
    if (code)
        fail(n, r, code, "a batch of the journal does not fit the state");
    else if (r->at < r->last)
        proceed(n, r);
    else
        resume(n, r);
}

/* What our mark would go behind. */
static void last_seen(struct node *n, struct restoring *r, const struct bus_event *ev)
{
    struct append_message m;
    bool found = ev->result == BUS_OK;
    if (found && append_unwrap(ev->data, ev->len, &m) && m.epoch > r->info.epoch) {
        fail(n, r, ROOM_E_FENCED, "a later owner has written to its journal");
        return;
    }
    r->last = found ? ev->revision : 0;
    go(n, r, STEP_MARK);
}

void revive_done(struct node *n, const struct bus_event *ev)
{
    struct restoring *r = umap_get(&n->restore_serials, ev->token & TOKEN_MASK);
    bool answered = ev->result == BUS_OK || ev->result == BUS_NOT_FOUND || ev->result == BUS_CONFLICT;
    if (!r)
        return;
    if (!answered) {
        if (r->step == STEP_MARK) /* it may have been applied: look at what is last now */
            r->step = STEP_LAST;
        again(n, r);
        return;
    }
    switch (r->step) {
    case STEP_REMOTE:
        if (ev->result == BUS_OK)
            remote_entry(n, r, ev);
        else
            copies_seen(n, r);
        return;
    case STEP_CHUNK:
        chunk(n, r, ev);
        return;
    case STEP_LAST:
        last_seen(n, r, ev);
        return;
    case STEP_MARK:
        if (ev->result != BUS_OK) {
            go(n, r, STEP_LAST);
            return;
        }
        if (r->last < r->mark.position || strcmp(r->cluster, n->cluster) != 0)
            r->mark.position = 0; /* the stream is another than the image speaks of: all of it is newer */
        fault_point("takeover_marked");
        r->any = r->last > 0;
        r->last = ev->revision;
        build(n, r);
        return;
    case STEP_READ:
        replayed(n, r, ev);
        return;
    }
}

void revive_store(struct node *n, const struct store_event *ev)
{
    struct restoring *r = umap_get(&n->restore_serials, ev->token & TOKEN_MASK);
    const uint8_t *image;
    size_t len;
    if (!r || r->step != STEP_LOCAL)
        return;
    if (ev->kind == STORE_EV_SNAPSHOT) {
        if (r->no_image || !keep_unwrap(&ev->snapshot, r->incoming_cluster, &image, &len))
            return;
        offer(n, r, image, len);
        if (!r->incoming)
            return;
        r->incoming_mark = ev->snapshot.mark;
        r->incoming_saved = ev->snapshot.saved;
        take_incoming(n, r);
        return;
    }
    r->damaged |= ev->result == STORE_DAMAGED || ev->result == STORE_IO;
    go(n, r, STEP_REMOTE);
}

void revive_tick(struct node *n)
{
    if (!n->restores.count || !n->bus_up)
        return;
    for (struct umap_iter it = umap_first(&n->restore_serials); it.value; umap_next(&it)) {
        struct restoring *r = it.value;
        if (!r->waits || !mono_reached(n->now, r->retry_at))
            continue;
        r->waits = false;
        proceed(n, r);
    }
}

void revive_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->restores); it.value; map_next(&it)) {
        struct restoring *r = it.value;
        drop_image(n, &r->image, &r->len);
        drop_image(n, &r->incoming, &r->incoming_len);
        alloc_put(n->alloc, r, sizeof(*r));
    }
    map_deinit(&n->restores);
    umap_deinit(&n->restore_serials);
}
