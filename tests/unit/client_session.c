/*
 * The client's session over several connections, against scripted servers: what is asked again, what is told once, where it
 * goes.
 */
#include "client_peer.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An array of one-byte numbers. */
#define ROOMS(...) {(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})}

/* Reads a hello that takes the session up. */
static void hello_again(struct peer *p, struct room_client *c, int64_t seq)
{
    struct wire_frame_hello hello;
    READ(p, c, hello, &hello);
    cr_assert(wire_str_is(hello.resume, "secret"));
    cr_assert(hello.has_last_seq && hello.last_seq == seq, "last_seq %d", (int)hello.last_seq);
}

/* ... and welcomes it with room 7 only. */
static void welcome_back(struct peer *p, struct room_client *c, const char *server, int64_t seq)
{
    struct id id;
    id_set(&id, server);
    hello_again(p, c, seq);
    SAY(p, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = true, .seq = seq,
        .server = id, .rooms = ROOMS(0x91, 7));
}

static void expect_send(struct peer *p, struct room_client *c, int64_t n)
{
    struct wire_frame_send f;
    READ(p, c, send, &f);
    cr_assert(f.room == 7 && f.n == n, "n %d instead of %d", (int)f.n, (int)n);
}

static int64_t ask_join(struct peer *p, struct room_client *c, const char *room)
{
    struct wire_frame_join join;
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay", .room_id = room}, NULL), 0);
    return read_join(p, c, &join);
}

static void redirect(struct peer *p, int64_t id, const char *room, const struct peer *to)
{
    struct id room_id;
    id_set(&room_id, room);
    SAY(p, redirect, .id = id, .room_id = room_id, .server = {"node-2"}, .address = wire_str("127.0.0.1"), .port = to->port,
        .ticket = wire_str("t1"));
}

Test(client_session, what_has_no_answer_is_asked_again_and_told_once)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_join join;
    seat(&p, c);
    for (int64_t n = 1; n <= 3; n++) {
        cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), 0);
        expect_send(&p, c, n);
    }
    int64_t id = ask_join(&p, c, "r-2");
    SAY(&p, sent, .room = 7, .n = 2, .epoch = 1);
    SAY(&p, message, .seq = 1, .room = 7, .data = {one_value, 1});
    SAY(&p, message, .seq = 2, .room = 7, .data = {one_value, 1});
    run_until(c, "message 1 - 1;message 1 - 1;");
    peer_cut(&p);
    run_until(c, "reconnecting;");
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), 0, "it is kept meanwhile");
    welcome_back(&p, c, "node-1", 2);
    SAY(&p, message, .seq = 2, .room = 7, .data = {one_value, 1}); /* again */
    SAY(&p, message, .seq = 3, .room = 7, .from = {"bob"}, .data = {one_value, 1});
    expect_send(&p, c, 1);
    expect_send(&p, c, 3);
    expect_send(&p, c, 4);
    cr_assert_eq(read_join(&p, c, &join), id);
    cr_assert_str_eq(join.room_id.s, "r-2");
    for (int twice = 0; twice < 2; twice++) {
        for (int64_t n = 1; n <= 4; n++)
            SAY(&p, sent, .room = 7, .n = n, .epoch = 1);
        SAY(&p, joined, .id = id, .room = 8, .room_id = {"r-2"}, .type = {"relay"}, .players = 1, .max_players = 4,
            .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    }
    SAY(&p, left, .room = 8, .reason = wire_str("closed"));
    run_until(c, "left 2 closed;");
    cr_assert_str_eq(said, "sent 1 2;message 1 - 1;message 1 - 1;reconnecting;back node-1;message 1 bob 1;"
                           "sent 1 1;sent 1 3;sent 1 4;joined 2 r-2 node-1 1/4 via 1;left 2 closed;");
    put_away(&p, c);
}

Test(client_session, requests_and_joins_are_asked_again_in_their_order)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_request call;
    struct wire_frame_join join;
    uint64_t ids[6];
    seat(&p, c);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(room_client_request(c, "profile", one_value, 1, &ids[i]), 0);
        READ(&p, c, request, &call);
    }
    SAY(&p, reply, .id = (int64_t)ids[0], .data = {one_value, 1}); /* the table is packed by it */
    run_until(c, "reply");
    int64_t last = ask_join(&p, c, "r-2");
    peer_cut(&p);
    welcome_back(&p, c, "node-1", 0);
    for (int i = 1; i < 6; i++) {
        READ(&p, c, request, &call);
        cr_assert(call.id == (int64_t)ids[i] && wire_str_is(call.route, "profile") && call.data.len == 1);
    }
    cr_assert_eq(read_join(&p, c, &join), last);
    put_away(&p, c);
}

