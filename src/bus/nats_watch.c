/*
 * Following a bucket: the leader republishes each change on a core subject; a listing closes every possible gap.
 *
 * Decides: when to list (start, reconnect, gap, drop, soon after each of these, and every minute), and which entries are
 * news. Must not know what the keys mean. Invariant: BUS_EV_SYNCED is only said of a listing that covers everything heard
 * before it began, so that the receiver may sweep what it did not see.
 *
 * Listing: a short-lived consumer without acknowledgements that is sent the last entry of every key: one round trip for the
 * whole bucket. It may sit on a replica that lags a little, hence the check against the newest revision known, and the
 * second listing soon after. Expired entries are noticed by the minute listing only.
 *
 * A deletion leaves a marker in the stream, one for each key that ever was. A marker seen for keep_deleted_ms is purged, by
 * whoever follows the bucket; by then nobody can have missed it. The newest one stays: it says how new the bucket is.
 */
#include "bus/nats_engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/nats_kv.h"

enum { BODY_MAX = 2048, STALE_TRIES = 5, PURGES_MAX = 1000 /* in one listing */ };

static const int64_t JITTER_PART = 6, SOON_US = 2000000, PATIENCE_US = 5000000,
                     RETRY_US = 500000, GAP_US = 100000, BUSY_US = 50000;

static struct watch *find(struct bus_nats *b, uint32_t number)
{
    struct watch *w = b->watches;
    while (w && w->number != number)
        w = w->next;
    return w;
}

static void end_list(struct bus_nats *b, struct watch *w)
{
    w->listing = false;
    if (w->list)
        nats_sub_close(b, w->list);
    w->list = NULL;
}

/* Something was missed, or this listing is worth nothing: list again after `wait_us`, or earlier if that is planned. */
static void spoil(struct bus_nats *b, struct watch *w, int64_t wait_us)
{
    int64_t due = nats_now_us() + wait_us;
    end_list(b, w);
    w->settled = false;
    w->due_us = due < w->due_us ? due : w->due_us;
}

static bool mark(struct bus_nats *b, struct watch *w, enum bus_event_kind kind)
{
    return nats_emit(b, &(struct bus_event){.kind = kind, .bucket = nats_strip(b, w->bucket)}, false);
}

static void begin(struct bus_nats *b, struct watch *w)
{
    char subject[NATS_SUBJECT_SIZE], deliver[NATS_SUBJECT_SIZE], reply[NATS_SUBJECT_SIZE];
    struct buf body;
    if (!nats_up(b) || !queue_roomy(&b->events) || !mark(b, w, BUS_EV_SYNC)) {
        w->due_us = nats_now_us() + BUSY_US;
        return;
    }
    end_list(b, w);
    w->listing = true;
    w->floor = w->newest;
    w->listed = 0;
    w->list_no++;
    w->due_us = nats_now_us() + PATIENCE_US;
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.CREATE.KV_%s", w->bucket);
    snprintf(deliver, sizeof deliver, "%sL.%" PRIu32 ".%" PRIu32, b->inbox, w->number, w->list_no);
    snprintf(reply, sizeof reply, "%s.w.%" PRIu32 ".%" PRIu32, b->inbox, w->number, w->list_no);
    buf_init(&body, &alloc_libc, BODY_MAX);
    nats_kv_list_body(&body, w->bucket, deliver);
    w->list = nats_sub_open(b, w->list_no, w->number, deliver);
    if (!w->list || body.failed || !nats_send(b, subject, reply, body.data, body.len))
        spoil(b, w, RETRY_US);
    buf_deinit(&body);
}

/* Up to the marker and no further: what has been written to the key since stays. */
static void purge(struct bus_nats *b, const struct watch *w, const struct watch_key *key)
{
    char subject[NATS_SUBJECT_SIZE], body[NATS_SUBJECT_SIZE + 64];
    snprintf(subject, sizeof subject, "$JS.API.STREAM.PURGE.KV_%s", w->bucket);
    int len = snprintf(body, sizeof body, "{\"filter\":\"$KV.%s.%s\",\"seq\":%" PRIu64 "}", w->bucket, key->key,
                       key->revision + 1);
    (void)nats_send(b, subject, NULL, body, (size_t)len); /* not done: the next listing shows it again */
}

