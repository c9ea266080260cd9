/*
 * A snapshot's file: what was written is read, and nothing else.
 *
 * Pure: in memory. Invariant: each refusal names what is wrong.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "roomctl/snapfile.h"

static const char HEADER[] = "{\"snapshot\":{},\"room\":{}}";
static const uint8_t BYTES[] = {0, 1, '\n', 255, 7};

static struct buf example(void)
{
    struct buf b;
    buf_init(&b, &alloc_libc, SNAPFILE_MAX);
    cr_assert_eq(snapfile_write(&b, HEADER, strlen(HEADER), BYTES, sizeof BYTES), 0);
    return b;
}

Test(roomctl_snapfile, round_trip)
{
    struct buf b = example();
    struct snapfile f;
    struct err_detail d = {""};
    cr_assert_eq(snapfile_read(b.data, b.len, &f, &d), 0, "%s", d.text);
    cr_assert_eq(f.header_len, strlen(HEADER));
    cr_assert_arr_eq(f.header, HEADER, f.header_len);
    cr_assert_eq(f.len, sizeof BYTES);
    cr_assert_arr_eq(f.bytes, BYTES, f.len);
    cr_assert_eq(memcmp(b.data, "roomd-snapshot 1 ", 17), 0);
    buf_deinit(&b);
}

/* No byte may change, none be missing, none be added. */
Test(roomctl_snapfile, every_damage_is_seen)
{
    struct buf b = example();
    struct snapfile f;
    struct err_detail d;
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 4;
        d.text[0] = 0;
        cr_assert_eq(snapfile_read(b.data, b.len, &f, &d), ROOM_E_BAD_FRAME, "byte %zu", i);
        cr_assert(d.text[0]);
        b.data[i] ^= 4;
    }
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *part = malloc(len ? len : 1); /* so that the address sanitizer sees a step too far */
        memcpy(part, b.data, len);
        cr_assert_eq(snapfile_read(part, len, &f, &d), ROOM_E_BAD_FRAME, "%zu bytes", len);
        free(part);
    }
    buf_byte(&b, 'x');
    cr_assert_eq(snapfile_read(b.data, b.len, &f, &d), ROOM_E_BAD_FRAME);
    buf_deinit(&b);
}

Test(roomctl_snapfile, refusals_say_why)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no snapshot of roomd"},
        {"{\"room\":1}\n", "no snapshot of roomd"},
        {"roomd-snapshot", "no snapshot of roomd"},
        {"roomd-snapshot one\n", "first line is damaged"},
        {"roomd-snapshot 1 12 -3\n{}\n", "first line is damaged"},
        {"roomd-snapshot 2 0000000000000000 2\n{}\n", "format 2"},
        {"roomd-snapshot 1 0000000000000000 2\n{}\n", "damaged or cut off"},
        {"roomd-snapshot 1 0000000000000000 99\n{}\n", "within its header"},
        {"roomd-snapshot 1 0000000000000000 999999999\n{}\n", "within its header"},
    };
    struct snapfile f;
    struct err_detail d;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(snapfile_read(cases[i].text, strlen(cases[i].text), &f, &d), ROOM_E_BAD_FRAME, "%s", cases[i].text);
        cr_assert(strstr(d.text, cases[i].says), "%s: %s", cases[i].text, d.text);
    }
}

Test(roomctl_snapfile, limits)
{
    struct buf b;
    char *long_header = calloc(1, SNAPFILE_HEADER_MAX + 1);
    buf_init(&b, &alloc_libc, SNAPFILE_MAX);
    cr_assert_eq(snapfile_write(&b, long_header, SNAPFILE_HEADER_MAX + 1, BYTES, sizeof BYTES), ROOM_E_TOO_BIG);
    cr_assert_eq(snapfile_write(&b, HEADER, strlen(HEADER), long_header, SNAPFILE_MAX), ROOM_E_TOO_BIG);
    cr_assert_eq(b.len, 0);
    free(long_header);
    buf_deinit(&b);
}
