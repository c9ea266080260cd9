/* A message that comes twice is done once and answered twice; what is remembered for it is bounded. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "room/replies.h"
#include "room_fixture.h"

Test(room_replies, a_message_sent_again_is_answered_again_and_not_done_again)
{
    struct fixture f;
    char ticket[HOST_TICKET_SIZE];
    fixture_open(&f, NULL);
    cr_assert_eq(fixture_start(&f, "c", "counter"), 0);
    cr_assert_eq(fixture_join(&f, "c", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_send_n(&f, "c", 1, 1, "{\"add\":5}"), 0);
    cr_assert_eq(fixture_send_n(&f, "c", 1, 2, "{\"sub\":5}"), ROOM_E_INVALID);
    cr_assert_eq(fixture_send_n(&f, "c", 1, 7, "{\"add\":1}"), 0, "numbers of other rooms lie between");
    fixture_said(&f);
    cr_assert_eq(fixture_send_n(&f, "c", 1, 1, "{\"add\":5}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":5}");
    cr_assert_eq(fixture_send_n(&f, "c", 1, 2, "{\"add\":5}"), ROOM_E_INVALID);
    cr_assert_eq(fixture_send_n(&f, "c", 1, 5, "{\"add\":5}"), ROOM_E_CANCELLED, "passed over: not done, and not said to be");
    cr_assert_str_eq(fixture_said(&f), "");
    cr_assert_eq(fixture_send_n(&f, "c", 1, 0, "{\"add\":1}"), 0);
    cr_assert_eq(fixture_send_n(&f, "c", 1, 0, "{\"add\":1}"), 0, "without a number each is one of its own");
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":8}");

    cr_assert_eq(host_reserve(f.host, "c", "ann", f.now, ticket), 0);
    cr_assert_eq(fixture_join(&f, "c", "ann", 2, ticket), 0, "the same session over another connection");
    cr_assert_eq(fixture_send_n(&f, "c", 2, 7, "{\"add\":1}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":6}");
    struct host_join other = {.id = "c", .player = "ann", .ticket = ticket, .who = 3, .session = "s-other"};
    cr_assert_eq(host_reserve(f.host, "c", "ann", f.now, ticket), 0);
    cr_assert_eq(host_join(f.host, &other, f.now), 0);
    cr_assert_eq(fixture_send_n(&f, "c", 3, 1, "{\"add\":1}"), 0, "another session counts anew");
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":9}");
    fixture_close(&f);
}

static void expect(const struct replies *r, int64_t n, bool known, int code, size_t len)
{
    struct replies_answer a = {.code = 1};
    cr_assert_eq(replies_find(r, n, &a), known, "%lld", (long long)n);
    if (known) {
        cr_assert_eq(a.code, code, "%lld: %d", (long long)n, a.code);
        cr_assert_eq(a.len, len, "%lld: %zu", (long long)n, a.len);
    }
}

Test(room_replies, the_newest_is_kept_and_the_rest_within_bounds)
{
    static uint8_t big[100000];
    struct alloc_budget b;
    struct replies r = {0};
    alloc_budget_init(&b, &alloc_libc, SIZE_MAX);
    expect(&r, 0, false, 0, 0);
    expect(&r, 1, false, 0, 0);
    for (int64_t n = 1; n <= 1000; n++)
        replies_add(&r, &b.alloc, n, 0, NULL, 0);
    cr_assert_eq(b.used_bytes, 0, "plain success needs no memory");
    expect(&r, 500, true, 0, 0);
    for (int64_t n = 1001; n <= 1100; n++)
        replies_add(&r, &b.alloc, n, n % 2 ? ROOM_E_INVALID : 0, big, n % 2 ? 0 : 10);
    expect(&r, 1100 - REPLIES_MAX, true, 0, 0);
    expect(&r, 500, true, 0, 0);
    expect(&r, 1100 - REPLIES_MAX + 1, true, ROOM_E_INVALID, 0);
    expect(&r, 1100, true, 0, 10);
    replies_add(&r, &b.alloc, 1101, 0, big, 4000);
    expect(&r, 1100, true, 0, 10);
    replies_add(&r, &b.alloc, 1102, 0, big, sizeof(big));
    expect(&r, 1102, true, 0, sizeof(big));
    expect(&r, 1101, true, 0, 0);
    cr_assert_eq(r.count, 1);
    replies_add(&r, &b.alloc, 1103, ROOM_E_FULL, NULL, 0);
    expect(&r, 1102, true, 0, 0);
    b.fail_after = 0;
    replies_add(&r, &b.alloc, 1104, ROOM_E_INVALID, NULL, 0);
    expect(&r, 1104, true, 0, 0);
    expect(&r, 1103, true, ROOM_E_FULL, 0);
    expect(&r, 1105, false, 0, 0);
    replies_clear(&r, &b.alloc);
    expect(&r, 1104, false, 0, 0);
    cr_assert_eq(b.used_bytes, 0);
}

Test(room_replies, what_was_passed_over_is_not_said_to_be_done)
{
    struct alloc_budget b;
    struct replies r = {0};
    alloc_budget_init(&b, &alloc_libc, SIZE_MAX);
    for (int64_t n = 1; n <= 40; n++)
        if (n % 10)
            replies_add(&r, &b.alloc, n, 0, NULL, 0);
    for (int64_t n = 1; n <= 39; n++)
        expect(&r, n, true, n % 10 ? 0 : ROOM_E_CANCELLED, 0);
    expect(&r, 40, false, 0, 0);
    replies_add(&r, &b.alloc, 1000, 0, "x", 1);
    expect(&r, 39, true, 0, 0);
    expect(&r, 40, true, ROOM_E_CANCELLED, 0);
    expect(&r, 999, true, ROOM_E_CANCELLED, 0);
    expect(&r, 1000, true, 0, 1);
    cr_assert_eq(r.count, 5, "numbers in a row are one entry");
    for (int64_t n = 1002; n <= 1002 + 2 * REPLIES_MAX; n += 2)
        replies_add(&r, &b.alloc, n, 0, NULL, 0);
    cr_assert_eq(r.count, REPLIES_MAX);
    expect(&r, 1001 + 2 * REPLIES_MAX, true, ROOM_E_CANCELLED, 0);
    expect(&r, 1002 + 2 * REPLIES_MAX, true, 0, 0);
    replies_clear(&r, &b.alloc);
    cr_assert_eq(b.used_bytes, 0);
}