Test(client_session, a_room_that_ended_meanwhile_is_left_and_a_leave_is_asked_again)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_leave leave;
    seat(&p, c);
    int64_t id = ask_join(&p, c, "r-2");
    SAY(&p, joined, .id = id, .room = 8, .room_id = {"r-2"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    run_until(c, "joined 2");
    cr_assert_eq(room_client_send(c, 2, one_value, 1, NULL), 0);
    peer_cut(&p);
    run_until(c, "reconnecting;");
    cr_assert_eq(room_client_leave(c, 1), 0);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), ROOM_E_NOT_FOUND, "nothing is said after the leave");
    welcome_back(&p, c, "node-1", 0);
    READ(&p, c, leave, &leave);
    cr_assert_eq(leave.room, 7);
    cr_assert_str_eq(strstr(said, "reconnecting;"), "reconnecting;left 2 ended;back node-1;");
    peer_cut(&p);
    said[0] = '\0';
    hello_again(&p, c, 0);
    SAY(&p, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = true,
        .server = {"node-1"}, .rooms = ROOMS(0x90));
    run_until(c, "back node-1;");
    cr_assert_str_eq(said, "reconnecting;left 1 left;back node-1;");
    put_away(&p, c);
}

Test(client_session, a_seat_nobody_waits_for_is_given_back_once_no_open_join_may_be_it)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_leave leave;
    struct wire_frame_join join;
    seat(&p, c);
    int64_t id = ask_join(&p, c, "r-2");
    peer_cut(&p);
    hello_again(&p, c, 0);
    SAY(&p, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = true,
        .server = {"node-1"}, .rooms = ROOMS(0x93, 7, 8, 9)); /* 8 is that join, 9 is one that was given up */
    cr_assert_eq(read_join(&p, c, &join), id);
    SAY(&p, joined, .id = id, .room = 8, .room_id = {"r-2"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    READ(&p, c, leave, &leave);
    cr_assert_eq(leave.room, 9);
    cr_assert(strstr(said, "joined 2"));
    put_away(&p, c);
}

Test(client_session, one_that_is_over_leaves_its_rooms)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    seat(&p, c);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), 0);
    expect_send(&p, c, 1);
    ask_join(&p, c, "r-2");
    SAY(&p, message, .seq = 9, .room = 7, .data = {one_value, 1});
    run_until(c, "message");
    said[0] = '\0';
    peer_cut(&p);
    hello_again(&p, c, 9);
    SAY(&p, welcome, .session = {"s2"}, .player = {"alice"}, .resume = wire_str("another"), .server = {"node-1"});
    run_until(c, "welcome node-1;");
    cr_assert_str_eq(said, "reconnecting;left 1 session_lost;error disconnected;welcome node-1;");
    int64_t id = ask_join(&p, c, "r-1");
    SAY(&p, joined, .id = id, .room = 1, .room_id = {"r-1"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    SAY(&p, message, .seq = 1, .room = 1, .data = {one_value, 1});
    run_until(c, "joined 2 r-1 node-1 1/4 via 1;message 2 - 1;"); /* numbers of messages begin anew with the session */
    put_away(&p, c);
}

/* Each push has a number that grows over all sessions: what was said before and not known to be heard is said again. */
Test(client_session, a_push_is_told_once_over_all_sessions)
{
    static const uint8_t values[] = {1, 2, 3, 4, 5};
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    seat(&p, c);
    SAY(&p, push, .seq = 1, .data = {values, 1}, .has_number = true, .number = 10);
    SAY(&p, push, .seq = 2, .data = {values + 1, 1}, .has_number = true, .number = 14, .has_missed = true, .missed = 3);
    SAY(&p, push, .seq = 2, .data = {values + 1, 1}, .has_number = true, .number = 14);
    SAY(&p, push, .seq = 3, .data = {values + 2, 1}); /* to all on the server: it has none */
    run_until(c, "push 1;missed 3;push 2;push 3;");
    said[0] = '\0';
    peer_cut(&p);
    hello_again(&p, c, 3);
    SAY(&p, welcome, .session = {"s2"}, .player = {"alice"}, .resume = wire_str("another"), .server = {"node-2"});
    SAY(&p, push, .seq = 1, .data = {values, 1}, .has_number = true, .number = 10);
    SAY(&p, push, .seq = 2, .data = {values + 1, 1}, .has_number = true, .number = 14);
    SAY(&p, push, .seq = 3, .data = {values + 3, 1}, .has_number = true, .number = 15);
    SAY(&p, push, .seq = 4, .data = {values + 4, 1});
    run_until(c, "welcome node-2;push 4;push 5;");
    put_away(&p, c);
}

static void without(struct room_client_config *config)
{
    config->can_redirect = 0;
    config->no_resume = 1;
}

Test(client_session, without_it_all_ends_with_the_connection)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, without);
    struct wire_frame_hello hello;
    seat(&p, c);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), 0);
    peer_cut(&p);
    run_until(c, "reconnecting;");
    cr_assert_str_eq(said, "left 1 disconnected;error disconnected;reconnecting;");
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), ROOM_E_DISCONNECTED);
    READ(&p, c, hello, &hello);
    cr_assert(hello.resume.len == 0 && !hello.has_last_seq && hello.can.count == 1);
    put_away(&p, c);
}

