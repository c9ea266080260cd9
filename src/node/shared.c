/*
 * Shared data of the whole cluster: between what rooms and backends ask and the bucket `shared`.
 *
 * Decides: that a key's operations on this node happen one batch after the other, each as a read, a computation
 * (shared_entry.h) and a compare-and-set; when that is tried again, and when an operation has failed. What is asked while a
 * batch is under way waits for the next one, so that what is read was never older than the question. A revision is told only of
 * what was written or read under it; of a change that others followed in the same write, it is 0. An unknown write is read
 * back: what it did is in the entry. Must not know what an operation means.
 * Also decides who removes what is over: the up node of the lowest id follows the bucket, and removes an entry at the revision
 * it had. Two nodes that both think so do no harm, and one that has begun to follow it goes on.
 */
#include "node/state.h"

#include "node/shared_entry.h"

#include <stdio.h>

enum { KV_MS = 2000, OP_MS = 10000, BATCH_MAX = 64, OPS_MAX = 16384, OPS_BYTES_MAX = 32 * 1024 * 1024,
       PURGES_KNOWN_MAX = 100000, PURGES_AT_ONCE = 64 };

struct pending { /* an operation that is asked for */
    struct pending *next;
    struct shared_op op;
    struct asker asker;
    char *reply;    /* of a backend; NULL: a room */
    struct mono deadline;
    bool maybe;     /* in a write of which nobody knows what became */
    unsigned after; /* changes of the batch when it was done; as those of the whole: the new revision is that of its doing */
    bool exact;     /* what it says has a revision */
    int code;       /* of the batch under way */
    struct buf result;
    uint8_t data[];
};

struct key { /* somebody wants something of it */
    char name[ROOM_TOPIC_MAX + 1];
    uint64_t serial;
    struct pending *first, **last;
    unsigned batch; /* so many of the first ones are in the batch under way */
    bool waits, writes;
    struct shared_entry entry;
};

struct purge_key {
    uint64_t revision;
    struct wall at;
};

static uint64_t token_of(const struct key *k)
{
    return k->serial | (uint64_t)TOKEN_SHARED << TOKEN_SHIFT;
}

/* ---- answers ---- */

static const char *explain(int code, const struct pending *p)
{
    switch (code) {
    case ROOM_E_NOT_FOUND:      return "nothing is there under this key";
    case ROOM_E_EXISTS:         return "something is there already";
    case ROOM_E_CONFLICT:       return "the key has another revision: read it again";
    case ROOM_E_FULL:           return "the set has its limit of 1000 members";
    case ROOM_E_TOO_BIG:        return p->op.verb == HOST_SHARED_ADD ? "the sum is beyond 64 bits"
                                                                      : "a value has 65536 bytes of msgpack at most";
    case ROOM_E_UNAVAILABLE:    return "the registry does not answer; nothing was changed";
    case ROOM_E_UNKNOWN_RESULT: return "the registry did not say whether it was changed: read it";
    case ROOM_E_INVALID:
        return p->op.verb == HOST_SHARED_ADD    ? "what is there is no integer"
               : p->op.verb == HOST_SHARED_GET  ? "what is there is no entry: set or delete it"
               : p->op.verb == HOST_SHARED_SET  ? "null is no value: delete the key"
                                                : "what is there is no set (an array of texts), or the member is no text";
    default: return room_error_text(code);
    }
}

static void answer_backend(struct node *n, const char *key, const struct pending *p, uint64_t revision)
{
    static const char *const names[] = {"value", NULL, NULL, "value", "changed", "changed"};
    struct wire_ctl_reply reply = {.ok = p->code == 0};
    const char *name = p->code == 0 ? names[p->op.verb] : NULL;
    struct buf b;
    buf_init(&b, n->alloc, ROOM_ASK_DATA_MAX + 1024);
    mp_write_map(&b, name ? 3 : 2);
    mp_write_text(&b, "key");
    mp_write_text(&b, key);
    mp_write_text(&b, "revision");
    mp_write_uint(&b, revision);
    if (name) {
        mp_write_text(&b, name);
        mp_write_raw(&b, (struct wire_raw){p->result.data, (uint32_t)p->result.len});
    }
    if (p->code) {
        reply.error = wire_str(room_error_name(p->code));
        reply.message = wire_str(explain(p->code, p));
    }
    reply.result = (struct wire_raw){b.data, (uint32_t)b.len};
    buf_reset(&n->scratch);
    if (!b.failed && wire_ctl_reply_to_json(&reply, &n->scratch) == 0)
        (void)bus_publish(n->bus, p->reply, NULL, n->scratch.data, n->scratch.len);
    buf_deinit(&b);
}

