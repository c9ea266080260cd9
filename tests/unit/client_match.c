/* The client in a matchmaking queue, against a scripted server: what is told once, what is asked again, what ends it. */
#include "client_peer.h"

#include <string.h>

/* {"rank": 7} */
static const uint8_t rank[] = "\x81\xa4rank\x07";
static const char *const party[] = {"bob"};
static const struct room_client_match duel = {.queue = "duel", .properties = rank, .properties_len = sizeof rank - 1,
                                              .party = party, .party_count = 1};

static int64_t read_match(struct peer *p, struct room_client *c)
{
    struct wire_frame_match m;
    READ(p, c, match, &m);
    cr_assert_str_eq(m.queue.s, "duel");
    cr_assert(m.properties.len == sizeof rank - 1 && memcmp(m.properties.data, rank, m.properties.len) == 0);
    cr_assert(m.party.count == 1 && wire_str_is(m.party.items[0], "bob"));
    return m.id;
}

static int64_t ask(struct peer *p, struct room_client *c)
{
    uint64_t request = 0;
    cr_assert_eq(room_client_match(c, &duel, &request), 0);
    cr_assert_eq(read_match(p, c), (int64_t)request);
    return (int64_t)request;
}

static void say_queued(struct peer *p, int64_t id)
{
    SAY(p, queued, .id = id, .queue = {"duel"}, .ticket = {"t-1"});
}

static void say_matched(struct peer *p, int64_t id, const char *match)
{
    struct id m;
    id_set(&m, match);
    SAY(p, matched, .queue = {"duel"}, .match = m, .room_id = {"r-9"}, .type = {"chess"}, .team = 1, .server = {"node-2"},
        .id = id, .has_id = id != 0, .players = {2, {wire_str("bob"), wire_str("alice")}});
}

static void back(struct peer *p, struct room_client *c, bool resumed)
{
    struct wire_frame_hello hello;
    peer_cut(p);
    run_until(c, "reconnecting;");
    READ(p, c, hello, &hello);
    SAY(p, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = resumed, .server = {"node-1"});
}

static struct room_client *open_client(struct peer *p)
{
    struct room_client *c = client_to(p, NULL, NULL);
    greet(p, c, "node-1");
    run_until(c, "welcome node-1;");
    said[0] = '\0';
    return c;
}

Test(client_match, queued_and_matched_are_told_once)
{
    struct peer p = peer_open();
    struct room_client *c = open_client(&p);
    int64_t id = ask(&p, c);
    cr_assert_eq(room_client_match(c, &duel, NULL), ROOM_E_ALREADY);
    say_queued(&p, id);
    say_queued(&p, id);
    SAY(&p, confirm, .queue = {"duel"}, .match = {"m-1"}, .wait_ms = 500, .players = 2);
    SAY(&p, confirm, .queue = {"duel"}, .match = {"m-1"}, .wait_ms = 400, .players = 2);
    run_until(c, "confirm");
    cr_assert_eq(room_client_accept(c, "m-1", 1), 0);
    struct wire_frame_accept yes;
    READ(&p, c, accept, &yes);
    cr_assert(yes.accept && strcmp(yes.match.s, "m-1") == 0);
    say_matched(&p, id, "m-1");
    say_matched(&p, id, "m-1");
    SAY(&p, pong, .t = 1);
    say_matched(&p, 0, "m-2"); /* by a party */
    run_until(c, "matched 0 m-2 r-9 chess 1 bob alice;");
    cr_assert_str_eq(said, "queued 1 duel t-1;confirm duel m-1 500 2;matched 1 m-1 r-9 chess 1 bob alice;"
                           "matched 0 m-2 r-9 chess 1 bob alice;");
    cr_assert_eq(room_client_unmatch(c), ROOM_E_NOT_FOUND);
    put_away(&p, c);
}

Test(client_match, it_waits_on_over_a_lost_connection)
{
    struct peer p = peer_open();
    struct room_client *c = open_client(&p);
    int64_t id = ask(&p, c);
    say_queued(&p, id);
    run_until(c, "queued 1");
    back(&p, c, true);
    cr_assert_eq(read_match(&p, c), id, "it is asked again by the same number");
    cr_assert_eq(room_client_unmatch(c), 0);
    struct wire_frame_unmatch leave;
    READ(&p, c, unmatch, &leave);
    cr_assert_str_eq(leave.queue.s, "duel");
    back(&p, c, true);
    cr_assert_eq(read_match(&p, c), id);
    READ(&p, c, unmatch, &leave); /* and so is that it is to end */
    SAY(&p, unmatched, .id = id, .queue = {"duel"}, .ticket = {"t-1"}, .reason = wire_str("left"));
    SAY(&p, unmatched, .id = id, .queue = {"duel"}, .ticket = {"t-1"}, .reason = wire_str("left"));
    run_until(c, "unmatched 1 duel left;");
    cr_assert_str_eq(strstr(said, "back node-1;unmatched"), "back node-1;unmatched 1 duel left;");
    cr_assert_gt(ask(&p, c), id);
    put_away(&p, c);
}

Test(client_match, with_the_session_it_ends)
{
    struct peer p = peer_open();
    struct room_client *c = open_client(&p);
    ask(&p, c);
    back(&p, c, false);
    run_until(c, "unmatched 1 duel session_lost;welcome node-1;");
    ask(&p, c);
    put_away(&p, c);
}

Test(client_match, a_refusal_ends_it)
{
    struct peer p = peer_open();
    struct room_client *c = open_client(&p);
    int64_t id = ask(&p, c);
    SAY(&p, error, .id = id, .has_id = true, .code = wire_str("not_found"), .message = wire_str("no such queue"));
    run_until(c, "error not_found;");
    ask(&p, c);
    put_away(&p, c);
}

Test(client_match, nonsense_is_refused_at_once)
{
    struct peer p = peer_open();
    struct room_client *c = open_client(&p);
    static const char *const bad_party[] = {"a.b"};
    struct room_client_match m = duel;
    m.queue = "a b";
    cr_assert_eq(room_client_match(c, &m, NULL), ROOM_E_INVALID);
    m = duel;
    m.party = bad_party;
    cr_assert_eq(room_client_match(c, &m, NULL), ROOM_E_INVALID);
    m = duel;
    m.party_count = 17;
    cr_assert_eq(room_client_match(c, &m, NULL), ROOM_E_INVALID);
    m = duel;
    m.properties_len--;
    cr_assert_eq(room_client_match(c, &m, NULL), ROOM_E_INVALID);
    cr_assert_eq(room_client_accept(c, "a b", 1), ROOM_E_INVALID);
    cr_assert_eq(room_client_match(c, &duel, NULL), 0);
    put_away(&p, c);
}
