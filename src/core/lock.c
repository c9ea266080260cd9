/*
 * See lock.h. One `asked` is a request until it is answered; one `lock` is what is known of a name.
 *
 * Decides: what a request does next, from what is known: write, read, wait, or answer. Of several who want one lock here
 * only the first in line is at work. What is known of a lock that somebody holds is kept after the last request for it, so
 * that whoever asks now and then without waiting gets it in the end; the oldest goes when there are too many names.
 * Weak point: a reading may be some seconds old. One that is older than what is known is not believed for a while; and
 * whatever is built on one is a compare-and-set.
 */
#include "core/lock.h"

#include <string.h>

#include "base/umap.h"

enum { RETRY_MS = 50, POLL_MS = 1000, STALE_MS = 1500 };
enum step { STEP_NONE, STEP_GET, STEP_PUT, STEP_DELETE };

struct lock {
    struct id name;
    bool known, there; /* there: somebody holds it */
    uint64_t revision; /* of the last thing known of it */
    struct lock_entry entry;
    struct mono since; /* as it is for so long, on our clock */
    struct asked *first, *last; /* who wants it, in the order of their coming */
    unsigned users;
    bool wake; /* in the list of those to be looked at */
    struct lock *wake_next;
};

struct asked {
    struct asked *next; /* in line */
    struct lock *lock;
    uint64_t req, serial, fence;
    enum lock_verb verb;
    enum step step; /* under way */
    struct id holder;
    int64_t ttl_ms;
    char n[ULID_SIZE];
    bool maybe; /* a write of ours over `expected` has an unknown result: it may be done, or be done yet */
    uint64_t expected;
    struct mono put_at;
    bool refused; /* a write over `refused_at` was: something newer must be there */
    uint64_t refused_at;
    bool read; /* the registry was asked since it came */
    bool failed; /* the operation could not be begun */
    struct mono deadline, patience, stale_until, next_at, look_at;
};

struct locks {
    const struct alloc *alloc;
    struct rng rng;
    struct mono now;
    struct wall wall;
    struct map names;
    struct umap asks;
    uint64_t last_serial;
    struct lock *wake;
    struct lock_effects fx;
};

static struct lock_fx *effect(struct locks *l, enum lock_fx_kind kind)
{
    ASSERT(l->fx.count < l->fx.cap);
    struct lock_fx *fx = &l->fx.items[l->fx.count++];
    *fx = (struct lock_fx){.kind = kind};
    return fx;
}

static uint64_t fence_of(const struct lock *k)
{
    return k->entry.fence ? k->entry.fence : k->revision;
}

static int64_t left_of(const struct locks *l, int64_t ttl_ms, struct mono since)
{
    int64_t left = ttl_ms - mono_diff_ms(since, l->now);
    return left > 0 ? left : 0;
}

static void wake(struct locks *l, struct lock *k)
{
    if (k->wake)
        return;
    k->wake = true;
    k->wake_next = l->wake;
    l->wake = k;
}

static void forget(struct locks *l, struct lock *k)
{
    map_del(&l->names, k->name.s);
    alloc_put(l->alloc, k, sizeof(*k));
}

static void leave_line(struct lock *k, struct asked *a)
{
    struct asked *before = NULL, *at = k->first;
    while (at && at != a) {
        before = at;
        at = at->next;
    }
    if (!at)
        return;
    *(before ? &before->next : &k->first) = a->next;
    if (k->last == a)
        k->last = before;
}

static void finish(struct locks *l, struct asked *a, struct lock_answer answer)
{
    struct lock *k = a->lock;
    struct lock_fx *fx = effect(l, LOCK_FX_ANSWER);
    fx->req = a->req;
    fx->answer = answer;
    leave_line(k, a);
    k->users--;
    wake(l, k);
    umap_del(&l->asks, a->serial);
    alloc_put(l->alloc, a, sizeof(*a));
}

static void finish_code(struct locks *l, struct asked *a, int code)
{
    finish(l, a, (struct lock_answer){.code = code});
}

