/*
 * What this node needs on the bus: the registries' buckets, those of revoked tokens and of snapshots, the journal's streams;
 * and which incarnation of them this is.
 *
 * Decides: when they are made, and what becomes of the snapshots an earlier process left on this node's disk. The first
 * node of a new cluster writes an id into the bucket `cluster`; every snapshot on disk bears the one it was made under. If
 * it is the present one, the listing is right, and a room that is not listed has ended: it is forgotten. If it is another
 * one, the registries were lost: the core is told of the room, and its snapshot goes to the bucket, so that the newest copy
 * of all nodes wins.
 * Weak point: a node that comes back after the others have recovered a room from older copies is too late with its own.
 */
#include "node/state.h"

#include <stdio.h>

/* A lock that nobody wants any more is forgotten: long after the longest ttl, when anybody might have it anyway. */
enum { LOCK_KEEP_MS = 24 * LOCK_TTL_MAX_MS };
enum { MAKE_MS = 5000, KV_MS = 2000, HELD_PAGE = 32 };
enum { SERVERS, ROOMS, LOCKS, REVOKED, MATCHMAKING, SHARED, PLAYERS, SESSIONS, SNAPSHOTS, CLUSTER, STREAMS,
       INBOX = STREAMS + JOURNAL_STREAMS, ALL };
_Static_assert(ALL < 32, "a bit for each");

static const char *name_of(unsigned which)
{
    static const char *const names[] = {"servers", "rooms",    "locks",     "revoked", "matchmaking",
                                        "shared",  "players", "sessions", "snapshots", "cluster"};
    return which < STREAMS ? names[which] : which == INBOX ? "inbox" : "journal";
}

static void make(struct node *n, unsigned which)
{
    uint64_t token = which | (uint64_t)TOKEN_BUCKET << TOKEN_SHIFT;
    int rc;
    if (which < STREAMS) {
        struct bus_bucket b = {.name = name_of(which), .replicas = n->config.replicas, .watched = which <= SHARED,
                               .ttl_ms = which == SERVERS     ? n->config.server_ttl_ms
                                         : which == LOCKS     ? LOCK_KEEP_MS
                                         : which == SNAPSHOTS ? n->config.snapshot_ttl_ms
                                         : which == PLAYERS || which == SESSIONS ? PRESENCE_TTL_MS
                                                              : 0};
        rc = bus_kv_bucket(n->bus, token, &b, MAKE_MS);
    } else if (which == INBOX) { /* what is not good any more, and marks, stand beside what is */
        struct bus_stream s = {.name = INBOX_NAME, .subjects = "inbox.*", .replicas = n->config.replicas,
                               .ttl_ms = n->config.inbox_ttl_ms, .max_per_subject = 2 * n->config.inbox_messages + 2};
        rc = bus_stream(n->bus, token, &s, MAKE_MS);
    } else {
        char stream[JOURNAL_NAME_SIZE], subjects[SUBJECT_SIZE];
        subject_journal_name(stream, which - STREAMS);
        snprintf(subjects, sizeof(subjects), "journal.%u.*", which - STREAMS);
        struct bus_stream s = {.name = stream, .subjects = subjects, .replicas = n->config.replicas};
        rc = bus_stream(n->bus, token, &s, MAKE_MS);
    }
    if (rc)
        n->retry_buckets = true;
}

static bool wanted(const struct node *n, unsigned which)
{
    bool used = which <= LOCKS || which == PLAYERS || which == SESSIONS ||
                (which == REVOKED       ? n->config.login != NULL
                 : which == MATCHMAKING ? n->matching != NULL
                 : which == SHARED      ? n->config.shared
                 : which == INBOX       ? n->config.inbox_messages > 0
                                        : n->store != NULL);
    return used && !(n->buckets_ready & (1u << which));
}

bool cluster_has_locks(const struct node *n)
{
    return n->buckets_ready & (1u << LOCKS);
}

bool cluster_has_matchmaking(const struct node *n)
{
    return n->buckets_ready & (1u << MATCHMAKING);
}

bool cluster_has_shared(const struct node *n)
{
    return n->buckets_ready & (1u << SHARED);
}

static void make_all(struct node *n)
{
    for (unsigned i = 0; i < ALL; i++)
        if (wanted(n, i))
            make(n, i);
}

void cluster_bus_up(struct node *n)
{
    if (n->buckets_ready == 0)
        make_all(n);
}

static void read_id(struct node *n)
{
    n->cluster_busy = bus_kv_get(n->bus, (uint64_t)TOKEN_CLUSTER << TOKEN_SHIFT, "cluster", "id", KV_MS) == 0;
}

static void write_id(struct node *n)
{
    char since[TIME_RFC3339_SIZE], ulid[ULID_SIZE];
    struct wire_cluster_entry e;
    time_rfc3339(n->wall, since);
    id_ulid(ulid, n->wall, &n->rng);
    e.since = wire_str(since);
    id_set(&e.id, ulid);
    buf_reset(&n->scratch);
    n->cluster_busy = wire_cluster_entry_to_json(&e, &n->scratch) == 0 &&
                      bus_kv_put(n->bus, (uint64_t)TOKEN_CLUSTER << TOKEN_SHIFT | 1, "cluster", "id", 0, n->scratch.data,
                                 n->scratch.len, KV_MS) == 0;
}

