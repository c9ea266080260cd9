/* What the built-in room types do, and the example room type as a loaded shared object. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "room_fixture.h"

static void two_in(struct fixture *f, const char *type)
{
    fixture_open(f, NULL);
    cr_assert_eq(fixture_start(f, "r", type), 0);
    cr_assert_eq(fixture_join(f, "r", "ann", 1, NULL), 0);
    cr_assert_eq(fixture_join(f, "r", "bob", 2, NULL), 0);
    fixture_said(f);
}

Test(room_builtin, relay)
{
    struct fixture f;
    two_in(&f, "relay");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"x\":1}"), 0);
    cr_assert_str_eq(fixture_said(&f), "all -1 ann {\"x\":1}\n");
    cr_assert_str_eq(fixture_reply(&f), "");
    cr_assert_eq(host_leave(f.host, "r", 2, NULL, f.now), 0);
    cr_assert_eq(fixture_send(&f, "r", 1, "1"), 0);
    cr_assert_str_eq(fixture_said(&f), "", "alone: nobody to tell");
    fixture_close(&f);
}

Test(room_builtin, counter)
{
    struct fixture f;
    two_in(&f, "counter");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"add\":5}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":5}");
    cr_assert_str_eq(fixture_said(&f), "all -0 - {\"value\":5}\n");
    cr_assert_eq(fixture_send(&f, "r", 2, "{\"add\":-7}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":-2}");
    cr_assert_eq(fixture_send(&f, "r", 2, "{\"add\":-9223372036854775807}"), ROOM_E_FULL);
    cr_assert_eq(fixture_send(&f, "r", 2, "{\"add\":9223372036854775807}"), 0);
    cr_assert_eq(fixture_send(&f, "r", 2, "{\"add\":9223372036854775807}"), ROOM_E_FULL);
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"value\":9223372036854775805}");
    cr_assert_str_eq(host_room_durability(host_find(f.host, "r")), "none");
    cr_assert_eq(host_room_type(host_find(f.host, "r"))->durability, ROOM_DURABILITY_JOURNAL);
    fixture_close(&f);
}

Test(room_builtin, state_sets_and_deletes)
{
    struct fixture f;
    two_in(&f, "state");
    cr_assert_str_eq(fixture_reply(&f), "{}");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"set\":{\"a\":1,\"b\":[2,{}]}}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"ok\":true}");
    cr_assert_str_eq(fixture_said(&f), "all -0 ann {\"set\":{\"a\":1,\"b\":[2,{}]}}\n");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"set\":{\"c\":7,\"\":1}}"), ROOM_E_INVALID, "all or nothing");
    cr_assert_eq(fixture_send(&f, "r", 2, "{\"delete\":[\"a\",\"nothing\"]}"), 0);
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"b\":[2,{}]}");
    fixture_close(&f);
}

Test(room_builtin, state_compares_and_sets)
{
    struct fixture f;
    two_in(&f, "state");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"cas\":{\"key\":\"a\",\"expect\":null,\"value\":1}}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"ok\":true}");
    cr_assert_str_eq(fixture_said(&f), "all -0 ann {\"set\":{\"a\":1}}\n");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"cas\":{\"key\":\"a\",\"value\":2}}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "{\"ok\":false}");
    cr_assert_str_eq(fixture_said(&f), "");
    /* 1 as a 64-bit integer is still 1 */
    static const char wide[] = "\x81\xa3" "cas" "\x83\xa3" "key" "\xa1" "a" "\xa6" "expect" "\xd3\0\0\0\0\0\0\0\x01"
                               "\xa5" "value" "\x03";
    cr_assert_eq(fixture_send_raw(&f, "r", 2, ++f.last_n, wide, sizeof(wide) - 1), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 bob {\"set\":{\"a\":3}}\n");
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"cas\":{\"key\":\"a\",\"expect\":3}}"), 0);
    cr_assert_str_eq(fixture_said(&f), "all -0 ann {\"delete\":[\"a\"]}\n");
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), 0);
    cr_assert_str_eq(fixture_reply(&f), "{}");
    fixture_close(&f);
}

Test(room_builtin, state_is_bounded)
{
    struct fixture f;
    char text[128];
    static char big[200000];
    int keys = 0, rc;
    two_in(&f, "state");
    snprintf(big, sizeof(big), "{\"set\":{\"k\":\"%0150000d\"}}", 0);
    for (char k = 'a'; (rc = fixture_send(&f, "r", 1, big)) == 0; k++) {
        big[9] = k;
        keys++;
        cr_assert(keys < 20);
        fixture_said(&f);
    }
    cr_assert_eq(rc, ROOM_E_FULL);
    cr_assert_eq(keys, 3, "of 150,000 bytes fit in half a megabyte, not %d", keys);
    big[9] = 'a';
    cr_assert_eq(fixture_send(&f, "r", 1, big), 0, "replacing takes no more");
    fixture_said(&f);
    cr_assert_eq(fixture_join(&f, "r", "cid", 3, NULL), 0);
    cr_assert_gt(f.reply.len, 450000);
    fixture_close(&f);

    two_in(&f, "state");
    for (keys = 0; keys < 20000; keys++) {
        snprintf(text, sizeof(text), "{\"set\":{\"key%d\":1}}", keys);
        if ((rc = fixture_send(&f, "r", 1, text)) != 0)
            break;
        fixture_said(&f);
    }
    cr_assert_eq(rc, ROOM_E_FULL);
    cr_assert_eq(keys, 10000);
    cr_assert_lt(host_room_bytes(host_find(f.host, "r")), (size_t)4 << 20);
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"delete\":[\"key7\"]}"), 0);
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"set\":{\"again\":1}}"), 0);
    fixture_close(&f);
}

