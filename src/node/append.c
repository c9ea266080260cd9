/*
 * The journal of the rooms that run here: batches of the room host go to the room's subject, and what the stream says of
 * them goes back to the host.
 *
 * Decides: when an append is repeated and when it counts. One append per room is under way; its fence is the sequence of
 * the subject's last message. An unknown result is settled by sending the same again with the same fence: if the first
 * copy was applied after all, the second one conflicts, and the last message then bears our epoch and number. A last
 * message of a higher epoch means that somebody else owns the room: the core is told to look. Purges cost the stream more the
 * more is in it (10 to 30 ms at 100,000 messages): one per stream is under way, those of one room replace each other.
 * Must not know what is in a batch beyond its epoch and number. Each message also bears the sequence of the one before, so
 * that a reader sees a gap.
 */
#include "node/state.h"

enum { APPEND_MS = 2000, PURGE_MS = 5000, PAUSE_MIN_MS = 25, PAUSE_MAX_MS = 400 };

const char *append_stream(char out[JOURNAL_NAME_SIZE], const char *room)
{
    return subject_journal_name(out, subject_journal_stream(room));
}

void append_wrap(struct buf *out, uint64_t before, const void *batch, size_t len)
{
    mp_write_array(out, 2);
    mp_write_uint(out, before);
    buf_write(out, batch, len);
}

bool append_unwrap(const uint8_t *data, size_t len, struct append_message *out)
{
    struct mp_read r, batch;
    struct mp_token t;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY || t.count != 2 || mp_next(&r, &t, NULL) || t.type != MP_INT || t.i < 0)
        return false;
    out->before = (uint64_t)t.i;
    out->batch = r.at;
    out->batch_len = (size_t)(r.end - r.at);
    batch = r;
    if (mp_next(&batch, &t, NULL) || t.type != MP_ARRAY || t.count != 4 || mp_next(&batch, &t, NULL) || t.type != MP_INT ||
        mp_next(&batch, &t, NULL) || t.type != MP_INT || t.i < 0)
        return false;
    out->epoch = (uint64_t)t.i;
    if (mp_next(&batch, &t, NULL) || t.type != MP_INT || t.i < 0)
        return false;
    out->number = (uint64_t)t.i;
    return true;
}

static void pause(struct node *n, struct journal *j)
{
    j->pause_ms = j->pause_ms ? j->pause_ms * 2 : PAUSE_MIN_MS;
    if (j->pause_ms > PAUSE_MAX_MS)
        j->pause_ms = PAUSE_MAX_MS;
    j->retry_at = mono_add_ms(n->now, j->pause_ms);
    if (!j->waits)
        n->journals_waiting++;
    j->waits = true;
}

static uint64_t token_of(const struct journal *j)
{
    return j->serial | (uint64_t)TOKEN_JOURNAL << TOKEN_SHIFT;
}

static void write_batch(struct node *n, struct journal *j)
{
    char subject[SUBJECT_SIZE];
    j->reading = false;
    buf_reset(&n->scratch);
    append_wrap(&n->scratch, j->last, j->batch, j->batch_len);
    int rc = n->scratch.failed ? ROOM_E_NO_MEMORY
                               : bus_log_append(n->bus, token_of(j), subject_journal(subject, j->room.s), j->last,
                                                n->scratch.data, n->scratch.len, APPEND_MS);
    if (rc)
        pause(n, j);
}

static void read_last(struct node *n, struct journal *j)
{
    char subject[SUBJECT_SIZE], stream[JOURNAL_NAME_SIZE];
    j->reading = true;
    if (bus_log_last(n->bus, token_of(j), append_stream(stream, j->room.s), subject_journal(subject, j->room.s), APPEND_MS))
        pause(n, j);
}

static void free_journal(struct node *n, struct journal *j)
{
    alloc_put(n->alloc, j->batch, j->batch_len);
    n->journals_waiting -= j->waits;
    umap_del(&n->journal_serials, j->serial);
    alloc_put(n->alloc, j, sizeof(*j));
}

bool append_open(struct node *n, const char *room, uint64_t epoch, uint64_t last)
{
    struct journal *j = alloc_get(n->alloc, sizeof(*j));
    if (!j)
        return false;
    id_set(&j->room, room);
    j->serial = ++n->last_errand;
    j->epoch = epoch;
    j->last = last;
    j->fresh = last == 0;
    if (umap_put(&n->journal_serials, j->serial, j) && map_put(&n->journals, room, j))
        return true;
    free_journal(n, j);
    return false;
}

