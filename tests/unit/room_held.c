/* Seats whose player is away: held, taken up again, ended by time; and rooms that stand still or vanish. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "room_fixture.h"

static char heard[256]; /* by the type */

static int watch_join(struct room *room, const char *player, const void *options, size_t len)
{
    snprintf(heard + strlen(heard), sizeof(heard) - strlen(heard), "+%s", player);
    return 0;
}

static void watch_leave(struct room *room, const char *player, const char *reason)
{
    snprintf(heard + strlen(heard), sizeof(heard) - strlen(heard), "-%s:%s", player, reason);
}

static int watch_message(struct room *room, const char *player, const void *data, size_t len)
{
    room_broadcast(room, NULL, player, data, len);
    return room_send(room, "ann", data, len);
}

static int watch_state(struct room *room, const char *player)
{
    return room_reply(room, "\xa1s", 2);
}

static const struct room_type watch = {.api_version = ROOM_TYPE_API_VERSION,
                                       .name = "watch",
                                       .max_players = 2,
                                       .join = watch_join,
                                       .leave = watch_leave,
                                       .message = watch_message,
                                       .state = watch_state};

static void short_hold(struct host_config *c)
{
    c->hold_ms = 2000;
}

static void open_watch(struct fixture *f)
{
    fixture_open(f, short_hold);
    heard[0] = '\0';
    cr_assert_eq(types_add(f->types, &watch, NULL), 0);
    cr_assert_eq(fixture_start(f, "r", "watch"), 0);
    cr_assert_eq(fixture_join(f, "r", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_join(f, "r", "bob", 2, NULL), 0);
    fixture_said(f);
}

static void later(struct fixture *f, int64_t ms)
{
    f->now = mono_add_ms(f->now, ms);
    host_tick(f->host, f->now);
}

Test(room_held, a_held_seat_is_taken_and_silent)
{
    struct fixture f;
    const void *cursor = NULL;
    struct host_member m;
    open_watch(&f);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), 0);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), ROOM_E_NOT_FOUND);
    cr_assert_eq(host_room_players(host_find(f.host, "r")), 2);
    cr_assert_eq(host_room_who(host_find(f.host, "r"), "ann"), 0);
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), ROOM_E_ROOM_FULL);
    cr_assert_eq(fixture_send(&f, "r", 1, "1"), ROOM_E_NOT_FOUND);
    cr_assert_eq(fixture_send(&f, "r", 2, "1"), 0, "the type sees no difference");
    cr_assert_str_eq(fixture_said(&f), "all -0 bob 1\n");
    cr_assert(host_room_member(host_find(f.host, "r"), &cursor, &m) && m.who == 0 && strcmp(m.player, "ann") == 0);
    cr_assert(host_room_member(host_find(f.host, "r"), &cursor, &m) && m.who == 2);
    cr_assert(!host_room_member(host_find(f.host, "r"), &cursor, &m));
    cr_assert_str_eq(heard, "+ann+bob");
    fixture_close(&f);
}

Test(room_held, the_same_session_takes_its_seat_up_again)
{
    struct fixture f;
    open_watch(&f);
    cr_assert_eq(fixture_send_n(&f, "r", 1, 1, "1"), 0);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), 0);
    fixture_said(&f);
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-other", 5, f.now), ROOM_E_NOT_FOUND);
    cr_assert_eq(host_attach(f.host, "r", "cid", "s-cid", 5, f.now), ROOM_E_NOT_FOUND);
    cr_assert_eq(host_attach(f.host, "q", "ann", "s-ann", 5, f.now), ROOM_E_NOT_FOUND);
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-ann", 2, f.now), ROOM_E_ALREADY);
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-ann", 5, f.now), 0);
    cr_assert_str_eq(fixture_said(&f), "attached 5 \"s\"\n");
    cr_assert_eq(fixture_send_n(&f, "r", 5, 1, "1"), 0);
    cr_assert_str_eq(fixture_said(&f), "", "it was answered before it was lost");
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-ann", 6, f.now), 0, "the gateway did not hear that it had lost it");
    cr_assert_str_eq(fixture_said(&f), "attached 6 \"s\"\n");
    cr_assert_eq(fixture_send(&f, "r", 5, "1"), ROOM_E_NOT_FOUND);
    later(&f, 2000);
    cr_assert_str_eq(heard, "+ann+bob", "nothing ends any more");
    cr_assert_eq(host_room_players(host_find(f.host, "r")), 2);
    fixture_close(&f);
}