static void free_pending(struct node *n, struct pending *p)
{
    n->shared_count--;
    n->shared_bytes -= p->op.len;
    if (p->reply)
        alloc_put_str(n->alloc, p->reply);
    buf_deinit(&p->result);
    alloc_put(n->alloc, p, sizeof(*p) + p->op.len);
}

/* What the entry had when this was done. */
static uint64_t revision_of(const struct key *k, const struct pending *p, uint64_t written)
{
    if (!p->exact)
        return 0;
    return p->after == 0 ? k->entry.revision : p->after == k->entry.changes ? written : 0;
}

/* The first one is done with. */
static void answer_first(struct node *n, struct key *k, uint64_t revision)
{
    struct pending *p = k->first;
    k->first = p->next;
    if (!k->first)
        k->last = &k->first;
    struct room_event event = {.code = p->code, .token = revision};
    if (!p->code) {
        event.data = p->result.data;
        event.len = p->result.len;
    }
    if (p->reply)
        answer_backend(n, k->name, p, revision);
    else
        talk_finish(n, &p->asker, &event);
    free_pending(n, p);
}

/* ---- one batch ---- */

static void begin(struct node *n, struct key *k);

static void free_key(struct node *n, struct key *k)
{
    map_del(&n->shared_keys, k->name);
    umap_del(&n->shared_serials, k->serial);
    shared_entry_deinit(&k->entry);
    alloc_put(n->alloc, k, sizeof(*k));
}

/* `written`: the entry's revision, if it was. */
static void batch_over(struct node *n, struct key *k, uint64_t written)
{
    for (; k->batch; k->batch--)
        answer_first(n, k, revision_of(k, k->first, written));
    if (k->first)
        begin(n, k);
    else
        free_key(n, k);
}

/* Those that have had their time hear so: nothing is ever done later than that. False: the key is gone. */
static bool give_up(struct node *n, struct key *k)
{
    k->batch = 0;
    while (k->first && mono_reached(n->now, k->first->deadline)) {
        k->first->code = k->first->maybe ? ROOM_E_UNKNOWN_RESULT : ROOM_E_UNAVAILABLE;
        buf_reset(&k->first->result);
        answer_first(n, k, 0);
    }
    if (k->first)
        return true;
    free_key(n, k);
    return false;
}

/* Nothing can be done now: until the next tick. */
static void wait(struct node *n, struct key *k)
{
    if (give_up(n, k))
        k->waits = true;
}

static void begin(struct node *n, struct key *k)
{
    if (!give_up(n, k))
        return;
    k->waits = k->writes = false;
    for (const struct pending *p = k->first; p && k->batch < BATCH_MAX; p = p->next)
        k->batch++;
    if (bus_kv_get(n->bus, token_of(k), "shared", k->name, KV_MS))
        wait(n, k);
}

static bool write_entry(struct node *n, struct key *k)
{
    struct buf done;
    buf_init(&done, n->alloc, ROOM_ASK_DATA_MAX);
    buf_reset(&n->scratch);
    int rc = shared_entry_write(&k->entry, core_self(n->core)->id.s, n->wall, &done, &n->scratch);
    buf_deinit(&done);
    k->writes = true;
    return rc == 0 && bus_kv_put(n->bus, token_of(k), "shared", k->name, k->entry.revision, n->scratch.data, n->scratch.len,
                                 KV_MS) == 0;
}

/* The entry has been read: what comes of the batch. */
static void compute(struct node *n, struct key *k)
{
    unsigned done = 0;
    bool closes = false;
    for (struct pending *p = k->first; p && done < k->batch && !closes; p = p->next, done++) {
        buf_reset(&p->result);
        p->code = shared_apply(&k->entry, &p->op, n->wall, &p->result);
        if (p->code == SHARED_LATER)
            break;
        p->exact = k->entry.last != SHARED_REPEATED;
        p->after = k->entry.changes;
        closes = p->op.verb == HOST_SHARED_SET && k->entry.last == SHARED_CHANGED; /* its revision is wanted */
        if (p->code == ROOM_E_NO_MEMORY || p->result.failed) {
            wait(n, k);
            return;
        }
    }
    k->batch = done;
    if (!k->entry.changes)
        batch_over(n, k, 0);
    else if (!write_entry(n, k))
        wait(n, k);
}

static void read_done(struct node *n, struct key *k, const struct bus_event *ev)
{
    bool there = ev->result == BUS_OK && ev->data;
    if (ev->result != BUS_OK && ev->result != BUS_NOT_FOUND)
        wait(n, k);
    else if (!shared_entry_read(&k->entry, there ? ev->data : NULL, ev->len, ev->revision, &n->scratch))
        wait(n, k);
    else
        compute(n, k);
}

