/* What is kept of a session's messages: in order, without a gap, within its bounds; and nothing leaks when memory ends. */
#include <criterion/criterion.h>

#include "node/tail.h"

static struct alloc_budget budget;

static void start(void)
{
    alloc_budget_init(&budget, &alloc_libc, SIZE_MAX);
}

static void fini(void)
{
    cr_assert_eq(budget.used_bytes, 0);
}

TestSuite(node_tail, .init = start, .fini = fini);

static uint64_t say(struct tail *t, uint32_t room, size_t len)
{
    static const uint8_t bytes[TAIL_BYTES + 1];
    struct words *w = words_get(&budget.alloc, room ? "ann" : NULL, bytes, len);
    uint64_t n = tail_add(t, &budget.alloc, room, w);
    words_put(&budget.alloc, w);
    return n;
}

static void holds(const struct tail *t, uint64_t floor, uint64_t last)
{
    cr_assert_eq(t->floor, floor);
    cr_assert_eq(t->last, last);
    cr_assert_null(tail_at(t, floor));
    for (uint64_t n = floor + 1; n <= last; n++)
        cr_assert_eq(tail_at(t, n)->room, n % 7, "message %lu is another one", (unsigned long)n);
    cr_assert_null(tail_at(t, last + 1));
}

Test(node_tail, in_order_and_acknowledged)
{
    struct tail t = {0};
    for (uint64_t n = 1; n <= 500; n++) {
        cr_assert_eq(say(&t, n % 7, n % 50), n);
        if (n % 3 == 0)
            tail_acknowledge(&t, &budget.alloc, n / 2);
        holds(&t, n / 3 * 3 / 2, n);
    }
    tail_acknowledge(&t, &budget.alloc, 10); /* an old one changes nothing */
    holds(&t, 249, 500);
    tail_acknowledge(&t, &budget.alloc, 1000);
    holds(&t, 500, 500);
    cr_assert_eq(budget.used_bytes, 0, "nothing is held for a client that has everything");
}

Test(node_tail, bounded_by_count)
{
    struct tail t = {0};
    for (uint64_t n = 1; n <= TAIL_COUNT + 100; n++)
        say(&t, n % 7, 1);
    holds(&t, 100, TAIL_COUNT + 100);
    tail_clear(&t, &budget.alloc);
}

Test(node_tail, bounded_by_bytes)
{
    struct tail t = {0};
    for (uint64_t n = 1; n <= 10; n++)
        say(&t, n % 7, TAIL_BYTES / 4);
    holds(&t, 6, 10);
    say(&t, 11 % 7, TAIL_BYTES + 1); /* the newest is kept, however big */
    holds(&t, 10, 11);
    say(&t, 12 % 7, 1);
    holds(&t, 11, 12);
    tail_clear(&t, &budget.alloc);
}

Test(node_tail, shared_words)
{
    struct tail a = {0}, b = {0};
    struct words *w = words_get(&budget.alloc, NULL, "xyz", 3);
    tail_add(&a, &budget.alloc, 1, w);
    tail_add(&b, &budget.alloc, 1, w);
    words_put(&budget.alloc, w);
    tail_clear(&a, &budget.alloc);
    cr_assert_eq(memcmp(tail_at(&b, 1)->words->data, "xyz", 3), 0);
    tail_clear(&b, &budget.alloc);
}

/* Without memory a message is not kept, nor are those before it: then there is no gap that nobody is told of. */
Test(node_tail, out_of_memory)
{
    for (long fail = 0; fail < 60; fail++) {
        struct tail t = {0};
        bool failed = false;
        budget.fail_after = fail;
        for (uint64_t n = 1; n <= 40; n++) {
            cr_assert_eq(say(&t, n % 7, 5), n);
            failed |= tail_at(&t, n) == NULL;
            cr_assert_leq(t.floor, n);
        }
        cr_assert(failed || fail > 40);
        budget.fail_after = -1;
        holds(&t, t.floor, 40);
        tail_clear(&t, &budget.alloc);
    }
}

Test(node_tail, goes_on_from_elsewhere)
{
    struct tail t = {0};
    say(&t, 1, 1);
    tail_begin_after(&t, &budget.alloc, 41);
    holds(&t, 41, 41);
    cr_assert_eq(say(&t, 42 % 7, 1), 42);
    holds(&t, 41, 42);
    tail_clear(&t, &budget.alloc);
}