/* Something was read, written or heard of the lock. False: it is older than what is known. */
static bool heard(struct locks *l, struct lock *k, uint64_t revision, const struct lock_entry *e)
{
    if (k->known && revision && revision < k->revision)
        return false;
    if (k->known && revision == k->revision && k->there == (e != NULL))
        return true;
    k->known = true;
    k->there = e != NULL;
    k->revision = revision ? revision : k->revision;
    k->entry = e ? *e : (struct lock_entry){.ttl_ms = 0};
    k->since = l->now;
    return true;
}

static void get(struct locks *l, struct asked *a)
{
    struct lock_fx *fx = effect(l, LOCK_FX_GET);
    fx->token = a->serial;
    fx->name = a->lock->name;
    a->step = STEP_GET;
}

static uint64_t expected_of(const struct lock *k)
{
    return k->there ? k->revision : 0;
}

/* A write that may be done already is sent again with the same nonce over the same revision: of the two one at the most gets
 * in, and it is ours either way. */
static struct lock_fx *change(struct locks *l, struct asked *a, enum lock_fx_kind kind, uint64_t expected)
{
    struct lock_fx *fx = effect(l, kind);
    if (!a->maybe || a->expected != expected) { /* one over another revision cannot be done any more */
        a->maybe = false;
        a->put_at = l->now;
    }
    a->expected = expected;
    a->step = kind == LOCK_FX_PUT ? STEP_PUT : STEP_DELETE;
    fx->token = a->serial;
    fx->name = a->lock->name;
    fx->expected = expected;
    return fx;
}

static struct lock_entry entry_of(const struct asked *a)
{
    struct lock_entry e = {.holder = a->holder, .ttl_ms = a->ttl_ms, .fence = a->verb == LOCK_RENEW ? a->fence : 0};
    memcpy(e.n, a->n, sizeof(e.n));
    return e;
}

static void put(struct locks *l, struct asked *a, uint64_t expected)
{
    change(l, a, LOCK_FX_PUT, expected)->entry = entry_of(a);
}

static void look_later(struct locks *l, struct asked *a)
{
    a->look_at = a->next_at = mono_add_ms(l->now, RETRY_MS);
}

/* The write is refused again unless something else is known by now. */
static bool refused_before(struct locks *l, struct asked *a)
{
    bool same = a->refused && a->refused_at == expected_of(a->lock);
    a->refused = false;
    if (same)
        look_later(l, a);
    return same;
}

/* The entry is ours. If it took longer than its ttl to know that, somebody may be about to take it. */
static bool ours(struct locks *l, struct asked *a)
{
    const struct lock *k = a->lock;
    if (!k->there || strcmp(k->entry.n, a->n) != 0)
        return false;
    int64_t left = left_of(l, a->ttl_ms, a->put_at);
    if (left == 0)
        return false;
    finish(l, a, (struct lock_answer){.fence = fence_of(k), .ttl_ms = a->ttl_ms, .left_ms = left, .holder = a->holder});
    return true;
}

static bool may_take(const struct locks *l, const struct asked *a)
{
    const struct lock *k = a->lock;
    return !k->there || strcmp(k->entry.holder.s, a->holder.s) == 0 ||
           mono_reached(l->now, mono_add_ms(k->since, k->entry.ttl_ms + LOCK_MARGIN_MS));
}

static void held(struct locks *l, struct asked *a)
{
    const struct lock *k = a->lock;
    finish(l, a, (struct lock_answer){.code = ROOM_E_HELD, .fence = fence_of(k), .ttl_ms = k->entry.ttl_ms,
                                      .left_ms = left_of(l, k->entry.ttl_ms, k->since), .holder = k->entry.holder});
}

static void wait_for(struct locks *l, struct asked *a)
{
    struct mono at = mono_add_ms(a->lock->since, a->lock->entry.ttl_ms + LOCK_MARGIN_MS);
    at = a->deadline.us < at.us ? a->deadline : at;
    a->next_at = a->look_at.us < at.us ? a->look_at : at;
}