static void write_done(struct node *n, struct key *k, const struct bus_event *ev)
{
    if (ev->result == BUS_OK) {
        batch_over(n, k, ev->revision);
        return;
    }
    unsigned left = k->batch;
    for (struct pending *p = k->first; p && left && ev->result == BUS_UNKNOWN; p = p->next, left--)
        p->maybe |= p->op.verb != HOST_SHARED_GET;
    if (ev->result == BUS_CONFLICT)
        begin(n, k);
    else
        wait(n, k);
}

void shared_done(struct node *n, const struct bus_event *ev)
{
    struct key *k = umap_get(&n->shared_serials, ev->token & TOKEN_MASK);
    if (!k)
        return;
    if (k->writes)
        write_done(n, k, ev);
    else
        read_done(n, k, ev);
}

/* ---- asking ---- */

static struct key *key_of(struct node *n, const char *name)
{
    struct key *k = map_get(&n->shared_keys, name);
    if (k)
        return k;
    k = alloc_get(n->alloc, sizeof(*k));
    if (!k)
        return NULL;
    snprintf(k->name, sizeof(k->name), "%s", name);
    k->serial = ++n->last_errand;
    k->last = &k->first;
    shared_entry_init(&k->entry, n->alloc);
    if (map_put_borrowed(&n->shared_keys, k->name, k) && umap_put(&n->shared_serials, k->serial, k))
        return k;
    free_key(n, k);
    return NULL;
}

/* A copy of it; `op->data` is borrowed. */
static int ask(struct node *n, const char *name, const struct shared_op *op, const struct asker *asker, const char *reply)
{
    bool full = n->shared_count >= OPS_MAX || op->len > OPS_BYTES_MAX - n->shared_bytes;
    struct pending *p = full ? NULL : alloc_get(n->alloc, sizeof(*p) + op->len);
    if (!p)
        return full ? ROOM_E_FULL : ROOM_E_NO_MEMORY;
    n->shared_count++;
    n->shared_bytes += op->len;
    p->op = *op;
    p->op.data = p->data;
    if (op->len)
        memcpy(p->data, op->data, op->len);
    p->deadline = mono_add_ms(n->now, OP_MS);
    buf_init(&p->result, n->alloc, ROOM_ASK_DATA_MAX);
    if (asker) {
        p->asker = *asker;
        p->maybe = asker->again && op->verb != HOST_SHARED_GET;
    }
    p->reply = reply ? alloc_str(n->alloc, reply) : NULL;
    struct key *k = reply && !p->reply ? NULL : key_of(n, name);
    if (!k) {
        free_pending(n, p);
        return ROOM_E_NO_MEMORY;
    }
    bool idle = !k->first;
    *k->last = p;
    k->last = &p->next;
    if (idle)
        begin(n, k);
    return 0;
}

int shared_room(struct node *n, const struct asker *asker, const struct host_ask *a)
{
    struct shared_op op = {.verb = a->verb, .by = asker->room, .epoch = a->epoch, .number = a->number, .expect = a->expect,
                           .ttl_ms = a->limit_ms, .add = a->by, .data = a->data, .len = a->len};
    return ask(n, a->target, &op, asker, NULL);
}

/* Which, and whether it has what it needs. */
static int read_ctl(const struct wire_ctl_request *q, struct shared_op *op, struct err_detail *detail)
{
    static const enum host_shared_verb verbs[] = {HOST_SHARED_GET, HOST_SHARED_SET,    HOST_SHARED_DELETE,
                                                  HOST_SHARED_ADD, HOST_SHARED_INSERT, HOST_SHARED_REMOVE};
    op->verb = verbs[q->op - WIRE_CTL_REQUEST_OP_SHARED_GET];
    op->expect = q->has_expect ? (uint64_t)q->expect : ROOM_SHARED_ANY;
    op->ttl_ms = q->has_expires_ms ? q->expires_ms : 0;
    op->add = q->by;
    if (op->verb == HOST_SHARED_SET) {
        op->data = q->value.data;
        op->len = q->value.len;
    } else if (op->verb == HOST_SHARED_INSERT || op->verb == HOST_SHARED_REMOVE) {
        op->data = q->member.data;
        op->len = q->member.len;
    }
    if (op->verb == HOST_SHARED_SET && !op->len)
        return err_set(detail, ROOM_E_INVALID, "shared_set wants a `value` that is not null");
    if (op->verb == HOST_SHARED_ADD && !q->has_by)
        return err_set(detail, ROOM_E_INVALID, "shared_add wants an integer `by`");
    if (op->verb >= HOST_SHARED_INSERT && (op->len < 1 || op->len > ROOM_SHARED_MEMBER_MAX))
        return err_set(detail, ROOM_E_INVALID, "a `member` of 1 to %d bytes is wanted", ROOM_SHARED_MEMBER_MAX);
    if (op->len > ROOM_ASK_DATA_MAX)
        return err_set(detail, ROOM_E_TOO_BIG, "the value has %zu bytes of msgpack; the limit is %d", op->len,
                       ROOM_ASK_DATA_MAX);
    return 0;
}

