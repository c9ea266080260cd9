/* Locks: who may have one, what a result that is unknown comes to, and that nobody gets one that somebody has. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/lock.h"

static struct alloc_budget memory;
static struct locks *l;
static struct mono now;
static struct lock_fx fx[16], last;
static size_t count;

static void begin(void)
{
    alloc_budget_init(&memory, &alloc_libc, SIZE_MAX);
    now = (struct mono){5000000};
    l = locks_create(&memory.alloc, 1);
    cr_assert(l);
}

static void end(void)
{
    locks_destroy(l);
    cr_assert_eq(memory.used_bytes, 0);
}

TestSuite(core_lock, .init = begin, .fini = end);

static void step(struct lock_event ev)
{
    const struct lock_effects *e = locks_step(l, &ev, now, (struct wall){1});
    cr_assert_leq(e->count, 16);
    count = e->count;
    memcpy(fx, e->items, count * sizeof(*fx));
}

static void ask(enum lock_verb verb, const char *holder, int64_t ttl, int64_t wait, uint64_t fence)
{
    step((struct lock_event){.kind = LOCK_EV_ASK, .req = 7, .verb = verb, .name = "a", .holder = holder, .ttl_ms = ttl,
                             .wait_ms = wait, .fence = fence});
}

/* Exactly one effect came, of this kind. */
static struct lock_fx *only(enum lock_fx_kind kind)
{
    cr_assert_eq(count, 1, "%zu effects", count);
    cr_assert_eq(fx[0].kind, kind, "kind %d", fx[0].kind);
    last = fx[0];
    return &last;
}

static void reply(enum core_kv_result result, uint64_t revision, const struct lock_entry *entry)
{
    step((struct lock_event){.kind = LOCK_EV_DONE, .token = last.token, .result = result, .revision = revision,
                             .entry = entry});
}

static struct lock_entry entry_by(const char *holder, int64_t ttl)
{
    struct lock_entry e = {.ttl_ms = ttl, .n = "other"};
    id_set(&e.holder, holder);
    return e;
}

static void heard(uint64_t revision, const struct lock_entry *entry)
{
    step((struct lock_event){.kind = LOCK_EV_ENTRY, .name = "a", .revision = revision, .entry = entry});
}

static void tick_after(int ms)
{
    now = mono_add_ms(now, ms);
    step((struct lock_event){.kind = LOCK_EV_TICK});
}

static const struct lock_answer *answered(int code)
{
    const struct lock_answer *a = &only(LOCK_FX_ANSWER)->answer;
    cr_assert_eq(a->code, code, "%s", room_error_name(a->code));
    return a;
}

/* Held by `holder` at revision 10, and somebody of this node who waits knows it. */
static void held_by(const char *holder, int64_t ttl, int64_t wait)
{
    struct lock_entry e = entry_by(holder, ttl);
    ask(LOCK_ACQUIRE, "me", 1000, wait, 0);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 0);
    reply(CORE_KV_CONFLICT, 0, NULL);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 10, &e);
}

Test(core_lock, a_free_one_is_taken_by_one_write)
{
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 0);
    cr_assert_str_eq(last.entry.holder.s, "me");
    now = mono_add_ms(now, 30);
    reply(CORE_KV_OK, 4, NULL);
    cr_assert_eq(answered(0)->fence, 4);
    cr_assert_eq(last.answer.left_ms, 970, "counted from when the write was sent");
}

Test(core_lock, one_that_is_held_is_refused_and_says_by_whom)
{
    held_by("other", 500, 0);
    const struct lock_answer *a = answered(ROOM_E_HELD);
    cr_assert_str_eq(a->holder.s, "other");
    cr_assert_eq(a->fence, 10);
    cr_assert_eq(a->left_ms, 500);
}

Test(core_lock, it_is_taken_over_only_when_unchanged_for_its_ttl_on_our_clock)
{
    held_by("other", 500, 60000);
    for (int i = 0; i < 11; i++) {
        cr_assert_eq(count, 0);
        tick_after(50);
    }
    cr_assert_eq(count, 0, "500 ms have passed, not yet the margin");
    tick_after(LOCK_MARGIN_MS - 50);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 10);
    reply(CORE_KV_OK, 11, NULL);
    cr_assert_eq(answered(0)->fence, 11);
}

