/*
 * Eight nodes want one lock, over a registry no kinder than JetStream: answers late or lost, writes that are done seconds after
 * their sender was told that nobody knows, readings that are old, watchers who miss half. Virtual time, clocks apart.
 *
 * Decides what must hold: nobody is told that he has the lock while another still believes it, and the fence only grows.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/lock.h"

enum { NODES = 8, ROUNDS = 1000, FLYING = 256, PAST = 64 };

struct state {
    uint64_t revision;
    bool there;
    struct lock_entry entry;
    int64_t at;
};

enum flying_kind { DO, TELL, HEAR, ANSWERED };

struct flying {
    enum flying_kind kind;
    bool used;
    int64_t at;
    unsigned node;
    struct lock_fx fx;
    bool lost; /* DO: nobody is told */
    struct lock_event ev;
    struct lock_entry entry;
};

struct contender {
    struct locks *l;
    int64_t offset; /* of its clock */
    bool asking, holds, renews;
    uint64_t fence, req;
    int64_t until, next; /* believes to hold it until; does something next */
};

static struct contender all[NODES];
static struct state past[PAST]; /* the last ones, newest at `versions - 1` */
static uint64_t versions;
static struct flying flying[FLYING];
static struct rng rng;
static int64_t now_ms;
static uint64_t highest;
static unsigned grants, lost_writes, late_writes, taken_over, renewed, unknown;

static struct state *present(void)
{
    return &past[(versions - 1) % PAST];
}

static struct flying *fly(enum flying_kind kind, unsigned node, int64_t delay)
{
    for (size_t i = 0; i < FLYING; i++)
        if (!flying[i].used) {
            flying[i] = (struct flying){.used = true, .kind = kind, .node = node, .at = now_ms + delay};
            return &flying[i];
        }
    cr_assert_fail("too much is under way");
    return NULL;
}

static bool chance(unsigned percent)
{
    return rng_below(&rng, 100) < percent;
}

static int64_t some(unsigned ms)
{
    return (int64_t)rng_below(&rng, ms + 1);
}

static void change(const struct lock_entry *e)
{
    uint64_t revision = present()->revision + 1;
    versions++;
    *present() = (struct state){.revision = revision, .there = e != NULL, .at = now_ms};
    if (e)
        present()->entry = *e;
    for (unsigned i = 0; i < NODES; i++) {
        if (chance(50))
            continue;
        struct flying *f = fly(HEAR, i, some(30));
        f->ev = (struct lock_event){.kind = LOCK_EV_ENTRY, .name = "a", .revision = revision};
        f->entry = present()->entry;
        f->ev.entry = e ? &f->entry : NULL;
    }
}

static void granted(unsigned node, const struct lock_answer *a)
{
    struct contender *c = &all[node];
    for (unsigned i = 0; i < NODES; i++)
        cr_assert(i == node || !all[i].holds || all[i].until <= now_ms,
                  "round %u: %u and %u hold it at %lld ms", grants, i, node, (long long)now_ms);
    cr_assert_gt(a->fence, highest, "round %u: the fence fell", grants);
    highest = a->fence;
    grants++;
    c->holds = true;
    c->fence = a->fence;
    c->until = now_ms + a->left_ms;
    c->next = now_ms + some(400);
    c->renews = chance(30);
}

static void answered(unsigned node, const struct lock_fx *fx)
{
    struct contender *c = &all[node];
    const struct lock_answer *a = &fx->answer;
    c->asking = false;
    unknown += a->code == ROOM_E_UNKNOWN_RESULT;
    if (a->code == 0 && c->req == LOCK_ACQUIRE) {
        granted(node, a);
        return;
    }
    if (a->code == 0 && c->req == LOCK_RENEW && c->holds && c->until > now_ms) {
        c->until = now_ms + a->left_ms;
        renewed++;
    }
    c->next = now_ms + some(c->req == LOCK_RENEW ? 300 : 100);
}

static void perform(unsigned node, const struct lock_effects *fx)
{
    for (size_t i = 0; i < fx->count; i++) {
        const struct lock_fx *e = &fx->items[i];
        if (e->kind == LOCK_FX_ANSWER) {
            fly(ANSWERED, node, 0)->fx = *e;
            continue;
        }
        bool lost = chance(8);
        bool late = lost && chance(50);
        struct flying *f = fly(DO, node, late ? some(4000) : some(5));
        f->fx = *e;
        f->lost = lost;
        lost_writes += lost;
        late_writes += late;
        if (lost) {
            f = fly(TELL, node, 2000);
            f->ev = (struct lock_event){.kind = LOCK_EV_DONE, .token = e->token, .result = CORE_KV_UNKNOWN};
        }
    }
}