Test(client_session, a_redirect_moves_it_with_its_rooms)
{
    struct peer p = peer_open(), q = peer_open(), r = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_join join;
    seat(&p, c);
    int64_t first = ask_join(&p, c, "r-2"), second = ask_join(&p, c, "r-3");
    redirect(&p, first, "r-2", &q);
    redirect(&p, second, "r-3", &r); /* not now: one move at a time */
    hello_again(&q, c, 0);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), 0);
    expect_send(&p, c, 1); /* until there is a welcome, home is where it was */
    cr_assert_str_eq(room_client_server(c), "node-1");
    SAY(&p, message, .seq = 1, .room = 7, .data = {one_value, 1});
    run_until(c, "message 1 - 1;");
    SAY(&q, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = true,
        .server = {"node-2"}, .rooms = ROOMS(0x91, 7));
    SAY(&q, message, .seq = 1, .room = 7, .data = {one_value, 1}); /* heard over the former connection */
    SAY(&q, message, .seq = 2, .room = 7, .data = {one_value, 1});
    expect_send(&q, c, 1);
    cr_assert_eq(read_join(&q, c, &join), first);
    cr_assert(join.mode == WIRE_FRAME_JOIN_MODE_JOIN && strcmp(join.room_id.s, "r-2") == 0 && wire_str_is(join.ticket, "t1"));
    cr_assert_eq(read_join(&q, c, &join), second);
    cr_assert(join.mode == WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE && join.ticket.len == 0, "as it was asked first");
    peer_wait_closed(&p, c);
    SAY(&q, joined, .id = first, .room = 8, .room_id = {"r-2"}, .type = {"relay"}, .players = 2, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    SAY(&q, joined, .id = second, .room = 9, .room_id = {"r-3"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_RELAY);
    run_until(c, "joined 3");
    cr_assert_str_eq(said, "redirected node-2;message 1 - 1;back node-2;message 1 - 1;joined 2 r-2 node-2 2/4 via 3;"
                           "joined 3 r-3 node-2 1/4 via 2;");
    cr_assert_str_eq(room_client_server(c), "node-2");
    put_away(&p, NULL);
    put_away(&r, NULL);
    put_away(&q, c);
}

static void hasty(struct room_client_config *config)
{
    config->connect_timeout_ms = 100;
}

Test(client_session, it_stays_where_it_was_if_the_other_server_cannot_be_reached)
{
    struct peer p = peer_open(), silent = peer_open(), closed = peer_open();
    struct room_client *c = client_to(&p, NULL, hasty);
    struct wire_frame_join join;
    seat(&p, c);
    close(closed.listener);
    redirect(&p, ask_join(&p, c, "r-2"), "r-2", &closed);
    run_until(c, "redirected node-2;error unavailable;");
    said[0] = '\0';
    int64_t first = ask_join(&p, c, "r-2"), second = ask_join(&p, c, "r-3");
    redirect(&p, first, "r-2", &silent);
    redirect(&p, second, "r-3", &closed);
    run_until(c, "redirected node-2;error unavailable;");
    cr_assert_eq(read_join(&p, c, &join), second, "asked again, because nobody has gone anywhere");
    SAY(&p, message, .seq = 1, .room = 7, .data = {one_value, 1});
    run_until(c, "message");
    cr_assert_str_eq(said, "redirected node-2;error unavailable;message 1 - 1;");
    put_away(&silent, NULL);
    put_away(&p, c);
}

Test(client_session, a_home_that_closes_while_it_moves_has_let_go)
{
    struct peer p = peer_open(), q = peer_open();
    struct room_client *c = client_to(&p, NULL, hasty);
    struct wire_frame_join join;
    seat(&p, c);
    int64_t id = ask_join(&p, c, "r-2");
    redirect(&p, id, "r-2", &q);
    hello_again(&q, c, 0);
    peer_cut(&p);
    cr_assert_eq(room_client_run_once(c, 10), 0);
    cr_assert_str_eq(said, "redirected node-2;");
    SAY(&q, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = true,
        .server = {"node-2"}, .rooms = ROOMS(0x91, 7));
    cr_assert_eq(read_join(&q, c, &join), id);
    run_until(c, "back node-2;");
    /* The next one is closed by both: the session is looked for where it was. */
    said[0] = '\0';
    id = ask_join(&q, c, "r-3");
    redirect(&q, id, "r-3", &p);
    hello_again(&p, c, 0);
    peer_cut(&q);
    peer_cut(&p);
    welcome_back(&q, c, "node-2", 0);
    run_until(c, "back node-2;");
    cr_assert_str_eq(said, "redirected node-2;error unavailable;reconnecting;back node-2;");
    put_away(&p, NULL);
    put_away(&q, c);
}

Test(client_session, what_was_heard_is_acknowledged_after_64_or_a_second_but_not_while_it_moves)
{
    struct peer p = peer_open(), q = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_ack ack;
    struct wire_frame_join join;
    struct buf out;
    seat(&p, c);
    buf_init(&out, &alloc_libc, 65536);
    for (int64_t seq = 1; seq <= 150; seq++)
        PUT(&out, message, .seq = seq, .room = 7, .data = {one_value, 1});
    peer_write(&p, out.data, out.len);
    READ(&p, c, ack, &ack);
    cr_assert_eq(ack.seq, 150, "one, for all of a turn");
    SAY(&p, message, .seq = 151, .room = 7, .data = {one_value, 1});
    READ(&p, c, ack, &ack);
    cr_assert_eq(ack.seq, 151, "no later than a second");
    int64_t id = ask_join(&p, c, "r-2");
    redirect(&p, id, "r-2", &q);
    hello_again(&q, c, 151);
    buf_reset(&out);
    for (int64_t seq = 152; seq <= 300; seq++)
        PUT(&out, message, .seq = seq, .room = 7, .data = {one_value, 1});
    PUT(&out, left, .room = 7, .reason = wire_str("closed"));
    said[0] = '\0';
    peer_write(&p, out.data, out.len);
    run_until(c, "left 1 closed;");
    cr_assert_eq(room_client_ping(c, 1), 0);
    struct wire_frame_ping ping;
    READ(&p, c, ping, &ping); /* and nothing before it */
    SAY(&q, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .resumed = true, .seq = 151,
        .server = {"node-2"}, .rooms = ROOMS(0x90));
    cr_assert_eq(read_join(&q, c, &join), id);
    READ(&q, c, ack, &ack);
    cr_assert_eq(ack.seq, 300);
    buf_deinit(&out);
    put_away(&p, NULL);
    put_away(&q, c);
}

Test(client_session, a_server_that_leaves_is_left_for_the_one_it_names_or_another)
{
    struct peer p = peer_open(), q = peer_open(), r = peer_open();
    struct room_client *c = client_to(&p, &r, NULL);
    seat(&p, c);
    SAY(&p, reconnect, .address = wire_str("127.0.0.1"), .port = q.port, .ticket = wire_str(""),
        .reason = wire_str("draining"));
    welcome_back(&q, c, "node-2", 0);
    run_until(c, "back node-2;");
    SAY(&q, kicked, .reason = wire_str("server_stopping"));
    welcome_back(&r, c, "node-3", 0);
    run_until(c, "back node-3;");
    cr_assert_str_eq(said, "reconnecting;back node-2;reconnecting;back node-3;");
    put_away(&p, NULL);
    put_away(&q, NULL);
    put_away(&r, c);
}

Test(client_session, whoever_is_replaced_while_it_moves_stays_away)
{
    struct peer p = peer_open(), q = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    seat(&p, c);
    redirect(&p, ask_join(&p, c, "r-2"), "r-2", &q);
    hello_again(&q, c, 0);
    SAY(&q, kicked, .reason = wire_str("replaced"));
    run_until(c, "closed");
    cr_assert_str_eq(said, "redirected node-2;kicked replaced;left 1 replaced;error cancelled;closed cancelled;");
    put_away(&q, NULL);
    put_away(&p, c);
}

Test(client_session, its_end_is_told)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_bye bye;
    uint8_t bytes[64];
    const uint8_t *frame;
    size_t at = 0, len;
    seat(&p, c);
    room_client_destroy(c);
    ssize_t got = recv(p.fd, bytes, sizeof bytes, MSG_WAITALL);
    cr_assert(got > 0 && frame_next(bytes, (size_t)got, sizeof bytes, &at, &frame, &len) == 1);
    cr_assert(wire_peek_op(frame, len) == WIRE_OP_BYE && wire_frame_bye_unpack(&bye, frame, len, NULL) == 0);
    put_away(&p, NULL);
}
