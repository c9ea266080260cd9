/* The host: starting, seats, messages, kicks, ticks, expiry, ends, and in which order the node hears of it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "room_fixture.h"

static int says(const void *data, const char *word)
{
    const unsigned char *p = data;
    return (size_t)(p[0] & 31) == strlen(word) && memcmp(p + 1, word, strlen(word)) == 0;
}

/* A type that does on command what a type can do; it counts its callbacks in a string. */
static char calls[256];

static void called(char c)
{
    size_t n = strlen(calls);
    if (n + 1 < sizeof(calls)) {
        calls[n] = c;
        calls[n + 1] = '\0';
    }
}

static int puppet_create(struct room *room, const void *options, size_t len)
{
    called('c');
    if (len && says(options, "close"))
        room_close(room, "at_once");
    return len && says(options, "refuse") ? ROOM_E_UNAUTHORIZED : 0;
}

static int puppet_join(struct room *room, const char *player, const void *options, size_t len)
{
    called('j');
    room_broadcast(room, NULL, NULL, "\xa3new", 4);
    if (len && says(options, "close"))
        room_close(room, "no_more");
    return len && says(options, "refuse") ? ROOM_E_UNAUTHORIZED : 0;
}

static void puppet_leave(struct room *room, const char *player, const char *reason)
{
    called('l');
    if (strcmp(reason, "chain") == 0 && room_player(room, 0))
        room_kick(room, room_player(room, 0), "chain");
}

static int puppet_message(struct room *room, const char *player, const void *data, size_t len)
{
    called('m');
    if (says(data, "kick"))
        return room_kick(room, player, "rude");
    if (says(data, "chain"))
        return room_kick(room, room_player(room, 0), "chain");
    if (says(data, "close"))
        room_close(room, "game_over");
    if (says(data, "fail")) {
        cr_assert_eq(room_reply(room, "\x01", 1), 0);
        return ROOM_E_CONFLICT;
    }
    if (says(data, "lock"))
        room_lock(room);
    if (says(data, "me"))
        return room_send(room, player, "\x05", 1);
    if (says(data, "meta"))
        return room_set_metadata(room, "\xa1m", 2);
    return room_reply(room, "\x07", 1);
}

static void puppet_tick(struct room *room, int64_t now_ms, int64_t dt_ms)
{
    char text[32];
    called('t');
    int n = snprintf(text + 1, sizeof(text) - 1, "%lld/%lld", (long long)now_ms, (long long)dt_ms);
    text[0] = (char)(0xA0 + n);
    room_broadcast(room, NULL, NULL, text, (size_t)n + 1);
}

static int puppet_state(struct room *room, const char *player)
{
    called('s');
    return strcmp(player, "stateless") == 0 ? ROOM_E_CONFLICT : room_reply(room, "\xa1s", 2);
}

static void puppet_dispose(struct room *room)
{
    called('d');
    cr_assert_eq(room_player_count(room), 0);
}

static const struct room_type puppet = {.api_version = ROOM_TYPE_API_VERSION,
                                        .name = "puppet",
                                        .max_players = 3,
                                        .flags = ROOM_TYPE_AUTO_DISPOSE,
                                        .create = puppet_create,
                                        .join = puppet_join,
                                        .leave = puppet_leave,
                                        .message = puppet_message,
                                        .tick = puppet_tick,
                                        .state = puppet_state,
                                        .dispose = puppet_dispose};

static void open_puppet(struct fixture *f)
{
    fixture_open(f, NULL);
    calls[0] = '\0';
    cr_assert_eq(types_add(f->types, &puppet, NULL), 0);
    cr_assert_eq(types_variant(f->types, "ticker=puppet,tick_ms=100", NULL), 0);
}

static void at(struct fixture *f, int64_t ms)
{
    f->now.us = 1000000 + ms * 1000;
    host_tick(f->host, f->now);
}

