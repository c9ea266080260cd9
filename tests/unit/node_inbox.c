/* What stands in a player's inbox: read back as it was written, numbered, known again, and good up to its limits. */
#include <criterion/criterion.h>

#include <string.h>

#include "base/alloc.h"
#include "node/inbox.h"

static const struct inbox_limits LIMITS = {.messages = 5, .bytes = 1000};
static const uint8_t one[] = {0x01};

static struct inbox_message again(const struct inbox_message *m)
{
    static struct buf b;
    struct inbox_message out;
    if (!b.alloc)
        buf_init(&b, &alloc_libc, 65536);
    buf_reset(&b);
    inbox_write(m, &b);
    cr_assert_not(b.failed);
    cr_assert(inbox_read(&out, b.data, b.len));
    for (size_t cut = 0; cut < b.len; cut++)
        cr_assert_not(inbox_read(&(struct inbox_message){.mark = false}, b.data, cut), "%zu bytes are no message", cut);
    return out;
}

Test(node_inbox, is_read_as_it_was_written)
{
    struct inbox_message m = {.before = 70007, .size = 1, .data = {one, 1}};
    m.head = (struct inbox_head){.number = 3, .end = 900, .acked = 1, .acked_end = 300, .acked_sequence = 70000,
                                 .old_sequence = 69000, .old_end = 100, .recent_count = 2};
    m.head.recent[0] = (struct inbox_known){UINT64_MAX, 2};
    m.head.recent[1] = (struct inbox_known){7, 3};
    struct inbox_message r = again(&m);
    cr_assert(!r.mark && r.before == 70007 && r.size == 1 && r.data.len == 1 && r.data.data[0] == 1);
    cr_assert(r.head.number == 3 && r.head.end == 900 && r.head.acked == 1 && r.head.acked_end == 300);
    cr_assert(r.head.acked_sequence == 70000 && r.head.old_sequence == 69000 && r.head.old_end == 100);
    cr_assert_eq(inbox_find(&r.head, UINT64_MAX), 2);
    cr_assert_eq(inbox_find(&r.head, 7), 3);
    cr_assert_eq(inbox_find(&r.head, 8), 0);
    r = again(&(struct inbox_message){.mark = true});
    cr_assert(r.mark && r.head.recent_count == 0);
    cr_assert_not(inbox_read(&r, (const uint8_t *)"\x93\x01\x02\x03", 4));
}

Test(node_inbox, the_last_keys_are_known)
{
    struct inbox_head h = {.number = 0};
    for (uint64_t i = 1; i <= INBOX_RECENT + 10; i++) {
        (void)inbox_add(&h, i, 1000 + i, 1, &LIMITS);
        cr_assert_eq(inbox_find(&h, 1000 + i), i);
    }
    cr_assert_eq(inbox_find(&h, 1010), 0, "the oldest go");
    cr_assert_eq(inbox_find(&h, 1011), 11);
}

Test(node_inbox, what_is_beyond_the_limits_is_not_good)
{
    struct inbox_message pushes[40];
    struct inbox_head h = {.number = 0};
    for (unsigned i = 0; i < 40; i++) {
        uint64_t size = i < 20 ? 10 : 300; /* limited by number, then by bytes */
        uint64_t below = inbox_add(&h, i, i + 1, size, &LIMITS); /* message i + 1 of the stream, behind message i */
        pushes[i] = (struct inbox_message){.head = h, .size = size};
        unsigned good = 0;
        uint64_t bytes = 0;
        for (unsigned k = 0; k <= i; k++) {
            bool is = inbox_good(&pushes[k], &h, &LIMITS);
            good += is;
            bytes += is ? pushes[k].size : 0;
            cr_assert(!is || k + 1 >= below, "message %u is good and goes", k + 1);
            cr_assert(is || good == 0, "a gap");
        }
        cr_assert(good >= 1 && good <= LIMITS.messages && bytes <= LIMITS.bytes);
        if (i >= 4 && i < 20)
            cr_assert_eq(good, 5);
        if (i >= 24)
            cr_assert_eq(good, 3);
    }
    cr_assert_gt(h.old_sequence, 30, "what is out of reach is noted, and goes");
    h.acked = 39;
    cr_assert(!inbox_good(&pushes[38], &h, &LIMITS) && inbox_good(&pushes[39], &h, &LIMITS));
    cr_assert_not(inbox_good(&(struct inbox_message){.mark = true, .head = h}, &h, &LIMITS));
}