static struct lobby_entry entry(const char *id, const char *type, unsigned seats)
{
    return (struct lobby_entry){.id = id, .type = type, .server = "s1", .players = seats, .seats = seats, .max_players = 2};
}

static void list(struct fixture *f, struct lobby_entry e)
{
    cr_assert_eq(host_lobby_change(f->host, &e, f->now), 0);
}

#define ROOM_TEXT(id, type, players)                                                                                  \
    "{\"room_id\":\"" id "\",\"type\":\"" type "\",\"server\":\"s1\",\"players\":" players                              \
    ",\"max_players\":2,\"locked\":false}"

static bool not_b(void *unused, const char *id)
{
    (void)unused;
    return strcmp(id, "b") != 0;
}

Test(room_builtin, lobby)
{
    struct fixture f;
    fixture_open(&f, NULL);
    list(&f, entry("a", "chess", 2));
    list(&f, entry("b", "go", 0));
    cr_assert_eq(fixture_start(&f, "l", "lobby"), 0);
    cr_assert_eq(fixture_join(&f, "l", "all", 9, NULL), ROOM_E_INVALID, "a reserved name");
    cr_assert_eq(fixture_join(&f, "l", "ann", 1, NULL), 0);
    cr_assert_str_eq(fixture_reply(&f), "[" ROOM_TEXT("a", "chess", "2") "," ROOM_TEXT("b", "go", "0") "]");
    list(&f, entry("c", "go", 1));
    list(&f, entry("c", "go", 1));
    list(&f, entry("c", "go", 2));
    cr_assert_str_eq(fixture_said(&f), "all -0 - {\"added\":" ROOM_TEXT("c", "go", "1") "}\n"
                                       "all -0 - {\"updated\":" ROOM_TEXT("c", "go", "2") "}\n");
    cr_assert_eq(fixture_join_with(&f, "l", "bob", 2, "{\"colour\":1}"), ROOM_E_INVALID);
    cr_assert_eq(fixture_join_with(&f, "l", "bob", 2, "{\"type\":\"go\",\"has_space\":true,\"unlocked\":true}"), 0);
    cr_assert_str_eq(fixture_reply(&f), "[" ROOM_TEXT("b", "go", "0") "]");
    list(&f, entry("a", "chess", 1));
    cr_assert_str_eq(fixture_said(&f), "msg 1 {\"updated\":" ROOM_TEXT("a", "chess", "1") "}\n");
    list(&f, entry("b", "go", 2));
    cr_assert_str_eq(fixture_said(&f), "msg 1 {\"updated\":" ROOM_TEXT("b", "go", "2") "}\nmsg 2 {\"removed\":\"b\"}\n");
    list(&f, entry("b", "go", 1));
    cr_assert_str_eq(fixture_said(&f), "msg 1 {\"updated\":" ROOM_TEXT("b", "go", "1") "}\nmsg 2 {\"added\":" ROOM_TEXT(
                                           "b", "go", "1") "}\n");
    host_lobby_keep(f.host, not_b, NULL, f.now);
    list(&f, (struct lobby_entry){.id = "b", .removed = true});
    cr_assert_str_eq(fixture_said(&f), "msg 1 {\"removed\":\"b\"}\nmsg 2 {\"removed\":\"b\"}\n");
    cr_assert_eq(host_leave(f.host, "l", 2, NULL, f.now), 0);
    list(&f, entry("d", "go", 0));
    cr_assert_str_eq(fixture_said(&f), "all -0 - {\"added\":" ROOM_TEXT("d", "go", "0") "}\n");
    struct lobby_entry bad = entry("e", "go", 0);
    bad.metadata = "\x81";
    bad.metadata_len = 1;
    cr_assert_eq(host_lobby_change(f.host, &bad, f.now), ROOM_E_INVALID);
    cr_assert_eq(host_stop(f.host, "l", "x", f.now), 0);
    list(&f, entry("f", "go", 0));
    fixture_close(&f);
}

Test(room_builtin, the_example_plays)
{
    struct fixture f;
    struct err_detail why;
    fixture_open(&f, NULL);
    cr_assert_eq(types_load(f.types, TICTACTOE, &why), 0, "%s", why.text);
    cr_assert_eq(fixture_start(&f, "r", "tictactoe"), 0);
    cr_assert_eq(fixture_join(&f, "r", "ann", 1, NULL), 0);
    cr_assert_str_eq(fixture_reply(&f), "\".........X\"");
    cr_assert_eq(fixture_send(&f, "r", 1, "4"), ROOM_E_CONFLICT, "alone");
    cr_assert_eq(fixture_join(&f, "r", "bob", 2, NULL), 0);
    cr_assert(host_room_locked(host_find(f.host, "r")));
    cr_assert_eq(fixture_send(&f, "r", 2, "0"), ROOM_E_CONFLICT, "X begins");
    cr_assert_eq(fixture_send(&f, "r", 1, "9"), ROOM_E_INVALID);
    cr_assert_eq(fixture_send(&f, "r", 1, "{\"set\":1}"), ROOM_E_INVALID);
    static const char *const moves[] = {"4", "0", "2", "1", "6"};
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(fixture_send(&f, "r", 1 + (uint64_t)i % 2, moves[i]), 0);
        cr_assert_str_eq(fixture_reply(&f), "true");
    }
    cr_assert(strstr(fixture_said(&f), "all -0 - \"OOX.X.X..x\"\n"));
    cr_assert_eq(fixture_send(&f, "r", 2, "8"), ROOM_E_CONFLICT, "it is over");
    cr_assert_eq(host_leave(f.host, "r", 1, NULL, f.now), 0);
    cr_assert_str_eq(fixture_said(&f), "left 2 opponent_left\nended r opponent_left\n");
    fixture_close(&f);
}