/* An append under way may still be applied; whoever takes the room over reads it or has fenced it off. */
void append_close(struct node *n, const char *room)
{
    struct journal *j = map_del(&n->journals, room);
    if (j)
        free_journal(n, j);
}

void append_batch(struct node *n, const char *room, uint64_t epoch, uint64_t number, const void *data, size_t len)
{
    struct journal *j = map_get(&n->journals, room);
    if (!j && append_open(n, room, epoch, 0)) /* the first word of a new room */
        j = map_get(&n->journals, room);
    uint8_t *copy = j ? alloc_get(n->alloc, len) : NULL;
    if (!copy) { /* nothing can be acknowledged any more: somebody else must have the room, or this node when it can */
        node_doubt(n, room);
        return;
    }
    ASSERT(!j->batch);
    memcpy(copy, data, len);
    j->batch = copy;
    j->batch_len = len;
    j->number = number;
    write_batch(n, j);
}

/* While this node is isolated, the room may be another's by now: what it says waits until the registry has told. */
static bool held_back(struct node *n, struct journal *j, uint64_t sequence)
{
    if (!core_is_isolated(n->core))
        return false;
    j->held = sequence;
    j->reading = false;
    pause(n, j);
    return true;
}

static void durable(struct node *n, struct journal *j, uint64_t sequence)
{
    if (held_back(n, j, sequence))
        return;
    j->held = 0;
    struct id room = j->room;
    uint64_t epoch = j->epoch, number = j->number;
    fault_point("append_durable");
    j->last = sequence;
    j->pause_ms = 0;
    j->fresh = j->empty = false;
    j->tail_count++;
    j->tail_bytes += j->batch_len;
    alloc_put(n->alloc, j->batch, j->batch_len);
    j->batch = NULL;
    j->batch_len = 0;
    keep_grown(n, j);
    host_appended(n->host, room.s, epoch, number, sequence, n->now); /* may end the room, and `j` with it */
    keep_carried(n, room.s); /* one that is given away may have waited for this */
}

/* Both answers may be some seconds old if a NATS server hung, and whoever writes to an emptied subject is let in: so they
 * must be the same for SURE_MS. */
enum { SURE_MS = 10000 };

/* Nothing is there any more: the stream was lost, or a later owner has ended the room and forgotten it. The entry says which. */
static void ask_owner(struct node *n, struct journal *j)
{
    j->asking = true;
    if (bus_kv_get(n->bus, token_of(j), "rooms", j->room.s, APPEND_MS)) {
        j->asking = false;
        pause(n, j);
    }
}

static void asked(struct node *n, struct journal *j, const struct bus_event *ev)
{
    struct room_info info;
    j->asking = j->reading = false;
    if (ev->result == BUS_OK && registry_room(&info, j->room.s, ev->data, ev->len, &n->scratch, NULL) &&
        info.epoch == j->epoch && strcmp(info.boot, core_self(n->core)->boot) == 0) {
        bool sure = j->fresh || (j->empty && mono_diff_ms(j->empty_since, n->now) > SURE_MS);
        if (!j->empty)
            j->empty_since = n->now;
        j->empty = true;
        if (sure) {
            j->last = 0; /* what we have in memory is all there is: an image of it must not rest on what was lost */
            write_batch(n, j);
            keep_anew(n, j->room.s);
        } else {
            pause(n, j);
        }
        return;
    }
    j->empty = false;
    pause(n, j);
    if (ev->result == BUS_OK || ev->result == BUS_NOT_FOUND)
        node_doubt(n, j->room.s);
}