int shared_ctl(struct node *n, const struct wire_ctl_request *q, const char *reply, struct err_detail *detail)
{
    char key[ROOM_TOPIC_MAX + 1] = "";
    struct shared_op op = {.epoch = 0, .number = ++n->last_request};
    if (q->key.len <= ROOM_TOPIC_MAX && q->key.data)
        memcpy(key, q->key.data, q->key.len);
    if (strlen(key) != q->key.len || !host_topic_valid(key))
        return err_set(detail, ROOM_E_INVALID,
                       "a `key` is words of A-Z a-z 0-9 _ - with dots between them, %d characters at most", ROOM_TOPIC_MAX);
    if (!cluster_has_shared(n))
        return err_set(detail, ROOM_E_UNAVAILABLE, "the registry of shared data is not there yet");
    id_set(&op.by, core_self(n->core)->boot);
    int rc = read_ctl(q, &op, detail);
    return rc ? rc : ask(n, key, &op, NULL, reply);
}

/* ---- what is over ---- */

static bool purges(const struct node *n)
{
    const struct server_info *self = core_self(n->core);
    if (self->status != SERVER_UP || !core_view(n->core)->servers_synced)
        return false;
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value; map_next(&it)) {
        const struct view_server *s = it.value;
        if (s->info.status == SERVER_UP && strcmp(s->info.id.s, self->id.s) < 0)
            return false;
    }
    return true;
}

void shared_entry_event(struct node *n, const struct bus_event *ev)
{
    struct shared_entry e;
    if (ev->kind != BUS_EV_ENTRY)
        return;
    struct wall at = {0};
    shared_entry_init(&e, n->alloc);
    if (ev->data && shared_entry_read(&e, ev->data, ev->len, ev->revision, &n->scratch) && !e.foreign)
        at = shared_entry_purge_at(&e);
    shared_entry_deinit(&e);
    struct purge_key *p = map_get(&n->shared_purges, ev->key);
    if (!at.ms) {
        map_del(&n->shared_purges, ev->key);
        alloc_put(n->alloc, p, sizeof(*p));
        return;
    }
    if (!p && n->shared_purges.count < PURGES_KNOWN_MAX) {
        p = alloc_get(n->alloc, sizeof(*p));
        if (!p || !map_put(&n->shared_purges, ev->key, p)) {
            alloc_put(n->alloc, p, sizeof(*p));
            return; /* another day: whoever follows the bucket next finds it */
        }
    }
    if (p)
        *p = (struct purge_key){ev->revision, at};
}

static void purge_tick(struct node *n)
{
    if (!mono_reached(n->now, n->shared_next_purge) || !cluster_has_shared(n))
        return;
    n->shared_next_purge = mono_add_ms(n->now, 1000);
    bool mine = purges(n);
    if (mine && !n->shared_watched)
        n->shared_watched = bus_kv_watch(n->bus, "shared") == 0;
    unsigned left = mine ? PURGES_AT_ONCE : 0;
    for (struct map_iter it = map_first(&n->shared_purges); it.value && left; map_next(&it)) {
        struct purge_key *p = it.value;
        if (n->wall.ms < p->at.ms)
            continue;
        (void)bus_kv_delete(n->bus, (uint64_t)TOKEN_SHARED << TOKEN_SHIFT, "shared", it.key, p->revision, KV_MS);
        p->at.ms = n->wall.ms + SHARED_KEEP_MS; /* the watch tells that it is gone; if not, once more */
        left--;
    }
}

void shared_tick(struct node *n)
{
    purge_tick(n);
    if (!n->shared_count)
        return;
    for (struct map_iter it = map_first(&n->shared_keys); it.value; map_next(&it)) {
        struct key *k = it.value;
        if (k->waits)
            begin(n, k);
    }
}

void shared_init(struct node *n)
{
    map_init(&n->shared_keys, n->alloc);
    umap_init(&n->shared_serials, n->alloc);
    map_init(&n->shared_purges, n->alloc);
}

void shared_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->shared_keys); it.value; map_next(&it)) {
        struct key *k = it.value;
        for (struct pending *p = k->first, *next; p; p = next) {
            next = p->next;
            free_pending(n, p);
        }
        shared_entry_deinit(&k->entry);
        alloc_put(n->alloc, k, sizeof(*k));
    }
    for (struct map_iter it = map_first(&n->shared_purges); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct purge_key));
    map_deinit(&n->shared_keys);
    umap_deinit(&n->shared_serials);
    map_deinit(&n->shared_purges);
}
