/*
 * The client library on bytes: where frames begin and end.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "client/frame.h"

Test(client_frame, a_frame_is_found_whatever_the_pieces)
{
    static const uint8_t bytes[] = {0, 0, 0, 2, 'a', 'b', 0, 0, 0, 1, 'c'};
    const uint8_t *frame = NULL;
    size_t len = 0;
    for (size_t have = 0; have <= sizeof bytes; have++) {
        size_t at = 0;
        unsigned count = 0;
        while (frame_next(bytes, have, 16, &at, &frame, &len) == 1)
            count++;
        cr_assert_eq(count, have >= 11 ? 2u : have >= 6 ? 1u : 0u, "%zu bytes", have);
        cr_assert_eq(at, have >= 11 ? 11u : have >= 6 ? 6u : 0u);
    }
    cr_assert(len == 1 && frame[0] == 'c');
}

Test(client_frame, a_length_beyond_the_limit_is_refused_at_its_head)
{
    static const uint8_t big[] = {0xff, 0xff, 0xff, 0xff}, over[] = {0, 0, 0, 17}, fits[] = {0, 0, 0, 16}, empty[4] = {0};
    const uint8_t *frame;
    size_t len, at = 0;
    cr_assert_eq(frame_next(big, 4, 16, &at, &frame, &len), ROOM_E_TOO_BIG);
    cr_assert_eq(frame_next(over, 4, 16, &at, &frame, &len), ROOM_E_TOO_BIG);
    cr_assert_eq(frame_next(fits, 4, 16, &at, &frame, &len), 0);
    cr_assert_eq(frame_next(empty, 4, 16, &at, &frame, &len), ROOM_E_BAD_FRAME);
    cr_assert_eq(at, 0);
}

Test(client_frame, a_frame_that_does_not_fit_leaves_nothing)
{
    struct buf out;
    buf_init(&out, &alloc_libc, 16);
    size_t begin = frame_begin(&out);
    buf_write(&out, "12345678", 8);
    cr_assert_eq(frame_end(&out, begin, 0), 0);
    cr_assert(out.len == 12 && memcmp(out.data, "\0\0\0\x08", 4) == 0);
    begin = frame_begin(&out);
    buf_write(&out, "1", 1);
    cr_assert_eq(frame_end(&out, begin, 0), ROOM_E_FULL);
    cr_assert_eq(out.len, 12);
    begin = frame_begin(&out);
    cr_assert_eq(frame_end(&out, begin, ROOM_E_INVALID), ROOM_E_INVALID);
    cr_assert_eq(out.len, 12);
    cr_assert_not(out.failed);
    buf_deinit(&out);
}
