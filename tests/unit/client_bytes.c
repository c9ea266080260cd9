/*
 * The client library against scripted bytes on a socket: what it says and does for each, without any server's logic.
 */
#include "client_peer.h"

#include <stdio.h>
#include <string.h>

Test(client_bytes, many_frames_in_one_piece_and_one_frame_in_many)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct buf out;
    seat(&p, c);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), 0);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, message, .seq = 1, .room = 7, .from = {"bob"}, .data = {one_value, 1});
    PUT(&out, message, .seq = 2, .room = 7, .data = {one_value, 1});
    PUT(&out, message, .seq = 3, .room = 99, .data = {one_value, 1});
    PUT(&out, sent, .room = 7, .n = 1, .epoch = 1);
    PUT(&out, sent, .room = 7, .n = 1, .epoch = 1);
    PUT(&out, sent, .room = 7, .n = 2, .epoch = 1); /* nobody waits for it */
    PUT(&out, message, .seq = 3, .room = 7, .data = {one_value, 1}); /* heard already */
    PUT(&out, left, .room = 7, .reason = wire_str("closed"));
    peer_write(&p, out.data, out.len - 9);
    for (size_t i = out.len - 9; i < out.len; i++) {
        peer_write(&p, out.data + i, 1);
        room_client_run_once(c, 1);
    }
    run_until(c, "left 1 closed;");
    cr_assert_str_eq(said, "message 1 bob 1;message 1 - 1;sent 1 1;left 1 closed;");
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), ROOM_E_NOT_FOUND);
    buf_deinit(&out);
    put_away(&p, c);
}

Test(client_bytes, a_room_that_changes_its_owner_is_paused_resumed_and_resynchronised)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct buf out;
    seat(&p, c);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, paused, .room = 7, .epoch = 1);
    PUT(&out, resumed, .room = 7, .epoch = 2);
    PUT(&out, resync, .room = 7, .has_room = true, .state = {one_value, 1}, .seq = 9);
    PUT(&out, resync, .room = 7, .has_room = true, .seq = 9, .missed = 3);
    PUT(&out, resync, .seq = 9, .missed = 4);
    PUT(&out, paused, .room = 99, .epoch = 5); /* a room left long ago */
    PUT(&out, resumed, .room = 99, .epoch = 5);
    PUT(&out, resync, .room = 99, .has_room = true, .state = {one_value, 1}, .seq = 9);
    PUT(&out, left, .room = 7, .reason = wire_str("closed"));
    peer_write(&p, out.data, out.len);
    run_until(c, "left 1 closed;");
    cr_assert_str_eq(said, "paused 1 at 1;resumed 1 at 2;resync 1 state 1 missed 0;resync 1 - 0 missed 3;resync 0 - 0 missed 4;"
                           "left 1 closed;");
    buf_deinit(&out);
    put_away(&p, c);
}

Test(client_bytes, sends_are_numbered_and_bounded)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    const uint8_t *frame;
    uint64_t n = 0;
    seat(&p, c);
    cr_assert_eq(room_client_send(c, 1, "\xc1", 1, &n), ROOM_E_INVALID);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, &n), 0);
    cr_assert_eq(n, 1);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, &n), 0);
    cr_assert_eq(n, 2);
    for (int64_t i = 1; i <= 2; i++) {
        struct wire_frame_send f;
        size_t len = peer_read(&p, c, &frame);
        cr_assert_eq(wire_frame_send_unpack(&f, frame, len, NULL), 0);
        cr_assert(f.room == 7 && f.n == i && f.data.len == 1);
    }
    int rc = 0;
    for (long i = 0; rc == 0 && i < 1000000; i++)
        rc = room_client_send(c, 1, one_value, 1, &n);
    cr_assert_eq(rc, ROOM_E_FULL);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), ROOM_E_FULL);
    uint64_t last = n;
    SAY(&p, sent, .room = 7, .n = 1, .epoch = 1);
    run_until(c, "sent 1 1;");
    cr_assert_eq(room_client_send(c, 1, one_value, 1, &n), 0, "there is room for as much as was answered");
    cr_assert_eq(n, last + 1);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, &n), ROOM_E_FULL);
    put_away(&p, c);
}

Test(client_bytes, an_error_finds_its_join_or_its_send)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_join join;
    struct buf out;
    seat(&p, c);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), 0);
    const uint8_t *frame;
    peer_read(&p, c, &frame);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "no-such"}, NULL), 0);
    int64_t id = read_join(&p, c, &join);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, error, .id = id, .has_id = true, .code = wire_str("unknown_type"), .message = wire_str("m"));
    PUT(&out, error, .n = 1, .has_n = true, .code = wire_str("invalid"), .message = wire_str("m"));
    PUT(&out, error, .n = 1, .has_n = true, .code = wire_str("invalid"), .message = wire_str("m")); /* told already */
    PUT(&out, error, .id = id, .has_id = true, .code = wire_str("unknown_type"), .message = wire_str("m"));
    PUT(&out, error, .code = wire_str("rate_limited"), .message = wire_str("m"));
    peer_write(&p, out.data, out.len);
    run_until(c, "rate_limited");
    cr_assert_str_eq(said, "error unknown_type;refused 1 1 invalid;error rate_limited;");
    buf_deinit(&out);
    put_away(&p, c);
}

static int64_t read_request(struct peer *p, struct room_client *c, const char *route)
{
    struct wire_frame_request f;
    const uint8_t *frame;
    size_t len = peer_read(p, c, &frame);
    cr_assert_eq(wire_frame_request_unpack(&f, frame, len, NULL), 0);
    cr_assert(wire_str_is(f.route, route) && f.data.len == 1);
    return f.id;
}