Test(core_lock, a_renewal_that_is_heard_of_begins_the_ttl_anew)
{
    struct lock_entry e = entry_by("other", 500);
    held_by("other", 500, 60000);
    tick_after(300);
    e.fence = 10;
    heard(12, &e);
    tick_after(300);
    cr_assert_eq(count, 0);
    tick_after(250);
    cr_assert_eq(count, 0);
    tick_after(50);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 12);
    reply(CORE_KV_CONFLICT, 0, NULL);
    only(LOCK_FX_GET); /* it was renewed once more, unheard */
    reply(CORE_KV_OK, 13, &e);
    cr_assert_eq(count, 0);
    tick_after(550);
    cr_assert_eq(count, 0);
}

Test(core_lock, what_was_seen_by_those_who_did_not_wait_counts)
{
    struct lock_entry e = entry_by("other", 500);
    held_by("other", 500, 0);
    answered(ROOM_E_HELD);
    now = mono_add_ms(now, 700);
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 10, &e);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 10, "seen unchanged for longer than its ttl");
    reply(CORE_KV_OK, 11, NULL);
    answered(0);
}

Test(core_lock, a_release_that_is_heard_of_lets_the_first_in_line_try_at_once)
{
    held_by("other", 500, 1000);
    cr_assert_eq(count, 0);
    ask(LOCK_ACQUIRE, "second", 1000, 1000, 0);
    cr_assert_eq(count, 0, "behind the first");
    heard(11, NULL);
    cr_assert_str_eq(only(LOCK_FX_PUT)->entry.holder.s, "me");
    struct lock_entry mine = last.entry;
    reply(CORE_KV_OK, 12, NULL);
    cr_assert_eq(count, 2);
    cr_assert(fx[0].kind == LOCK_FX_ANSWER && fx[0].answer.code == 0);
    cr_assert_eq(fx[1].kind, LOCK_FX_GET, "its turn: it looks, and waits");
    last = fx[1];
    reply(CORE_KV_OK, 12, &mine);
    cr_assert_eq(count, 0);
    now = mono_add_ms(now, 950);
    heard(13, &mine);
    tick_after(50);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 13, &mine);
    cr_assert_str_eq(answered(ROOM_E_HELD)->holder.s, "me");
}

Test(core_lock, an_unknown_write_that_was_done_is_found_by_its_nonce)
{
    ask(LOCK_ACQUIRE, "me", 5000, 0, 0);
    struct lock_entry mine = only(LOCK_FX_PUT)->entry;
    now = mono_add_ms(now, 2000);
    reply(CORE_KV_UNKNOWN, 0, NULL);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 8, &mine);
    cr_assert_eq(answered(0)->fence, 8);
    cr_assert_eq(last.answer.left_ms, 3000);
}

Test(core_lock, an_unknown_write_that_is_not_there_is_sent_again_as_it_was)
{
    ask(LOCK_ACQUIRE, "me", 5000, 0, 0);
    struct lock_entry mine = only(LOCK_FX_PUT)->entry;
    reply(CORE_KV_UNKNOWN, 0, NULL);
    only(LOCK_FX_GET);
    reply(CORE_KV_NOT_FOUND, 0, NULL);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 0);
    cr_assert_str_eq(last.entry.n, mine.n);
    reply(CORE_KV_CONFLICT, 0, NULL); /* the first one came after all */
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 9, &mine);
    cr_assert_eq(answered(0)->fence, 9);
}

Test(core_lock, an_unknown_write_that_outlasted_its_ttl_is_not_called_ours)
{
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    struct lock_entry mine = only(LOCK_FX_PUT)->entry;
    now = mono_add_ms(now, 2000);
    reply(CORE_KV_UNKNOWN, 0, NULL);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 8, &mine);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 8, "taken anew");
    reply(CORE_KV_OK, 9, NULL);
    cr_assert_eq(answered(0)->fence, 9);
    cr_assert_eq(last.answer.left_ms, 1000);
}

Test(core_lock, what_stays_unknown_is_said_to_be_unknown)
{
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    only(LOCK_FX_PUT);
    reply(CORE_KV_UNKNOWN, 0, NULL);
    for (int i = 0; i < 100 && count && fx[0].kind != LOCK_FX_ANSWER; i++) {
        only(LOCK_FX_GET);
        now = mono_add_ms(now, 2000);
        reply(CORE_KV_UNKNOWN, 0, NULL);
        tick_after(50);
    }
    answered(ROOM_E_UNKNOWN_RESULT);
}