static void acquire(struct locks *l, struct asked *a)
{
    struct lock *k = a->lock;
    if (!k->known && !a->read && !a->maybe && !a->refused) { /* most locks are free */
        put(l, a, 0);
    } else if (!k->known || mono_reached(l->now, a->look_at)) {
        get(l, a);
    } else if (may_take(l, a)) {
        if (!refused_before(l, a))
            put(l, a, expected_of(k));
    } else if (mono_reached(l->now, a->deadline)) {
        held(l, a);
    } else {
        a->maybe = a->refused = false; /* what is there now was not written over by us, nor will it be by an old write */
        wait_for(l, a);
    }
}

/* Behind another who wants it: there is nothing to do but to give up waiting, if it is sure that somebody has it. */
static void queue(struct locks *l, struct asked *a)
{
    if (mono_reached(l->now, a->deadline) && a->lock->known && !may_take(l, a))
        held(l, a);
    else
        a->next_at = mono_add_ms(l->now, RETRY_MS);
}

/* Renew and release: is it still what the fence says? */
static bool matches(const struct asked *a)
{
    const struct lock *k = a->lock;
    return k->known && k->there && fence_of(k) == a->fence && strcmp(k->entry.holder.s, a->holder.s) == 0;
}

static void gone(struct locks *l, struct asked *a)
{
    const struct lock *k = a->lock;
    bool stale = k->revision < a->fence && !mono_reached(l->now, a->stale_until);
    if (a->verb == LOCK_RELEASE && a->maybe)
        finish_code(l, a, 0); /* by us, or it was taken from us at the same moment */
    else if (stale)
        look_later(l, a);
    else
        finish_code(l, a, k->there ? ROOM_E_FENCED : ROOM_E_NOT_FOUND);
}

static void keep_or_drop(struct locks *l, struct asked *a)
{
    struct lock *k = a->lock;
    bool look = mono_reached(l->now, a->look_at);
    if (!look && matches(a)) {
        if (refused_before(l, a))
            return;
        if (a->verb == LOCK_RELEASE) {
            change(l, a, LOCK_FX_DELETE, k->revision);
            return;
        }
        a->ttl_ms = a->ttl_ms ? a->ttl_ms : k->entry.ttl_ms;
        put(l, a, k->revision);
    } else if (look || !a->read || !k->known) {
        get(l, a);
    } else {
        gone(l, a);
    }
}

static void act(struct locks *l, struct asked *a)
{
    if (a->step != STEP_NONE || ours(l, a))
        return;
    bool behind = a->verb == LOCK_ACQUIRE && a->lock->first != a;
    if (mono_reached(l->now, a->patience)) {
        a->lock->known = false; /* whatever is known has led nowhere */
        finish_code(l, a, a->maybe ? ROOM_E_UNKNOWN_RESULT : ROOM_E_UNAVAILABLE);
    } else if (behind) {
        queue(l, a);
    } else if (a->verb == LOCK_ACQUIRE) {
        acquire(l, a);
    } else {
        keep_or_drop(l, a);
    }
}

static void got(struct locks *l, struct asked *a, const struct lock_event *ev)
{
    bool answered = ev->result == CORE_KV_OK || ev->result == CORE_KV_NOT_FOUND;
    bool stale = answered && !heard(l, a->lock, ev->revision, ev->entry);
    a->look_at = mono_add_ms(l->now, answered && !stale ? POLL_MS : RETRY_MS);
    a->read |= answered && !stale;
    a->next_at = a->look_at;
    if (answered && !stale)
        act(l, a);
}

