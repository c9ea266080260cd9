/* What an ill-behaved room or a machine without memory costs; and how little an idle room weighs. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "room_fixture.h"

static struct fixture *slow;

/* Takes memory and never gives it back before the end; "slow" takes two seconds of processor time. */
static int hog_message(struct room *room, const char *player, const void *data, size_t len)
{
    if (len == 5 && memcmp(data, "\xa4slow", 5) == 0) {
        slow->cpu_us += 2000000;
        return 0;
    }
    void *p = room_alloc(room, 600000);
    if (!p)
        return ROOM_E_NO_MEMORY;
    room_free(room, room_user(room), 600000);
    room_set_user(room, p);
    return 0;
}

static void hog_dispose(struct room *room)
{
    room_free(room, room_user(room), 600000);
}

static const struct room_type hog = {.api_version = ROOM_TYPE_API_VERSION,
                                     .name = "hog",
                                     .max_players = 10,
                                     .message = hog_message,
                                     .dispose = hog_dispose};

static void one_mib(struct host_config *c)
{
    c->room_max_bytes = 1 << 20;
    c->max_rooms = 3;
}

Test(room_limits, memory_and_time_cost_the_room_only)
{
    struct fixture f;
    fixture_open(&f, one_mib);
    slow = &f;
    cr_assert_eq(types_add(f.types, &hog, NULL), 0);
    cr_assert_eq(fixture_start(&f, "a", "hog"), 0);
    cr_assert_eq(fixture_start(&f, "b", "hog"), 0);
    cr_assert_eq(fixture_start(&f, "c", "relay"), 0);
    cr_assert_eq(fixture_start(&f, "d", "relay"), ROOM_E_FULL);
    cr_assert_eq(fixture_join(&f, "a", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_join(&f, "b", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_send(&f, "a", 1, "1"), 0);
    cr_assert_eq(fixture_send(&f, "a", 1, "1"), ROOM_E_NO_MEMORY);
    cr_assert_str_eq(fixture_said(&f), "left 1 room_memory\nended a room_memory\n");
    cr_assert_eq(fixture_send(&f, "b", 1, "1"), 0);
    cr_assert_eq(fixture_send(&f, "b", 1, "\"slow\""), ROOM_E_INTERNAL);
    cr_assert_str_eq(fixture_said(&f), "left 1 room_stuck\nended b room_stuck\n");
    cr_assert_eq(host_room_count(f.host), 1);
    fixture_close(&f);
}

static uint8_t much[ROOM_DATA_MAX + 1];
static int spoken;

/* Says what no link carries and no JSON can say, or answers two values for one. */
static int mouth_message(struct room *room, const char *player, const void *data, size_t len)
{
    static const uint8_t ext[] = {0xd4, 1, 0}, two[] = {1, 2};
    const char *what = (const char *)data + 1;
    if (*what == 'r')
        return room_reply(room, two, sizeof(two));
    if (*what == 'a')
        return room_reply(room, much, sizeof(much));
    const void *value = *what == 'e' ? ext : much;
    size_t size = *what == 'e' ? sizeof(ext) : sizeof(much);
    spoken = room_broadcast(room, NULL, NULL, value, size);
    cr_assert_eq(room_send(room, player, value, size), spoken);
    return 0;
}

static const struct room_type mouth = {.api_version = ROOM_TYPE_API_VERSION, .name = "mouth", .max_players = 2,
                                       .message = mouth_message};

Test(room_limits, what_cannot_reach_everybody_is_refused_to_the_room_type)
{
    struct fixture f;
    fixture_open(&f, NULL);
    cr_assert_eq(types_add(f.types, &mouth, NULL), 0);
    cr_assert_eq(fixture_start(&f, "m", "mouth"), 0);
    cr_assert_eq(fixture_join(&f, "m", "ann", 1, NULL), 0);
    memset(much, 0xc0, sizeof(much));
    cr_assert_eq(fixture_send(&f, "m", 1, "\"big\""), 0);
    cr_assert_eq(spoken, ROOM_E_TOO_BIG);
    cr_assert_eq(fixture_send(&f, "m", 1, "\"ext\""), 0);
    cr_assert_eq(spoken, ROOM_E_BAD_FRAME);
    cr_assert_eq(fixture_send(&f, "m", 1, "\"answer\""), ROOM_E_TOO_BIG);
    cr_assert_eq(fixture_send(&f, "m", 1, "\"reply\""), ROOM_E_INTERNAL);
    cr_assert_str_eq(fixture_said(&f), "");
    fixture_close(&f);
}

Test(room_limits, an_idle_room_is_small)
{
    struct fixture f;
    char id[ULID_SIZE];
    enum { ROOMS = 1000 };
    fixture_open(&f, NULL);
    size_t before = f.memory.used_bytes;
    for (int i = 0; i < ROOMS; i++) {
        snprintf(id, sizeof(id), "01ARZ3NDEKTSV4RRFFQ69G%04d", i);
        cr_assert_eq(fixture_start(&f, id, "relay"), 0);
    }
    size_t each = (f.memory.used_bytes - before) / ROOMS;
    cr_log_info("an idle relay room takes %zu bytes", each);
    cr_assert(each < 1536, "%zu bytes", each);
    fixture_close(&f);
}

/* Does all of it once with the N-th allocation failing, for N = 0, 1, 2 ... until none fails. */
static void play(struct fixture *f, const char *type, const char *message)
{
    for (long n = 0;; n++) {
        char ticket[HOST_TICKET_SIZE];
        cr_assert(n < 200);
        f->memory.fail_after = n;
        int rc = fixture_start(f, "r", type);
        cr_assert_eq(rc == 0, host_find(f->host, "r") != NULL);
        if (rc == 0)
            rc = host_reserve(f->host, "r", "ann", f->now, ticket);
        if (rc == 0) {
            rc = fixture_join(f, "r", "ann", 1, ticket);
            cr_assert_eq(rc == 0, host_room_players(host_find(f->host, "r")) == 1);
        }
        if (rc == 0) {
            rc = fixture_send(f, "r", 1, message);
            cr_assert_eq(f->reply.len > 0, rc == 0 && strcmp(type, "relay") != 0);
        }
        cr_assert(rc == 0 || rc == ROOM_E_NO_MEMORY, "%s", room_error_name(rc));
        f->memory.fail_after = -1;
        if (host_find(f->host, "r"))
            cr_assert_eq(host_stop(f->host, "r", "x", f->now), 0);
        if (rc == 0)
            return;
    }
}

Test(room_limits, each_allocation_may_fail)
{
    struct fixture f;
    fixture_open(&f, NULL);
    play(&f, "relay", "1");
    play(&f, "counter", "{\"add\":1}");
    play(&f, "state", "{\"set\":{\"a\":1,\"b\":[2],\"a\":3}}");
    play(&f, "state", "{\"cas\":{\"key\":\"a\",\"value\":1}}");
    fixture_close(&f);
}

/* Garbage at every door of every built-in: an error, and the room goes on. */
Test(room_limits, hostile_messages)
{
    static const char *const types[] = {"relay", "state", "counter", "lobby"};
    static const char *const garbage[] = {"\xdd\xff\xff\xff\xff", "\xc1", "\x81", "\xa5" "ab", "\xdf\xff\xff\xff\xff",
                                          "\x01\x02", "\xd9\xff", "\x81\x01\x02", ""};
    static const char *const wrong[] = {"1", "{}", "[]", "null", "{\"set\":1}", "{\"set\":{\"\":1}}", "{\"add\":\"x\"}",
                                        "{\"add\":1,\"add\":2}", "{\"delete\":{}}", "{\"delete\":[1]}", "{\"cas\":{}}",
                                        "{\"cas\":{\"key\":1,\"value\":2}}", "{\"cas\":{\"key\":\"a\",\"other\":2}}"};
    struct fixture f;
    static uint8_t huge[HOST_MESSAGE_MAX + 100];
    fixture_open(&f, NULL);
    memset(huge, 0x91, sizeof(huge));
    for (size_t t = 0; t < 4; t++) {
        cr_assert_eq(fixture_start(&f, types[t], types[t]), 0);
        cr_assert_eq(fixture_join(&f, types[t], "ann", 1, NULL), 0);
        for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++)
            cr_assert_eq(fixture_send_raw(&f, types[t], 1, ++f.last_n, garbage[i], strlen(garbage[i])),
                         ROOM_E_BAD_FRAME, "%s %zu", types[t], i);
        cr_assert_eq(fixture_send_raw(&f, types[t], 1, ++f.last_n, huge, sizeof(huge)), ROOM_E_TOO_BIG);
        cr_assert_neq(fixture_send_raw(&f, types[t], 1, ++f.last_n, huge, 1000), 0, "nested too deeply");
        for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
            int rc = fixture_send(&f, types[t], 1, wrong[i]);
            cr_assert(t == 0 ? rc == 0 : rc == (t == 3 ? ROOM_E_UNSUPPORTED : ROOM_E_INVALID), "%s %s: %s", types[t],
                      wrong[i], room_error_name(rc));
        }
        cr_assert_eq(host_room_players(host_find(f.host, types[t])), 1);
    }
    fixture_close(&f);
}