Test(room_host, start_says_what_is_wrong)
{
    struct fixture f;
    struct err_detail why;
    open_puppet(&f);
    struct host_start s = {.id = "r", .type = "puppet", .epoch = 9, .created = {123}, .private_room = true};
    struct host_start bad_type = {.id = "r2", .type = "chess"}, bad_id = {.id = "a.b", .type = "puppet"};
    struct host_start refused = {.id = "r3", .type = "puppet", .options = "\xa6refuse", .options_len = 7};
    struct host_start closed = {.id = "r4", .type = "puppet", .options = "\xa5" "close", .options_len = 6};
    struct host_start garbage = {.id = "r5", .type = "puppet", .options = "\xdd\xff\xff\xff\xff", .options_len = 5};
    cr_assert_eq(host_start(f.host, &s, f.now, &why), 0);
    cr_assert_eq(host_start(f.host, &s, f.now, &why), ROOM_E_EXISTS);
    cr_assert_str_eq(why.text, "room 'r' runs here already");
    cr_assert_eq(host_start(f.host, &bad_type, f.now, &why), ROOM_E_UNKNOWN_TYPE);
    cr_assert_str_eq(why.text, "no room type 'chess' on this server");
    cr_assert_eq(host_start(f.host, &bad_id, f.now, &why), ROOM_E_INVALID);
    cr_assert_eq(host_start(f.host, &refused, f.now, &why), ROOM_E_UNAUTHORIZED);
    cr_assert_str_eq(why.text, "room type 'puppet' refused to create room 'r3': not allowed");
    cr_assert_eq(host_start(f.host, &closed, f.now, &why), ROOM_E_CANCELLED);
    cr_assert_eq(host_start(f.host, &garbage, f.now, &why), ROOM_E_BAD_FRAME);
    cr_assert_str_eq(calls, "cccd");
    cr_assert_str_eq(fixture_said(&f), "");
    const struct room *r = host_find(f.host, "r");
    size_t len;
    cr_assert_eq(host_room_count(f.host), 1);
    cr_assert_eq(host_room_next(f.host, NULL), r);
    cr_assert_eq(host_room_epoch(r), 9);
    cr_assert_eq(host_room_created(r).ms, 123);
    cr_assert(host_room_private(r));
    cr_assert_null(host_room_metadata(r, &len));
    cr_assert_str_eq(host_room_durability(r), "none");
    cr_assert_str_eq(host_room_type(r)->name.s, "puppet");
    fixture_close(&f);
}

Test(room_host, join_leave_and_messages)
{
    struct fixture f;
    open_puppet(&f);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), ROOM_E_NOT_FOUND);
    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 0, NULL), ROOM_E_INVALID);
    cr_assert_eq(fixture_join(&f, "r", "a b", 1, NULL), ROOM_E_INVALID);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    cr_assert_str_eq(fixture_reply(&f), "\"s\"");
    cr_assert_str_eq(fixture_said(&f), "", "the newcomer does not hear of itself");
    cr_assert_eq(fixture_join(&f, "r", "ann", 2, NULL), ROOM_E_ALREADY);
    cr_assert_eq(fixture_join(&f, "r", "bob", 1, NULL), ROOM_E_ALREADY, "one seat for one who");
    cr_assert_eq(fixture_join_with(&f, "r", "bob", 2, "\"refuse\""), ROOM_E_UNAUTHORIZED);
    cr_assert_eq(fixture_join(&f, "r", "stateless", 2, NULL), ROOM_E_CONFLICT);
    cr_assert_eq(host_room_seats(host_find(f.host, "r")), 1);
    cr_assert_eq(fixture_join(&f, "r", "bob", 2, NULL), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"new\"\nall -0 - \"new\"\nall -0 - \"new\"\n");
    cr_assert_eq(fixture_send(&f, "r", 3, "1"), ROOM_E_NOT_FOUND);
    cr_assert_eq(fixture_send(&f, "r", 1, "1"), 0);
    cr_assert_str_eq(fixture_reply(&f), "7");
    cr_assert_eq(fixture_send(&f, "r", 1, "\"fail\""), ROOM_E_CONFLICT);
    cr_assert_eq(f.reply.len, 0, "the result of a refused message is taken back");
    cr_assert_eq(fixture_send(&f, "r", 2, "\"me\""), 0);
    cr_assert_str_eq(fixture_said(&f), "msg 2 5\n");
    cr_assert_eq(fixture_send(&f, "r", 2, "\"meta\""), 0);
    size_t len;
    cr_assert_arr_eq(host_room_metadata(host_find(f.host, "r"), &len), "\xa1m", 2);
    calls[0] = '\0';
    cr_assert_eq(host_leave(f.host, "r", 1, "left", f.now), 0);
    cr_assert_eq(host_leave(f.host, "r", 1, "left", f.now), ROOM_E_NOT_FOUND);
    cr_assert_str_eq(calls, "l");
    cr_assert_eq(host_player_count(f.host), 1);
    fixture_close(&f);
}