/* Whoever wrote it: what counts is what is read. */
void cluster_done(struct node *n, const struct bus_event *ev)
{
    struct wire_cluster_entry e;
    bool written = (ev->token & TOKEN_MASK) == 1;
    n->cluster_busy = false;
    if (written || n->cluster[0])
        return;
    if (ev->result == BUS_NOT_FOUND)
        write_id(n);
    else if (ev->result == BUS_OK &&
             wire_cluster_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL) == 0 &&
             strlen(e.id.s) == ULID_SIZE - 1)
        memcpy(n->cluster, e.id.s, ULID_SIZE);
}

void cluster_bucket_done(struct node *n, const struct bus_event *ev)
{
    unsigned which = (unsigned)(ev->token & TOKEN_MASK);
    if (ev->result == BUS_OK || ev->result == BUS_CONFLICT) {
        n->buckets_ready |= 1u << which;
        int rc = which <= REVOKED ? bus_kv_watch(n->bus, name_of(which)) : 0;
        if (rc && n->config.log)
            LOG_ERR("cannot watch a registry", "bucket=%s err=%s", name_of(which), room_error_name(rc));
        return;
    }
    if (n->config.log && ev->result == BUS_REFUSED)
        LOG_ERR("bucket or stream refused, trying again", "name=%s detail=\"%.*s\"", name_of(which),
                (int)(ev->len < 200 ? ev->len : 200), ev->data ? (const char *)ev->data : "");
    else if (n->config.log)
        LOG_WRN("bucket or stream not there yet, trying again", "name=%s detail=\"%s\"", name_of(which),
                ev->result == BUS_NO_RESPONDERS ? "JetStream does not answer: is it on (nats-server -js), and has it a leader?"
                                                : "no answer in time");
    n->retry_buckets = true;
}

static void list_held(struct node *n)
{
    struct held_scan *h = &n->held;
    h->last = false;
    h->busy = store_list(n->store, (uint64_t)STORE_TOKEN_HELD << TOKEN_SHIFT, STORE_HELD, h->after.s[0] ? h->after.s : NULL,
                         HELD_PAGE) == 0;
}

static void page_over(struct node *n)
{
    struct held_scan *h = &n->held;
    if (h->loading)
        return;
    h->busy = false;
    h->done = h->last;
}

/* The rooms of which this disk has snapshots, a page at a time. */
void cluster_held(struct node *n, const struct store_event *ev)
{
    struct held_scan *h = &n->held;
    if (ev->kind == STORE_EV_ROOM) {
        id_set(&h->after, ev->snapshot.room);
        h->loading += store_load(n->store, (uint64_t)STORE_TOKEN_HELD_LOAD << TOKEN_SHIFT, STORE_HELD, ev->snapshot.room) == 0;
        return;
    }
    h->last = ev->result != STORE_OK || ev->count < HELD_PAGE;
    page_over(n);
}

static void lost_registry(struct node *n, const struct store_snapshot *s)
{
    struct queued *q = step_event(n, CORE_EV_HELD);
    const struct room_type_def *def = types_find(n->config.types, s->type);
    if (!q || !def)
        return;
    q->room = (struct room_info){.epoch = s->mark.epoch, .durability = (uint8_t)def->durability, .created = s->saved,
                                 .max_players = def->max_players, .is_private = def->private_room};
    id_set(&q->room.id, s->room);
    id_set(&q->room.type, s->type);
    q->ev.room = &q->room;
    carry_add(n, s->room, STORE_HELD);
}

void cluster_held_loaded(struct node *n, const struct store_event *ev)
{
    char cluster[ULID_SIZE];
    const uint8_t *image;
    size_t len;
    if (ev->kind != STORE_EV_SNAPSHOT) {
        n->held.loading--;
        page_over(n);
        return;
    }
    const struct store_snapshot *s = &ev->snapshot;
    if (!keep_unwrap(s, cluster, &image, &len) || host_find(n->host, s->room) || map_get(&n->restores, s->room))
        return;
    bool listed = view_room(core_view(n->core), s->room) != NULL;
    if (strcmp(cluster, n->cluster) != 0)
        lost_registry(n, s);
    else if (!listed)
        (void)store_forget(n->store, 0, s->room);
}

void cluster_tick(struct node *n)
{
    if (!n->bus_up)
        return;
    if (n->retry_buckets && mono_reached(n->now, n->next_beat)) {
        n->retry_buckets = false;
        make_all(n);
    }
    if (!n->store)
        return;
    if (!n->cluster[0] && !n->cluster_busy && (n->buckets_ready & (1u << CLUSTER)))
        read_id(n);
    if (n->cluster[0] && !n->held.done && !n->held.busy && core_may_serve(n->core))
        list_held(n);
}