/* What is last on the subject now that our fence does not hold? */
static void judge(struct node *n, struct journal *j, const struct bus_event *ev)
{
    struct append_message m;
    if (ev->result == BUS_NOT_FOUND) {
        ask_owner(n, j);
    } else if (ev->result != BUS_OK) {
        pause(n, j);
    } else if (j->fresh && (!append_unwrap(ev->data, ev->len, &m) || m.epoch < j->epoch)) {
        append_purge(n, j->room.s, ev->revision + 1); /* of a room of this name that ended, and whose purge was lost */
        pause(n, j);
        j->reading = false;
    } else if (!append_unwrap(ev->data, ev->len, &m) || m.epoch < j->epoch) {
        j->last = ev->revision; /* a late word of a former owner: no reader heeds it, but the fence has moved */
        write_batch(n, j);
    } else if (m.epoch == j->epoch && m.number == j->number) {
        durable(n, j, ev->revision);
    } else {
        j->pause_ms = PAUSE_MAX_MS;
        pause(n, j);
        node_doubt(n, j->room.s);
    }
}

void append_done(struct node *n, const struct bus_event *ev)
{
    struct journal *j = umap_get(&n->journal_serials, ev->token & TOKEN_MASK);
    if (!j || !j->batch)
        return;
    if (j->asking)
        asked(n, j, ev);
    else if (j->reading)
        judge(n, j, ev);
    else if (ev->result == BUS_OK)
        durable(n, j, ev->revision);
    else if (ev->result == BUS_CONFLICT)
        read_last(n, j);
    else
        pause(n, j);
}

void append_tick(struct node *n)
{
    if (!n->journals_waiting || !n->bus_up)
        return;
    for (struct map_iter it = map_first(&n->journals); it.value; map_next(&it)) {
        struct journal *j = it.value;
        if (!j->waits || !mono_reached(n->now, j->retry_at))
            continue;
        j->waits = false;
        n->journals_waiting--;
        if (j->held)
            durable(n, j, j->held);
        else if (j->reading)
            read_last(n, j);
        else
            write_batch(n, j);
    }
}

static void start_purges(struct node *n)
{
    for (struct map_iter it = map_first(&n->purges); it.value && n->bus_up; map_next(&it)) {
        struct purge *p = it.value;
        char subject[SUBJECT_SIZE], stream[JOURNAL_NAME_SIZE];
        unsigned k = subject_journal_stream(it.key);
        if (p->waits || n->purging[k].s[0])
            continue;
        if (bus_log_purge(n->bus, (uint64_t)TOKEN_PURGE << TOKEN_SHIFT | k, append_stream(stream, it.key),
                          subject_journal(subject, it.key), p->below, PURGE_MS))
            return;
        id_set(&n->purging[k], it.key);
        p->asked = p->below;
    }
}

static void set_purge(struct node *n, const char *room, uint64_t below, bool waits)
{
    struct purge *p = map_get(&n->purges, room);
    if (!p) {
        p = alloc_get(n->alloc, sizeof(*p));
        if (!p || !map_put(&n->purges, room, p)) {
            alloc_put(n->alloc, p, sizeof(*p));
            return; /* the next snapshot purges again; of a room that has ended a little stays, and is no harm */
        }
        *p = (struct purge){0};
    }
    p->below = below;
    p->waits = waits;
}

void append_purge(struct node *n, const char *room, uint64_t below)
{
    set_purge(n, room, below, false);
    start_purges(n);
}

/* By then the name may be another room's, on another node: no more than what was this one's may go. */
void append_ended(struct node *n, const char *room, uint64_t last)
{
    set_purge(n, room, last + 1, true);
}

void append_forget(struct node *n, const char *room)
{
    struct purge *p = map_get(&n->purges, room);
    if (p)
        p->waits = false;
    start_purges(n);
}

void append_bus_up(struct node *n)
{
    start_purges(n);
}

/* One that failed is asked for again: of an ended room nobody else would. */
void append_purged(struct node *n, const struct bus_event *ev)
{
    struct id *room = &n->purging[ev->token & TOKEN_MASK];
    struct purge *p = map_get(&n->purges, room->s);
    bool over = ev->result == BUS_OK || ev->result == BUS_REFUSED;
    fault_point("journal_purged");
    if (p && over && p->below <= p->asked) {
        map_del(&n->purges, room->s);
        alloc_put(n->alloc, p, sizeof(*p));
    }
    *room = (struct id){0};
    start_purges(n);
}

void append_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->journals); it.value; map_next(&it))
        free_journal(n, it.value);
    for (struct map_iter it = map_first(&n->purges); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct purge));
    map_deinit(&n->purges);
    map_deinit(&n->journals);
    umap_deinit(&n->journal_serials);
}