static void step(unsigned node, const struct lock_event *ev)
{
    struct mono at = {(now_ms + all[node].offset) * 1000};
    perform(node, locks_step(all[node].l, ev, at, (struct wall){now_ms}));
}

/* At the registry. */
static void done(const struct flying *was)
{
    const struct lock_fx *fx = &was->fx;
    struct state seen = *present();
    struct lock_event ev = {.kind = LOCK_EV_DONE, .token = fx->token, .result = CORE_KV_OK};
    if (fx->kind == LOCK_FX_GET) {
        if (chance(3) && versions > 4)
            seen = past[(versions - 1 - rng_below(&rng, 4)) % PAST];
        ev.result = seen.there ? CORE_KV_OK : CORE_KV_NOT_FOUND;
        ev.revision = seen.revision;
    } else if (fx->expected == seen.revision || (fx->kind == LOCK_FX_PUT && !fx->expected && !seen.there)) {
        taken_over += fx->kind == LOCK_FX_PUT && seen.there && !fx->entry.fence;
        change(fx->kind == LOCK_FX_PUT ? &fx->entry : NULL);
        ev.revision = present()->revision;
        seen.there = false;
    } else {
        ev.result = CORE_KV_CONFLICT;
        seen.there = false;
    }
    if (was->lost)
        return;
    struct flying *f = fly(TELL, was->node, some(5));
    f->ev = ev;
    f->entry = seen.entry;
    f->ev.entry = seen.there ? &f->entry : NULL;
}

static void land(struct flying *f)
{
    struct flying was = *f;
    f->used = false;
    if (was.ev.entry)
        was.ev.entry = &was.entry;
    if (was.kind == DO)
        done(&was);
    else if (was.kind == ANSWERED)
        answered(was.node, &was.fx);
    else
        step(was.node, &was.ev);
}

static void live(unsigned node)
{
    struct contender *c = &all[node];
    char holder[16];
    if (c->asking || now_ms < c->next)
        return;
    snprintf(holder, sizeof(holder), "node-%u", node);
    bool has = c->holds && c->until > now_ms;
    struct lock_event ev = {.kind = LOCK_EV_ASK, .name = "a", .holder = holder, .verb = LOCK_ACQUIRE,
                            .ttl_ms = chance(20) ? 5000 : 300 + some(300), .wait_ms = some(2000)};
    if (has) {
        ev.verb = c->renews && chance(70) ? LOCK_RENEW : LOCK_RELEASE;
        ev.fence = c->fence;
        ev.ttl_ms = 0;
        ev.wait_ms = 0;
    }
    if (has && ev.verb == LOCK_RELEASE) {
        c->holds = false; /* before it is asked for */
        if (chance(30)) { /* dies without a word */
            c->next = now_ms + 500;
            return;
        }
    } else if (!has) {
        c->holds = false;
    }
    c->req = ev.verb;
    c->asking = true;
    step(node, &ev);
}

Test(core_lock_race, eight_nodes_never_hold_it_two_at_a_time)
{
    versions = 1;
    rng_init(&rng, 20);
    for (unsigned i = 0; i < NODES; i++) {
        all[i] = (struct contender){.l = locks_create(&alloc_libc, i), .offset = (int64_t)rng_below(&rng, 1000000)};
        cr_assert(all[i].l);
    }
    for (; grants < ROUNDS; now_ms++) {
        cr_assert_lt(now_ms, 3000000, "only %u rounds", grants);
        for (size_t i = 0; i < FLYING; i++)
            if (flying[i].used && flying[i].at <= now_ms)
                land(&flying[i]);
        for (unsigned i = 0; i < NODES; i++) {
            live(i);
            if (now_ms % CORE_TICK_MS == (int64_t)i)
                step(i, &(struct lock_event){.kind = LOCK_EV_TICK});
        }
    }
    cr_log_info("%u grants in %lld s: %u results lost, %u of them done late, %u taken over, %u renewed, %u unknown at the end\n",
                grants, (long long)(now_ms / 1000), lost_writes, late_writes, taken_over, renewed, unknown);
    cr_assert_gt(taken_over, 50);
    cr_assert_gt(renewed, 50);
    cr_assert_gt(late_writes, 50);
    for (unsigned i = 0; i < NODES; i++)
        locks_destroy(all[i].l);
}