Test(room_host, kicks_and_ends_in_order)
{
    struct fixture f;
    open_puppet(&f);
    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_join(&f, "r", "bob", 2, NULL), 0);
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), 0);
    cr_assert_eq(fixture_join(&f, "r", "dan", 4, NULL), ROOM_E_ROOM_FULL);
    fixture_said(&f);
    cr_assert_eq(fixture_send(&f, "r", 2, "\"kick\""), 0);
    cr_assert_str_eq(fixture_said(&f), "left 2 rude\n");
    cr_assert_eq(fixture_send(&f, "r", 1, "\"chain\""), 0, "a leave() that kicks the next");
    cr_assert_str_eq(fixture_said(&f), "left 1 chain\nleft 3 chain\n");
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_join_with(&f, "r", "bob", 2, "\"close\""), ROOM_E_CANCELLED);
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"new\"\nleft 1 no_more\nleft 2 no_more\nended r no_more\n");
    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    calls[0] = '\0';
    cr_assert_eq(fixture_send(&f, "r", 1, "\"close\""), 0, "what it did counts");
    cr_assert_str_eq(fixture_said(&f), "left 1 game_over\nended r game_over\n");
    cr_assert_str_eq(calls, "md");
    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    cr_assert_eq(host_kick(f.host, "r", "ann", "rude", f.now), 0);
    cr_assert_eq(host_stop(f.host, "r", "", f.now), 0);
    cr_assert_eq(host_stop(f.host, "r", "", f.now), ROOM_E_NOT_FOUND);
    cr_assert_str_eq(fixture_said(&f), "left 1 rude\nended r closed\n");
    cr_assert_eq(host_player_count(f.host), 0);
    fixture_close(&f);
}

Test(room_host, tickets_locks_and_replacement)
{
    struct fixture f;
    char t1[HOST_TICKET_SIZE], t2[HOST_TICKET_SIZE];
    open_puppet(&f);
    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    cr_assert_eq(host_reserve(f.host, "r", "ann", f.now, t1), 0);
    cr_assert_eq(strlen(t1), 32);
    cr_assert_eq(host_room_seats(host_find(f.host, "r")), 1);
    cr_assert_eq(host_lock(f.host, "r", true, f.now), 0);
    cr_assert_eq(host_reserve(f.host, "r", "bob", f.now, t2), ROOM_E_ROOM_LOCKED);
    cr_assert_eq(fixture_join(&f, "r", "bob", 2, NULL), ROOM_E_ROOM_LOCKED);
    cr_assert_eq(fixture_join(&f, "r", "bob", 2, t1), ROOM_E_BAD_TICKET);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, t1), 0);
    cr_assert_eq(host_reserve(f.host, "r", "ann", f.now, t2), 0);
    calls[0] = '\0';
    fixture_said(&f);
    cr_assert_eq(fixture_join(&f, "r", "ann", 5, t2), 0);
    cr_assert_str_eq(fixture_said(&f), "left 1 replaced\n");
    cr_assert_str_eq(fixture_reply(&f), "\"s\"");
    cr_assert_str_eq(calls, "s", "the seat is kept: neither leave nor join");
    cr_assert_eq(host_player_count(f.host), 1);
    cr_assert_eq(host_lock(f.host, "r", false, f.now), 0);
    cr_assert_eq(host_reserve(f.host, "r", "bob", f.now, t2), 0);
    cr_assert_eq(host_unreserve(f.host, "r", "bob", t1, f.now), ROOM_E_BAD_TICKET);
    cr_assert_eq(host_unreserve(f.host, "r", "bob", t2, f.now), 0);
    cr_assert_eq(host_room_seats(host_find(f.host, "r")), 1);
    fixture_close(&f);
}