static void changed(struct locks *l, struct asked *a, const struct lock_event *ev, bool put)
{
    struct lock_entry e = entry_of(a);
    if (ev->result == CORE_KV_OK) {
        (void)heard(l, a->lock, ev->revision, put ? &e : NULL);
        a->look_at = mono_add_ms(l->now, POLL_MS);
        if (!put)
            finish_code(l, a, 0);
        else
            act(l, a);
        return;
    }
    if (ev->result == CORE_KV_UNKNOWN) {
        a->maybe = true;
    } else {
        a->refused = true;
        a->refused_at = a->expected;
    }
    a->look_at = l->now;
    act(l, a);
}

static void done(struct locks *l, const struct lock_event *ev)
{
    struct asked *a = umap_get(&l->asks, ev->token);
    if (!a || a->step == STEP_NONE)
        return;
    enum step step = a->step;
    a->step = STEP_NONE;
    a->failed = false;
    if (step == STEP_GET)
        got(l, a, ev);
    else
        changed(l, a, ev, step == STEP_PUT);
}

/* Room for one more name: of those nobody asks for, the one known longest goes. */
static bool make_room(struct locks *l)
{
    if (l->names.count < LOCKS_MAX)
        return true;
    for (struct map_iter it = map_first(&l->names); it.value; map_next(&it)) {
        struct lock *k = it.value;
        if (k->users || k->wake)
            continue;
        forget(l, k);
        return true;
    }
    return false;
}

static struct lock *lock_of(struct locks *l, const struct id *name)
{
    struct lock *k = map_get(&l->names, name->s);
    if (k || !make_room(l))
        return k;
    k = alloc_get(l->alloc, sizeof(*k));
    if (!k)
        return NULL;
    k->name = *name;
    if (map_put_borrowed(&l->names, k->name.s, k))
        return k;
    alloc_put(l->alloc, k, sizeof(*k));
    return NULL;
}

/* Each request has one operation and one answer at the most in one step. */
static bool reserve(struct locks *l, size_t asks)
{
    size_t want = 2 * asks + 1, cap = l->fx.cap;
    if (want <= cap)
        return true;
    while (cap < want)
        cap *= 2;
    struct lock_fx *items = alloc_resize(l->alloc, l->fx.items, l->fx.cap * sizeof(*items), cap * sizeof(*items));
    if (!items)
        return false;
    l->fx.items = items;
    l->fx.cap = cap;
    return true;
}

static bool valid(const struct lock_event *ev, struct id *name, struct id *holder)
{
    bool renew = ev->verb == LOCK_RENEW && ev->ttl_ms == 0;
    bool ttl = ev->verb == LOCK_RELEASE || renew || (ev->ttl_ms >= LOCK_TTL_MIN_MS && ev->ttl_ms <= LOCK_TTL_MAX_MS);
    bool fence = ev->verb == LOCK_ACQUIRE || ev->fence;
    return ttl && fence && ev->wait_ms >= 0 && ev->wait_ms <= LOCK_WAIT_MAX_MS && ev->name && ev->holder &&
           id_set(name, ev->name) && id_set(holder, ev->holder);
}

static int begin(struct locks *l, const struct lock_event *ev, struct asked **out)
{
    struct id name, holder;
    if (!valid(ev, &name, &holder))
        return ROOM_E_INVALID;
    if (l->asks.count >= LOCKS_MAX)
        return ROOM_E_FULL;
    struct asked *a = reserve(l, l->asks.count + 1) ? alloc_get(l->alloc, sizeof(*a)) : NULL;
    struct lock *k = a ? lock_of(l, &name) : NULL;
    if (!k || !umap_put(&l->asks, l->last_serial + 1, a)) {
        if (k)
            wake(l, k);
        alloc_put(l->alloc, a, sizeof(*a));
        return ROOM_E_NO_MEMORY;
    }
    *a = (struct asked){.lock = k, .req = ev->req, .serial = ++l->last_serial, .fence = ev->fence, .verb = ev->verb,
                        .holder = holder, .ttl_ms = ev->ttl_ms, .put_at = l->now,
                        .deadline = mono_add_ms(l->now, ev->wait_ms),
                        .patience = mono_add_ms(l->now, ev->wait_ms + LOCK_PATIENCE_MS),
                        .stale_until = mono_add_ms(l->now, STALE_MS), .look_at = l->now};
    id_ulid(a->n, l->wall, &l->rng);
    if (!k->there || ev->verb != LOCK_ACQUIRE)
        a->look_at = mono_add_ms(l->now, POLL_MS); /* what is known is tried first */
    k->users++;
    if (ev->verb == LOCK_ACQUIRE) {
        *(k->last ? &k->last->next : &k->first) = a;
        k->last = a;
    }
    *out = a;
    return 0;
}