Test(room_held, a_held_seat_ends_by_time_or_by_a_new_join)
{
    struct fixture f;
    struct mono due;
    open_watch(&f);
    cr_assert_eq(fixture_send_n(&f, "r", 2, 1, "1"), 0);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), 0);
    later(&f, 500);
    cr_assert_eq(host_hold(f.host, "r", 2, f.now), 0);
    fixture_said(&f);
    cr_assert(host_next_due(f.host, &due) && due.us == f.now.us + 1500000);
    later(&f, 1499);
    cr_assert_str_eq(fixture_said(&f), "");
    later(&f, 1);
    cr_assert_str_eq(fixture_said(&f), "left 0 timeout\n");
    cr_assert_eq(host_lock(f.host, "r", true, f.now), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 7, NULL), ROOM_E_ROOM_LOCKED);
    cr_assert_eq(fixture_join(&f, "r", "bob", 8, NULL), 0, "the own seat, whatever the lock says");
    cr_assert_eq(fixture_send_n(&f, "r", 8, 2, "1"), ROOM_E_NOT_FOUND, "the type cannot reach ann any more");
    cr_assert_str_eq(heard, "+ann+bob-ann:timeout");
    later(&f, 5000);
    cr_assert_eq(host_room_players(host_find(f.host, "r")), 1);
    cr_assert_eq(host_hold(f.host, "r", 8, f.now), 0);
    cr_assert_eq(host_kick(f.host, "r", "bob", "rude", f.now), 0);
    cr_assert_str_eq(heard, "+ann+bob-ann:timeout-bob:rude");
    cr_assert_eq(host_player_count(f.host), 0);
    fixture_close(&f);
}

Test(room_held, another_session_begins_anew_in_a_held_seat)
{
    struct fixture f;
    open_watch(&f);
    cr_assert_eq(fixture_send_n(&f, "r", 1, 9, "1"), 0);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), 0);
    struct host_join j = {.id = "r", .player = "ann", .who = 4, .session = "s-new"};
    cr_assert_eq(host_join(f.host, &j, f.now), 0);
    fixture_said(&f);
    cr_assert_eq(fixture_send_n(&f, "r", 4, 1, "2"), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 ann 2\nmsg 4 2\n");
    cr_assert_str_eq(heard, "+ann+bob");
    fixture_close(&f);
}

Test(room_held, a_frozen_room_stands_still_and_a_discarded_one_is_gone)
{
    struct fixture f;
    char ticket[HOST_TICKET_SIZE];
    open_watch(&f);
    cr_assert_eq(host_hold(f.host, "r", 1, f.now), 0);
    cr_assert_eq(host_freeze(f.host, "r", true, f.now), 0);
    cr_assert_eq(fixture_send(&f, "r", 2, "1"), ROOM_E_UNAVAILABLE);
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), ROOM_E_UNAVAILABLE);
    cr_assert_eq(host_reserve(f.host, "r", "cid", f.now, ticket), ROOM_E_UNAVAILABLE);
    cr_assert_eq(host_attach(f.host, "r", "ann", "s-ann", 5, f.now), ROOM_E_UNAVAILABLE);
    later(&f, 9000);
    cr_assert_eq(host_room_players(host_find(f.host, "r")), 2);
    cr_assert_eq(host_leave(f.host, "r", 2, "left", f.now), 0);
    cr_assert_str_eq(fixture_said(&f), "");
    cr_assert_eq(host_freeze(f.host, "r", false, f.now), 0);
    later(&f, 0);
    cr_assert_str_eq(fixture_said(&f), "left 0 timeout\n");
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), 0);
    cr_assert_eq(host_discard(f.host, "r"), 0);
    cr_assert_eq(host_discard(f.host, "r"), ROOM_E_NOT_FOUND);
    cr_assert_str_eq(fixture_said(&f), "");
    cr_assert_eq(host_player_count(f.host), 0);
    fixture_close(&f);
}