/* Forgets what this listing did not show, and what has been gone for long enough. */
static void sweep(struct bus_nats *b, struct watch *w)
{
    struct watch_key *key, *tmp;
    int64_t long_gone = nats_now_us() - b->config.keep_deleted_ms * 1000;
    int left = PURGES_MAX;
    HASH_ITER(hh, w->keys, key, tmp)
    {
        if (key->seen < w->list_no) {
            HASH_DEL(w->keys, key);
            free(key);
        } else if (key->gone_us && key->gone_us <= long_gone && key->revision < w->newest && left-- > 0) {
            purge(b, w, key);
        }
    }
}

static void complete(struct bus_nats *b, struct watch *w)
{
    if (w->listed < w->floor && w->stale_tries < STALE_TRIES) {
        w->stale_tries++; /* a lagging replica, or the newest entry has expired */
        spoil(b, w, GAP_US);
        return;
    }
    if (!mark(b, w, BUS_EV_SYNCED)) {
        spoil(b, w, BUSY_US);
        return;
    }
    sweep(b, w);
    w->stale_tries = 0;
    end_list(b, w);
    int64_t every_us = b->config.list_ms * 1000, jitter_us = every_us / JITTER_PART;
    w->due_us = nats_now_us() + (w->settled ? every_us - (int64_t)rng_below(&b->rng, (uint64_t)jitter_us)
                                            : SOON_US + (int64_t)rng_below(&b->rng, (uint64_t)SOON_US));
    w->settled = true;
    w->full = false;
}

static const char *header(natsMsg *msg, const char *name)
{
    const char *value = NULL;
    return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : NULL;
}

static struct watch_key *key_of(struct watch *w, const char *name)
{
    struct watch_key *key = NULL;
    size_t len = strlen(name);
    HASH_FIND(hh, w->keys, name, len, key);
    if (key)
        return key;
    key = calloc(1, sizeof *key + len + 1);
    if (!key)
        return NULL;
    memcpy(key->key, name, len + 1);
    HASH_ADD_KEYPTR(hh, w->keys, key->key, len, key);
    return key;
}

static bool is_deleted(natsMsg *msg)
{
    const char *operation = header(msg, "KV-Operation");
    return (operation && (strcmp(operation, "DEL") == 0 || strcmp(operation, "PURGE") == 0)) ||
           header(msg, "Nats-Marker-Reason");
}

/* The receiver has this entry. With 50,000 of them, handing all out again every minute would keep its loop busy for a good
 * part of a second each time, with everything else behind it in the queue. */
static void keep(struct bus_nats *b, struct watch *w, struct watch_key *key, natsMsg *msg)
{
    struct bus_event ev = {.kind = BUS_EV_KEPT, .bucket = nats_strip(b, w->bucket), .key = key->key,
                           .revision = key->revision};
    if (is_deleted(msg) || nats_emit(b, &ev, false))
        key->seen = w->list_no;
    else
        spoil(b, w, BUSY_US);
}

static void announce(struct bus_nats *b, struct watch *w, struct watch_key *key, uint64_t revision, natsMsg *msg)
{
    struct bus_event ev = {.kind = BUS_EV_ENTRY, .bucket = nats_strip(b, w->bucket), .key = key->key,
                           .revision = revision};
    if (!is_deleted(msg)) {
        ev.data = (const uint8_t *)natsMsg_GetData(msg);
        ev.len = (size_t)natsMsg_GetDataLength(msg);
        if (!ev.data)
            ev.data = (const uint8_t *)"";
    }
    if (!nats_emit(b, &ev, false)) {
        spoil(b, w, BUSY_US);
        return;
    }
    key->revision = revision;
    key->seen = w->list_no;
    key->gone_us = ev.data ? 0 : nats_now_us();
    if (revision > w->newest)
        w->newest = revision;
}

void watch_live(struct bus_nats *b, uint32_t number, natsMsg *msg)
{
    struct watch *w = find(b, number);
    const char *seq = header(msg, "Nats-Sequence"), *last = header(msg, "Nats-Last-Sequence");
    const char *subject = header(msg, "Nats-Subject");
    if (!w || !seq || !subject || strncmp(subject, "$KV.", 4) != 0)
        return;
    size_t skip = 4 + strlen(w->bucket);
    if (strncmp(subject + 4, w->bucket, skip - 4) != 0 || subject[skip] != '.')
        return;
    struct watch_key *key = key_of(w, subject + skip + 1);
    uint64_t revision = strtoull(seq, NULL, 10);
    if (!key) {
        spoil(b, w, RETRY_US);
        return;
    }
    if (revision <= key->revision)
        return;
    bool gap = last && strtoull(last, NULL, 10) > key->revision;
    announce(b, w, key, revision, msg);
    if (gap && w->listing)
        w->settled = false; /* this listing may be too early for what was missed: a second one soon */
    else if (gap)
        spoil(b, w, GAP_US);
}