static void ask(struct locks *l, const struct lock_event *ev)
{
    struct asked *a = NULL;
    int code = begin(l, ev, &a);
    if (code) {
        struct lock_fx *fx = effect(l, LOCK_FX_ANSWER);
        fx->req = ev->req;
        fx->answer.code = code;
        return;
    }
    act(l, a);
}

static void entry(struct locks *l, const struct lock_event *ev)
{
    struct lock *k = map_get(&l->names, ev->name);
    if (k && heard(l, k, ev->revision, ev->entry))
        wake(l, k);
}

static void tick(struct locks *l)
{
    for (struct umap_iter it = umap_first(&l->asks); it.value; umap_next(&it)) {
        struct asked *a = it.value;
        if (a->failed)
            done(l, &(struct lock_event){.token = a->serial, .result = CORE_KV_UNKNOWN});
        else if (a->step == STEP_NONE && mono_reached(l->now, a->next_at))
            act(l, a);
    }
}

void locks_failed(struct locks *l, uint64_t token)
{
    struct asked *a = umap_get(&l->asks, token);
    if (a)
        a->failed = true;
}

bool locks_busy(const struct locks *l)
{
    return l->asks.count > 0;
}

/* Whoever is first in line now; and what nobody asks for and nobody holds is forgotten. */
static void look_at_woken(struct locks *l)
{
    while (l->wake) {
        struct lock *k = l->wake;
        l->wake = k->wake_next;
        k->wake = false;
        if (k->first)
            act(l, k->first);
        else if (!k->users && !(k->known && k->there))
            forget(l, k);
    }
}

const struct lock_effects *locks_step(struct locks *l, const struct lock_event *event, struct mono now, struct wall wall)
{
    l->now = now;
    l->wall = wall;
    l->fx.count = 0;
    switch (event->kind) {
    case LOCK_EV_ASK:   ask(l, event); break;
    case LOCK_EV_DONE:  done(l, event); break;
    case LOCK_EV_ENTRY: entry(l, event); break;
    case LOCK_EV_TICK:  tick(l); break;
    }
    look_at_woken(l);
    return &l->fx;
}

struct locks *locks_create(const struct alloc *alloc, uint64_t seed)
{
    struct locks *l = alloc_get(alloc, sizeof(*l));
    if (!l)
        return NULL;
    l->alloc = alloc;
    rng_init(&l->rng, seed ^ 0x6c6f636bu);
    map_init(&l->names, alloc);
    umap_init(&l->asks, alloc);
    l->fx.cap = 8;
    l->fx.items = alloc_get(alloc, l->fx.cap * sizeof(*l->fx.items));
    if (l->fx.items)
        return l;
    alloc_put(alloc, l, sizeof(*l));
    return NULL;
}

void locks_destroy(struct locks *l)
{
    if (!l)
        return;
    for (struct umap_iter it = umap_first(&l->asks); it.value; umap_next(&it))
        alloc_put(l->alloc, it.value, sizeof(struct asked));
    for (struct map_iter it = map_first(&l->names); it.value; map_next(&it))
        alloc_put(l->alloc, it.value, sizeof(struct lock));
    umap_deinit(&l->asks);
    map_deinit(&l->names);
    alloc_put(l->alloc, l->fx.items, l->fx.cap * sizeof(*l->fx.items));
    alloc_put(l->alloc, l, sizeof(*l));
}
