/* Images of rooms: what comes back, what does not, and that damaged ones make no room or a whole one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "room/replies.h"
#include "room_fixture.h"

static void keeps(struct host_config *c)
{
    c->snapshots = true;
    c->hold_ms = 1000;
}

/* The seats' and the type's part of an image, and all before it but epoch, version and age. */
static void show_image(const struct buf *image, char *out, size_t size)
{
    struct fixture show = {0};
    buf_init(&show.reply, &alloc_libc, 1 << 22);
    buf_write(&show.reply, image->data, image->len);
    snprintf(out, size, "%s", fixture_reply(&show));
    buf_deinit(&show.reply);
}

static int dice_message(struct room *room, const char *player, const void *data, size_t len)
{
    uint8_t n = (uint8_t)room_random(room, 100);
    room_set_metadata(room, &n, 1);
    return room_reply(room, &n, 1);
}

static void dice_tick(struct room *room, int64_t now_ms, int64_t dt_ms)
{
    char text[32];
    int n = snprintf(text + 1, sizeof(text) - 1, "%lld/%lld", (long long)now_ms, (long long)dt_ms);
    text[0] = (char)(0xA0 + n);
    room_broadcast(room, NULL, NULL, text, (size_t)n + 1);
}

static int dice_save(struct room *room)
{
    room_random(room, 6); /* uses nothing up here */
    return room_reply(room, "\xa4" "dice", 5);
}

static int dice_restore(struct room *room, const void *state, size_t len)
{
    return len == 5 && memcmp(state, "\xa4" "dice", 5) == 0 ? 0 : ROOM_E_BAD_FRAME;
}

static const struct room_type dice = {.api_version = ROOM_TYPE_API_VERSION, .name = "dice", .max_players = 3,
                                      .tick_ms = 1000, .durability = ROOM_DURABILITY_SNAPSHOT, .message = dice_message,
                                      .tick = dice_tick, .save = dice_save, .restore = dice_restore};

static void open_both(struct fixture *a, struct fixture *b)
{
    fixture_open(a, keeps);
    fixture_open(b, keeps);
    cr_assert_eq(types_add(a->types, &dice, NULL), 0);
    cr_assert_eq(types_add(b->types, &dice, NULL), 0);
    b->now.us += 77777777; /* another machine's clock */
}