Test(client_bytes, a_request_ends_in_one_reply_or_one_error)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct buf out;
    uint64_t first = 0, second = 0, third = 0;
    seat(&p, c);
    cr_assert_eq(room_client_request(c, "profile", "\xc1", 1, &first), ROOM_E_INVALID);
    cr_assert_eq(room_client_request(c, "", one_value, 1, &first), ROOM_E_INVALID);
    cr_assert_eq(room_client_request(c, "profile", one_value, 1, &first), 0);
    cr_assert_eq(room_client_request(c, "shop", one_value, 1, &second), 0);
    cr_assert_eq(room_client_request(c, "profile", one_value, 1, &third), 0);
    cr_assert_eq(read_request(&p, c, "profile"), (int64_t)first);
    cr_assert_eq(read_request(&p, c, "shop"), (int64_t)second);
    cr_assert(first < second && second < third);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, error, .id = (int64_t)second, .has_id = true, .code = wire_str("service_error"), .message = wire_str("12 gold"),
        .service_code = wire_str("too_poor"));
    PUT(&out, joined, .id = (int64_t)first, .room = 7, .room_id = {"r-1"}, .type = {"relay"}, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL); /* not the answer to that */
    PUT(&out, reply, .id = (int64_t)first, .data = {one_value, 1});
    PUT(&out, reply, .id = (int64_t)first, .data = {one_value, 1});
    PUT(&out, reply, .id = 4711, .data = {one_value, 1});
    PUT(&out, left, .room = 7, .reason = wire_str("closed"));
    peer_write(&p, out.data, out.len);
    run_until(c, "left 1 closed;");
    char want[80];
    snprintf(want, sizeof want, "error service_error;reply %d 1;left 1 closed;", (int)first);
    cr_assert_str_eq(said, want);
    cr_assert_str_eq(last_text, "too_poor: 12 gold");
    said[0] = 0;
    peer_cut(&p); /* with the third open */
    run_until(c, "reconnecting;");
    cr_assert_eq(room_client_request(c, "shop", one_value, 1, &first), 0, "it is kept meanwhile");
    greet(&p, c, "node-1"); /* another session: nobody knows what was done */
    run_until(c, "welcome node-1;");
    cr_assert_str_eq(said, "reconnecting;error disconnected;error disconnected;welcome node-1;");
    buf_deinit(&out);
    put_away(&p, c);
}

Test(client_bytes, a_seat_that_comes_too_late_is_given_back)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct wire_frame_leave leave;
    struct buf out;
    const uint8_t *frame;
    seat(&p, c);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, joined, .id = 4711, .room = 8, .room_id = {"r-2"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    peer_write(&p, out.data, out.len);
    size_t len = peer_read(&p, c, &frame);
    cr_assert_eq(wire_frame_leave_unpack(&leave, frame, len, NULL), 0);
    cr_assert_eq(leave.room, 8);
    cr_assert_str_eq(said, "");
    buf_deinit(&out);
    put_away(&p, c);
}

Test(client_bytes, bytes_that_are_no_frames_end_the_session)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *reason;
    } cases[] = {
        {"\xff\xff\xff\xff", 4, "left 1 too_big;reconnecting;"},
        {"\0\0\0\0", 4, "left 1 bad_frame;reconnecting;"},
        {"\0\0\0\x01\xc1", 5, "left 1 bad_frame;reconnecting;"},
        {"\0\0\0\x02\x91\x44", 6, "left 1 bad_frame;reconnecting;"}, /* a message without its fields */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer p = peer_open();
        struct room_client *c = client_to(&p, NULL, NULL);
        seat(&p, c);
        peer_write(&p, cases[i].bytes, cases[i].len);
        run_until(c, cases[i].reason);
        cr_assert_str_eq(said, cases[i].reason, "it would come again: the session is given up");
        put_away(&p, c);
    }
}

Test(client_bytes, a_kicked_client_stays_away)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p, NULL, NULL);
    struct buf out;
    seat(&p, c);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, kicked, .reason = wire_str("replaced"));
    peer_write(&p, out.data, out.len);
    run_until(c, "closed");
    cr_assert_str_eq(said, "kicked replaced;left 1 replaced;closed cancelled;");
    cr_assert_eq(room_client_run_once(c, 0), ROOM_E_CANCELLED);
    cr_assert_eq(room_client_deadline_ms(c), INT64_MAX);
    buf_deinit(&out);
    put_away(&p, c);
}

Test(client_bytes, what_cannot_work_is_refused_at_the_door)
{
    struct room_client *c = NULL;
    struct room_client_config config = {.servers = "nowhere", .player = "alice"};
    cr_assert_eq(room_client_create(&config, &c), ROOM_E_INVALID);
    config.servers = "127.0.0.1:1";
    config.player = "not a name";
    cr_assert_eq(room_client_create(&config, &c), ROOM_E_INVALID);
    config.player = "alice";
    config.can_redirect = config.no_resume = 1;
    cr_assert_eq(room_client_create(&config, &c), ROOM_E_INVALID);
    config.no_resume = 0;
    cr_assert_eq(room_client_create(&config, &c), 0);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), ROOM_E_DISCONNECTED);
    cr_assert_eq(room_client_ping(c, 1), ROOM_E_DISCONNECTED);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), ROOM_E_NOT_FOUND);
    room_client_destroy(c);
    room_client_destroy(NULL);
}