Test(core_lock, renewing_keeps_the_fence_and_releasing_ends_it)
{
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    only(LOCK_FX_PUT);
    reply(CORE_KV_OK, 4, NULL);
    answered(0);
    ask(LOCK_RENEW, "me", 0, 0, 4);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 4);
    cr_assert_eq(last.entry.fence, 4);
    cr_assert_eq(last.entry.ttl_ms, 1000);
    reply(CORE_KV_OK, 5, NULL);
    cr_assert_eq(answered(0)->fence, 4);
    ask(LOCK_RENEW, "me", 3000, 0, 5);
    only(LOCK_FX_GET);
    struct lock_entry mine = entry_by("me", 1000);
    mine.fence = 4;
    reply(CORE_KV_OK, 5, &mine);
    answered(ROOM_E_FENCED); /* 5 is a revision, not the fence */
    ask(LOCK_RELEASE, "me", 0, 0, 4);
    cr_assert_eq(only(LOCK_FX_DELETE)->expected, 5);
    reply(CORE_KV_UNKNOWN, 0, NULL);
    only(LOCK_FX_GET);
    reply(CORE_KV_NOT_FOUND, 6, NULL);
    answered(0);
    ask(LOCK_RELEASE, "me", 0, 0, 4);
    only(LOCK_FX_GET);
    reply(CORE_KV_NOT_FOUND, 6, NULL);
    answered(ROOM_E_NOT_FOUND);
}

Test(core_lock, whoever_lost_it_cannot_renew_and_an_old_reading_is_not_believed)
{
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    only(LOCK_FX_PUT);
    reply(CORE_KV_OK, 20, NULL);
    answered(0);
    struct lock_entry e = entry_by("other", 500);
    ask(LOCK_RENEW, "me", 0, 0, 20);
    only(LOCK_FX_PUT);
    reply(CORE_KV_CONFLICT, 0, NULL);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 10, &e); /* as it was before we had it */
    cr_assert_eq(count, 0);
    tick_after(50);
    only(LOCK_FX_GET);
    reply(CORE_KV_OK, 21, &e);
    answered(ROOM_E_FENCED);
}

Test(core_lock, the_same_holder_takes_it_anew_with_a_higher_fence)
{
    held_by("me", 60000, 0);
    cr_assert_eq(only(LOCK_FX_PUT)->expected, 10);
    reply(CORE_KV_OK, 11, NULL);
    cr_assert_eq(answered(0)->fence, 11);
    cr_assert_eq(last.entry.fence, 0);
}

Test(core_lock, what_is_wrong_or_too_much_is_refused)
{
    ask(LOCK_ACQUIRE, "not an id", 1000, 0, 0);
    answered(ROOM_E_INVALID);
    ask(LOCK_ACQUIRE, "me", LOCK_TTL_MIN_MS - 1, 0, 0);
    answered(ROOM_E_INVALID);
    ask(LOCK_ACQUIRE, "me", 1000, LOCK_WAIT_MAX_MS + 1, 0);
    answered(ROOM_E_INVALID);
    ask(LOCK_RENEW, "me", 1000, 0, 0);
    answered(ROOM_E_INVALID);
    for (int i = 0; i < LOCKS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        step((struct lock_event){.kind = LOCK_EV_ASK, .verb = LOCK_ACQUIRE, .name = name, .holder = "me", .ttl_ms = 1000});
        only(LOCK_FX_PUT);
    }
    ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
    answered(ROOM_E_FULL);
}

Test(core_lock, names_that_nobody_asks_for_make_room)
{
    for (uint64_t i = 0; i < 3 * LOCKS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%d", (int)i);
        step((struct lock_event){.kind = LOCK_EV_ASK, .verb = LOCK_ACQUIRE, .name = name, .holder = "me", .ttl_ms = 1000});
        only(LOCK_FX_PUT);
        reply(CORE_KV_OK, i + 1, NULL);
        answered(0);
    }
    cr_assert_lt(memory.used_bytes, 1024 * LOCKS_MAX);
}

Test(core_lock, without_memory_a_request_is_refused)
{
    for (long allowed = 0;; allowed++) {
        memory.fail_after = allowed;
        ask(LOCK_ACQUIRE, "me", 1000, 0, 0);
        memory.fail_after = -1;
        if (fx[0].kind == LOCK_FX_PUT)
            break;
        answered(ROOM_E_NO_MEMORY);
        cr_assert_lt(allowed, 20);
    }
}