Test(room_image, a_room_comes_back_with_its_seats_answers_time_and_chance)
{
    struct fixture a, b;
    char before[4096], after[4096];
    const int64_t last = 4 * REPLIES_MAX;
    open_both(&a, &b);
    struct host_start s = {.id = "d", .type = "dice", .epoch = 3, .private_room = true, .created = {99}};
    cr_assert_eq(host_start(a.host, &s, a.now, NULL), 0);
    cr_assert(host_room_unsaved(host_find(a.host, "d")));
    cr_assert_eq(fixture_join(&a, "d", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_join(&a, "d", "bob", 2, NULL), 0);
    for (int64_t n = 2; n <= last; n += 2)
        cr_assert_eq(fixture_send_n(&a, "d", 1, n, "1"), 0);
    strcpy(before, fixture_reply(&a));
    cr_assert_eq(host_lock(a.host, "d", true, a.now), 0);
    a.now = mono_add_ms(a.now, 1400);
    host_tick(a.host, a.now);
    a.now = mono_add_ms(a.now, 300);
    fixture_said(&a);
    cr_assert_eq(host_snapshot(a.host, "d", a.now), 0);
    cr_assert_eq(a.version, 1);
    cr_assert(!host_room_unsaved(host_find(a.host, "d")));

    struct host_restore r = {.id = "d", .epoch = 4, .image = a.image.data, .image_len = a.image.len};
    cr_assert_eq(host_restore(b.host, &r, b.now, NULL), 0);
    const struct room *room = host_find(b.host, "d");
    cr_assert(!host_room_running(room));
    cr_assert_eq(fixture_join(&b, "d", "ann", 1, NULL), ROOM_E_UNAVAILABLE);
    cr_assert_eq(fixture_send(&b, "d", 1, "1"), ROOM_E_UNAVAILABLE);
    cr_assert_eq(host_lock(b.host, "d", true, b.now), ROOM_E_UNAVAILABLE);
    b.now = mono_add_ms(b.now, 5000);
    host_tick(b.host, b.now);
    cr_assert_eq(host_resume(b.host, "d", b.now), 0);
    cr_assert_eq(host_resume(b.host, "d", b.now), ROOM_E_NOT_FOUND);
    cr_assert_str_eq(fixture_said(&b), "", "a room that comes back says nothing by itself");
    cr_assert_eq(host_room_epoch(room), 4);
    cr_assert_eq(host_room_created(room).ms, 99);
    cr_assert_eq(host_room_players(room), 2);
    cr_assert(host_room_private(room) && host_room_locked(room));
    cr_assert_str_eq(room_player(room, 1), "bob");
    cr_assert_eq(host_player_count(b.host), 2);
    cr_assert_str_eq(host_room_durability(room), "snapshot");
    cr_assert_eq(host_attach(b.host, "d", "ann", "s-ann", 7, b.now), 0);
    cr_assert_eq(fixture_send_n(&b, "d", 7, last, "1"), 0);
    cr_assert_str_eq(fixture_reply(&b), before, "the same answer");
    cr_assert_eq(fixture_send_n(&b, "d", 7, last - 1, "1"), ROOM_E_CANCELLED, "passed over there, and not done here");
    fixture_said(&b);
    b.now = mono_add_ms(b.now, 999);
    host_tick(b.host, b.now);
    cr_assert_str_eq(fixture_said(&b), "");
    cr_assert_eq(fixture_send_n(&a, "d", 1, last + 1, "1"), 0);
    cr_assert_eq(fixture_send_n(&b, "d", 7, last + 1, "1"), 0);
    show_image(&a.reply, before, sizeof(before));
    show_image(&b.reply, after, sizeof(after));
    cr_assert_str_eq(before, after, "chance goes on where it was");
    b.now = mono_add_ms(b.now, 1);
    host_tick(b.host, b.now);
    cr_assert_str_eq(fixture_said(&b), "left 0 timeout\nall -0 - \"2700/1300\"\n", "and so does time");
    fixture_close(&a);
    fixture_close(&b);
}

static void build_in(struct fixture *f, const char *type, const char *message)
{
    cr_assert_eq(fixture_start(f, type, type), 0);
    cr_assert_eq(fixture_join(f, type, "ann", 1, NULL), 0);
    cr_assert_eq(fixture_send_n(f, type, 1, 1, message), 0);
    cr_assert_eq(host_snapshot(f->host, type, f->now), 0);
}

Test(room_image, the_built_in_types_come_back_whole)
{
    static const char *const rows[][2] = {{"counter", "{\"add\":-7}"},
                                          {"state", "{\"set\":{\"b\":1,\"a\":{\"x\":[null,\"y\"]},\"c\":2}}"},
                                          {"relay", "{}"}};
    for (size_t i = 0; i < 3; i++) {
        struct fixture a, b;
        char before[4096], after[4096];
        open_both(&a, &b);
        build_in(&a, rows[i][0], rows[i][1]);
        cr_assert_eq(fixture_take_over(&b, rows[i][0], 1, &a), 0);
        cr_assert_eq(host_snapshot(b.host, rows[i][0], b.now), 0);
        show_image(&a.image, before, sizeof(before));
        show_image(&b.image, after, sizeof(after));
        cr_assert_str_eq(before, after);
        cr_assert_eq(host_attach(b.host, rows[i][0], "ann", "s-ann", 3, b.now), 0);
        cr_assert_eq(fixture_send_n(&b, rows[i][0], 3, 2, "{\"add\":1}") == 0, i != 1);
        fixture_close(&a);
        fixture_close(&b);
    }
}

Test(room_image, what_cannot_be_restored_says_why)
{
    struct fixture a, b;
    struct err_detail why;
    open_both(&a, &b);
    cr_assert_eq(fixture_start(&a, "l", "lobby"), 0);
    cr_assert_eq(host_snapshot(a.host, "l", a.now), ROOM_E_UNSUPPORTED);
    cr_assert_eq(host_snapshot(a.host, "x", a.now), ROOM_E_NOT_FOUND);
    cr_assert(!host_room_unsaved(host_find(a.host, "l")));
    cr_assert_str_eq(host_room_durability(host_find(a.host, "l")), "none");
    cr_assert_eq(types_variant(a.types, "tally=counter", NULL), 0);
    build_in(&a, "tally", "{\"add\":1}");
    struct host_restore r = {.id = "t", .epoch = 2, .image = a.image.data, .image_len = a.image.len};
    cr_assert_eq(host_restore(b.host, &r, b.now, &why), ROOM_E_UNKNOWN_TYPE);
    cr_assert_str_eq(why.text, "no room type 'tally' on this server");
    cr_assert_eq(types_variant(b.types, "tally=lobby", NULL), 0);
    cr_assert_eq(host_restore(b.host, &r, b.now, &why), ROOM_E_UNSUPPORTED);
    r.image_len--;
    cr_assert_eq(host_restore(a.host, &r, a.now, &why), ROOM_E_BAD_FRAME);
    cr_assert(strstr(why.text, "the image of room 't'") == why.text);
    r.image_len++;
    r.id = "tally";
    cr_assert_eq(host_restore(a.host, &r, a.now, &why), ROOM_E_EXISTS);
    r.id = "a b";
    cr_assert_eq(host_restore(a.host, &r, a.now, &why), ROOM_E_INVALID);
    r = (struct host_restore){.id = "shell", .epoch = 2};
    cr_assert_eq(host_restore(b.host, &r, b.now, &why), 0);
    cr_assert_eq(host_replay(b.host, "shell", 1, "\x90", 1), ROOM_E_UNSUPPORTED, "this host keeps no journal");
    cr_assert_eq(host_resume(b.host, "shell", b.now), ROOM_E_NOT_FOUND, "nothing is known of it");
    cr_assert_null(host_find(b.host, "shell"));
    cr_assert_eq(host_restore(b.host, &r, b.now, &why), 0);
    cr_assert_eq(host_stop(b.host, "shell", "x", b.now), 0);
    cr_assert_str_eq(fixture_said(&b), "ended shell x\n");
    fixture_close(&a);
    fixture_close(&b);
}

/* Bytes of its own, so that a look past the end is seen. */
static void try_image(struct fixture *f, const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    struct host_restore r = {.id = "r", .epoch = 2, .image = copy, .image_len = len};
    int rc = host_restore(f->host, &r, f->now, NULL);
    free(copy);
    cr_assert_eq(rc == 0, host_find(f->host, "r") != NULL);
    if (rc)
        return;
    cr_assert_eq(host_resume(f->host, "r", f->now), 0);
    const struct room *room = host_find(f->host, "r");
    cr_assert_leq(host_room_players(room), host_room_max_players(room));
    f->now = mono_add_ms(f->now, 1000);
    host_tick(f->host, f->now);
    cr_assert_eq(fixture_join(f, "r", "zoe", 9, NULL) == 0, !host_room_locked(room));
    cr_assert_eq(host_snapshot(f->host, "r", f->now), 0);
    cr_assert_eq(host_stop(f->host, "r", "x", f->now), 0);
    fixture_said(f);
}

Test(room_image, damaged_images_make_no_room_or_a_whole_one, .timeout = 120)
{
    static const char *const rows[][2] = {{"counter", "{\"add\":-700}"}, {"state", "{\"set\":{\"b\":1,\"a\":[2]}}"}, {"dice", "1"}};
    for (size_t i = 0; i < 3; i++) {
        struct fixture f, from;
        open_both(&from, &f);
        build_in(&from, rows[i][0], rows[i][1]);
        uint8_t *image = from.image.data;
        for (size_t len = 0; len <= from.image.len; len++)
            try_image(&f, image, len);
        for (size_t at = 0; at < from.image.len; at++) {
            uint8_t was = image[at];
            for (unsigned flip = 1; flip < 256; flip++) {
                image[at] = (uint8_t)(was ^ flip);
                try_image(&f, image, from.image.len);
            }
            image[at] = was;
        }
        cr_assert_eq(host_player_count(f.host), 0);
        cr_assert_eq(host_room_count(f.host), 0);
        fixture_close(&f);
        fixture_close(&from);
    }
}

Test(room_image, each_allocation_may_fail)
{
    struct fixture a, f;
    open_both(&a, &f);
    build_in(&a, "state", "{\"set\":{\"b\":1,\"a\":[2]}}");
    struct host_restore r = {.id = "r", .epoch = 2, .image = a.image.data, .image_len = a.image.len};
    int rc = 1;
    for (long n = 0; rc; n++) {
        f.memory.fail_after = n;
        rc = host_restore(f.host, &r, f.now, NULL);
        if (rc == 0)
            rc = host_resume(f.host, "r", f.now);
        if (rc == 0)
            rc = host_snapshot(f.host, "r", f.now);
        f.memory.fail_after = -1;
        cr_assert(rc == 0 || rc == ROOM_E_NO_MEMORY, "%s", room_error_name(rc));
        if (host_find(f.host, "r"))
            host_discard(f.host, "r");
    }
    fixture_close(&a);
    fixture_close(&f);
}
