/*
 * roomctl with two real nodes and players in their rooms: what it shows is what is, its orders are carried out, and check
 * finds what was planted.
 *
 * Decides nothing about the nodes themselves; rooms that outlive them are in roomctl_durable.c.
 */
#include <criterion/criterion.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "integration/roomctl_field.h"
#include "support/proc.h"

static void start(void)
{
    field_start(2, NULL, NULL);
}

static bool live_locked(const char *room)
{
    char words[100];
    snprintf(words, sizeof words, "room %s --json", room);
    json_t *root = ctl_json(words, 0);
    bool locked = json_is_true(json_object_get(json_object_get(root, "live"), "locked"));
    json_decref(root);
    return locked;
}

static void orders(struct player *alice)
{
    char only_b[] = "r-b";
    cr_assert_eq(ctl("lock r-a"), 0, "%s", ctl_out());
    cr_assert(live_locked("r-a"));
    cr_assert_eq(ctl("unlock r-a"), 0);
    cr_assert(!live_locked("r-a"));
    cr_assert_eq(ctl("close r-a"), 0);
    cr_assert(wait_until(player_left, alice, FIELD_T), "alice was not told");
    cr_assert(wait_until(rooms_are, only_b, FIELD_T));
    cr_assert_eq(ctl("close r-a 2>&1"), 3, "%s", ctl_out());
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
}

Test(roomctl_nodes, two_nodes, .timeout = 120, .init = start, .fini = field_stop)
{
    struct player alice, bob;
    char both[] = "r-a r-b";
    cr_assert_str_eq(ctl_ids("servers --json"), "n0 n1");
    enter(&alice, "alice", 0, "relay", "r-a");
    enter(&bob, "bob", 1, "relay", "r-b");
    cr_assert(wait_until(rooms_are, both, FIELD_T));
    cr_assert_eq(ctl("check"), 0, "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "2 servers, 2 rooms, 0 breaches"), "%s", ctl_out());
    cr_assert_eq(ctl("doctor"), 0, "%s", ctl_out());
    cr_assert_str_eq(ctl_ids("players --json"), "alice bob");
    cr_assert_str_eq(ctl_ids("players --json --room r-a"), "alice");
    cr_assert_str_eq(ctl_ids("players --json --server n1"), "bob");
    cr_assert_eq(ctl("room r-a"), 0);
    cr_assert(strstr(ctl_out(), "[\"alice\"]"), "%s", ctl_out());
    plant("rooms", "ghost", "{\"type\":\"relay\",\"owner\":\"n0\",\"boot\":\"of-old\",\"epoch\":1,\"nonce\":\"n\",\"players\":0,"
                            "\"seats\":0,\"seats_version\":1,\"max_players\":2,\"locked\":false,\"private\":false,"
                            "\"durability\":\"none\",\"state\":\"running\",\"created\":\"2025-01-01T00:00:00Z\"}");
    cr_assert_eq(ctl("check --settle 10ms"), 1, "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "room ghost"), "%s", ctl_out());
    plant("rooms", "ghost", NULL);
    plant("rooms", "broken", "no JSON");
    cr_assert_eq(ctl("check --settle 1s"), 1, "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "room broken: the entry is not readable"), "%s", ctl_out());
    plant("rooms", "broken", NULL);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    orders(&alice);
    room_client_destroy(alice.client);
    room_client_destroy(bob.client);
}

/* The same name on two nodes: the newest login is the only session, and check says so if it is not. */
Test(roomctl_nodes, one_player_twice, .timeout = 120, .init = start, .fini = field_stop)
{
    struct player first, second, third;
    char twice[] = "player alice: two sessions: on 'n0' and on 'n1'";
    enter(&first, "alice", 0, "relay", "r-a");
    enter(&second, "alice", 1, "relay", "r-b");
    cr_assert(wait_until(player_left, &first, FIELD_T), "the first one was not replaced");
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    cr_assert_str_eq(ctl_ids("players --json"), "alice");
    cr_assert(strstr(ctl_out(), "n1"), "%s", ctl_out());
    plant("players", "alice", NULL); /* so that the next one replaces nobody */
    enter(&third, "alice", 0, "relay", "r-a");
    cr_assert(check_says(twice), "%s", ctl_out());
    room_client_destroy(second.client);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    room_client_destroy(first.client);
    room_client_destroy(third.client);
}

Test(roomctl_nodes, a_node_dies, .timeout = 120, .init = start, .fini = field_stop)
{
    struct player bob;
    char one[] = "r-b";
    enter(&bob, "bob", 1, "relay", "r-b");
    cr_assert(wait_until(rooms_are, one, FIELD_T));
    for (int i = 0; i < 2; i++)
        field_signal_node(i, SIGSTOP);
    cr_assert_eq(ctl("check --settle 10ms --timeout 300ms"), 1, "%s", ctl_out());
    cr_assert(strstr(ctl_out(), "does not tell its rooms"), "%s", ctl_out());
    cr_assert_eq(ctl("doctor --timeout 300ms"), 1, "%s", ctl_out());
    cr_assert_eq(ctl("players --timeout 300ms 2>&1"), 4, "%s", ctl_out());
    cr_assert_eq(ctl("migrate r-b any --timeout 300ms 2>&1"), 4, "%s", ctl_out());
    cr_assert_eq(ctl("drain n1 --timeout 300ms 2>&1"), 4, "%s", ctl_out());
    for (int i = 0; i < 2; i++)
        field_signal_node(i, SIGCONT);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out());
    field_kill_node(1);
    cr_assert(wait_until(all_holds, NULL, FIELD_T), "%s", ctl_out()); /* the survivor has cleaned up */
    room_client_destroy(bob.client);
}