Test(room_host, ticks_expiry_and_empty_rooms)
{
    struct fixture f;
    struct mono due;
    char ticket[HOST_TICKET_SIZE];
    open_puppet(&f);
    cr_assert(!host_next_due(f.host, &due));
    cr_assert_eq(fixture_start(&f, "t", "ticker"), 0);
    cr_assert_eq(fixture_join(&f, "t", "ann", 1, NULL), 0);
    cr_assert(host_next_due(f.host, &due));
    cr_assert_eq(due.us, 1100000);
    at(&f, 99);
    cr_assert_str_eq(fixture_said(&f), "");
    at(&f, 103);
    at(&f, 199);
    at(&f, 200);
    at(&f, 950);
    cr_assert(host_next_due(f.host, &due));
    cr_assert_eq(due.us, 2050000, "missed ticks are not made up for");
    cr_assert_str_eq(fixture_said(&f), "all -0 - \"103/103\"\nall -0 - \"200/97\"\nall -0 - \"950/750\"\n");
    cr_assert_eq(host_stop(f.host, "t", "x", f.now), 0);
    cr_assert(!host_next_due(f.host, &due));
    fixture_said(&f);

    cr_assert_eq(fixture_start(&f, "r", "puppet"), 0);
    at(&f, 950 + 4900);
    cr_assert_eq(host_reserve(f.host, "r", "ann", f.now, ticket), 0);
    at(&f, 950 + 5000);
    cr_assert_not_null(host_find(f.host, "r"), "a reserved seat keeps it");
    cr_assert_eq(host_room_seats(host_find(f.host, "r")), 1);
    at(&f, 950 + 5900);
    cr_assert_eq(host_room_seats(host_find(f.host, "r")), 0, "the ticket has expired");
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, ticket), ROOM_E_BAD_TICKET);
    at(&f, 950 + 10899);
    cr_assert_str_eq(fixture_said(&f), "");
    at(&f, 950 + 10900);
    cr_assert_str_eq(fixture_said(&f), "ended r empty\n");
    fixture_close(&f);
}

/* Rooms become due in order, whatever was added and removed between. */
Test(room_host, due_rooms_are_served_in_order)
{
    struct fixture f;
    struct rng rng;
    struct mono due;
    int64_t last = 0;
    char id[16];
    open_puppet(&f);
    rng_init(&rng, 3);
    for (int i = 0; i < 500; i++) {
        f.now.us += (int64_t)rng_below(&rng, 3) * 1000;
        snprintf(id, sizeof(id), "r%d", i);
        cr_assert_eq(fixture_start(&f, id, "puppet"), 0);
        snprintf(id, sizeof(id), "r%d", (int)rng_below(&rng, 500));
        host_stop(f.host, id, "x", f.now);
        snprintf(id, sizeof(id), "r%d", (int)rng_below(&rng, 500));
        fixture_join(&f, id, "ann", 1, NULL);
    }
    unsigned rooms = host_room_count(f.host);
    while (host_next_due(f.host, &due)) {
        cr_assert(due.us >= last);
        last = due.us;
        host_tick(f.host, due);
        cr_assert(host_room_count(f.host) < rooms);
        rooms = host_room_count(f.host);
    }
    for (const struct room *r = host_room_next(f.host, NULL); r; r = host_room_next(f.host, r))
        cr_assert_eq(host_room_players(r), 1, "only rooms with players are left");
    fixture_close(&f);
}