void watch_listed(struct bus_nats *b, uint32_t number, uint32_t list_no, natsMsg *msg)
{
    struct watch *w = find(b, number);
    uint64_t revision, pending;
    size_t skip = w ? 5 + strlen(w->bucket) : 0;
    if (!w || !w->listing || w->list_no != list_no)
        return;
    /* The subject nats.c shows is the one of the entry, not the one the message was delivered to. */
    const char *subject = natsMsg_GetSubject(msg);
    if (strlen(subject) <= skip || !nats_kv_ack_parse(natsMsg_GetReply(msg), &revision, &pending))
        return;
    struct watch_key *key = key_of(w, subject + skip);
    w->due_us = nats_now_us() + PATIENCE_US;
    if (revision > w->listed)
        w->listed = revision;
    if (!key)
        spoil(b, w, RETRY_US);
    else if (revision == key->revision && !w->full)
        keep(b, w, key, msg);
    else if (revision >= key->revision)
        announce(b, w, key, revision, msg);
    if (pending == 0 && w->listing)
        complete(b, w);
}

void watch_created(struct bus_nats *b, uint32_t number, uint32_t list_no, natsMsg *msg)
{
    struct watch *w = find(b, number);
    struct nats_kv_answer a;
    if (!w || !w->listing || w->list_no != list_no)
        return;
    if (natsMsg_IsNoResponders(msg)) {
        spoil(b, w, RETRY_US);
        return;
    }
    nats_kv_parse(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), &a);
    if (!a.valid || a.code)
        spoil(b, w, RETRY_US);
    else if (a.pending == 0 && a.given == 0)
        complete(b, w);
    free(a.data);
}

void watch_written(struct bus_nats *b, const char *bucket, uint64_t revision)
{
    for (struct watch *w = b->watches; w; w = w->next)
        if (revision > w->newest && strcmp(w->bucket, bucket) == 0)
            w->newest = revision;
}

void watch_open(struct bus_nats *b, const char *bucket)
{
    char subject[NATS_SUBJECT_SIZE];
    for (struct watch *w = b->watches; w; w = w->next)
        if (strcmp(w->bucket, bucket) == 0) {
            w->full = true;
            spoil(b, w, 0);
            return;
        }
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return;
    snprintf(w->bucket, sizeof w->bucket, "%s", bucket);
    w->number = ++b->next_watch;
    w->due_us = INT64_MAX;
    snprintf(subject, sizeof subject, "%.*s%skv.%s.>", b->prefix_len ? (int)b->prefix_len - 1 : 0, b->config.prefix,
             b->prefix_len ? "." : "", nats_strip(b, bucket));
    w->live = nats_sub_open(b, 0, w->number, subject);
    w->next = b->watches;
    b->watches = w;
    spoil(b, w, 0);
}

void watch_up(struct bus_nats *b)
{
    for (struct watch *w = b->watches; w; w = w->next)
        spoil(b, w, 0);
}

void watch_spoil_all(struct bus_nats *b)
{
    for (struct watch *w = b->watches; w; w = w->next)
        spoil(b, w, GAP_US);
}

void watch_due(struct bus_nats *b, int64_t now_us)
{
    for (struct watch *w = b->watches; w; w = w->next)
        if (w->due_us <= now_us)
            begin(b, w);
}

int64_t watch_next_us(const struct bus_nats *b)
{
    int64_t due = INT64_MAX;
    for (const struct watch *w = b->watches; w; w = w->next)
        due = w->due_us < due ? w->due_us : due;
    return due;
}

void watch_close(struct bus_nats *b)
{
    while (b->watches) {
        struct watch *w = b->watches;
        struct watch_key *key, *tmp;
        b->watches = w->next;
        HASH_ITER(hh, w->keys, key, tmp)
        {
            HASH_DEL(w->keys, key);
            free(key);
        }
        end_list(b, w);
        /* Not unsubscribed: the connection goes next, and nats.c would wait for it. */
        if (w->live) {
            w->live->next_dead = b->dead;
            b->dead = w->live;
        }
        free(w);
    }
}
