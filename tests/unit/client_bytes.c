/*
 * The client library against scripted bytes on a socket: what it says and does for each, without any server's logic.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "room/client.h"
#include "client/frame.h"
#include "wire/wire_gen.h"

enum { DEADLINE_MS = 5000 };

/* One line of what was called back; compared as text. */
static char said[4096];

#define SAY(...) snprintf(said + strlen(said), sizeof said - strlen(said), __VA_ARGS__)

static void on_welcome(void *arg, const char *server, const char *session)
{
    SAY("welcome %s;", server);
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    SAY("joined %u %s %s %u/%u via %d;", j->room, j->room_id, j->server, j->players, j->max_players, j->via);
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    SAY("left %u %s;", room, reason);
}

static void on_message(void *arg, uint32_t room, const char *from, const void *data, size_t len)
{
    SAY("message %u %s %zu;", room, from ? from : "-", len);
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    SAY("sent %u %d;", room, (int)n);
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    SAY("error %s;", room_error_name(code));
}

static void on_refused(void *arg, uint32_t room, uint64_t n, int code, const char *text)
{
    SAY("refused %u %d %s;", room, (int)n, room_error_name(code));
}

static void on_redirected(void *arg, uint64_t request, const char *server, const char *address, uint16_t port)
{
    SAY("redirected %s;", server);
}

static void on_kicked(void *arg, const char *reason)
{
    SAY("kicked %s;", reason);
}

static void on_reconnecting(void *arg, unsigned attempt, const char *server)
{
    if (attempt == 1)
        SAY("reconnecting;");
}

static void on_closed(void *arg, int code, const char *text)
{
    SAY("closed %s;", room_error_name(code));
}

struct peer {
    int listener, fd;
    uint16_t port;
};

static struct peer peer_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    struct peer p = {.listener = socket(AF_INET, SOCK_STREAM, 0), .fd = -1};
    cr_assert_eq(bind(p.listener, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(listen(p.listener, 8), 0);
    getsockname(p.listener, (struct sockaddr *)&a, &size);
    p.port = ntohs(a.sin_port);
    return p;
}

static struct room_client *client_to(const struct peer *p)
{
    char servers[64];
    struct room_client *c = NULL;
    snprintf(servers, sizeof servers, "127.0.0.1:%u", p->port);
    struct room_client_config config = {
        .servers = servers, .player = "alice", .can_redirect = 1, .can_relay = 1, .max_frame_bytes = 4096,
        .on = {on_welcome, on_joined, on_left, on_message, NULL, on_sent, on_error, on_refused, on_redirected, NULL,
               on_kicked, on_reconnecting, on_closed}};
    said[0] = '\0';
    cr_assert_eq(room_client_create(&config, &c), 0);
    cr_assert_eq(room_client_connect(c, time_mono_now().us / 1000), 0);
    return c;
}

static void run_until(struct room_client *c, const char *text)
{
    int64_t end = time_mono_now().us / 1000 + DEADLINE_MS;
    while (!strstr(said, text)) {
        cr_assert_lt(time_mono_now().us / 1000, end, "waited for '%s', said '%s'", text, said);
        room_client_run_once(c, 20);
    }
}

/* Reads one whole frame while the client runs; the fields borrow from a static buffer. */
static size_t peer_read(struct peer *p, struct room_client *c, const uint8_t **frame)
{
    static uint8_t bytes[65536];
    size_t have = 0, at = 0, len = 0;
    int64_t end = time_mono_now().us / 1000 + DEADLINE_MS;
    for (;;) {
        cr_assert_lt(time_mono_now().us / 1000, end, "no frame came; said '%s'", said);
        room_client_run_once(c, 5);
        if (p->fd < 0) {
            p->fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK);
            continue;
        }
        /* Byte by byte, so that a second frame stays in the socket. */
        while (recv(p->fd, bytes + have, 1, MSG_DONTWAIT) == 1) {
            have++;
            at = 0;
            if (frame_next(bytes, have, sizeof bytes, &at, frame, &len) == 1)
                return len;
        }
    }
}

static void peer_write(struct peer *p, const void *bytes, size_t len)
{
    cr_assert_eq(send(p->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

#define PUT(out, kind, ...)                                                                                          \
    do {                                                                                                             \
        struct wire_frame_##kind f_ = {__VA_ARGS__};                                                                 \
        size_t begin_ = frame_begin(out);                                                                            \
        cr_assert_eq(frame_end(out, begin_, wire_frame_##kind##_pack(&f_, out)), 0);                                 \
    } while (0)

static const uint8_t one_value[] = {0x2a};

static void greet(struct peer *p, struct room_client *c, const char *server)
{
    struct wire_frame_hello hello;
    struct buf out;
    const uint8_t *frame;
    size_t len = peer_read(p, c, &frame);
    cr_assert_eq(wire_frame_hello_unpack(&hello, frame, len, NULL), 0);
    cr_assert(hello.v == 1 && strcmp(hello.player.s, "alice") == 0 && hello.can.count == 2);
    buf_init(&out, &alloc_libc, 65536);
    struct id id;
    id_set(&id, server);
    PUT(&out, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("x"), .server = id);
    peer_write(p, out.data, out.len);
    buf_deinit(&out);
}

static int64_t read_join(struct peer *p, struct room_client *c, struct wire_frame_join *join)
{
    const uint8_t *frame;
    size_t len = peer_read(p, c, &frame);
    cr_assert_eq(wire_frame_join_unpack(join, frame, len, NULL), 0);
    return join->id;
}

/* Welcome, one join and its answer: room 1. */
static void seat(struct peer *p, struct room_client *c)
{
    struct wire_frame_join join;
    struct buf out;
    greet(p, c, "node-1");
    run_until(c, "welcome node-1;");
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), 0);
    int64_t id = read_join(p, c, &join);
    cr_assert(join.mode == WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE && strcmp(join.type.s, "relay") == 0);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, joined, .id = id, .room = 7, .room_id = {"r-1"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    peer_write(p, out.data, out.len);
    run_until(c, "joined 1 r-1 node-1 1/4 via 1;");
    said[0] = '\0';
    buf_deinit(&out);
}

static void put_away(struct peer *p, struct room_client *c)
{
    room_client_destroy(c);
    if (p->fd >= 0)
        close(p->fd);
    close(p->listener);
}

Test(client_bytes, many_frames_in_one_piece_and_one_frame_in_many)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
    struct buf out;
    seat(&p, c);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, message, .seq = 1, .room = 7, .from = {"bob"}, .data = {one_value, 1});
    PUT(&out, message, .seq = 2, .room = 7, .data = {one_value, 1});
    PUT(&out, message, .seq = 3, .room = 99, .data = {one_value, 1});
    PUT(&out, sent, .room = 7, .n = 1, .epoch = 1);
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

Test(client_bytes, sends_are_numbered_and_bounded)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
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
    uint64_t last = n;
    room_client_flush(c);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, &n), 0);
    cr_assert_eq(n, last + 1);
    put_away(&p, c);
}

Test(client_bytes, an_error_finds_its_join_or_its_send)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
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
    PUT(&out, error, .code = wire_str("rate_limited"), .message = wire_str("m"));
    peer_write(&p, out.data, out.len);
    run_until(c, "rate_limited");
    cr_assert_str_eq(said, "error unknown_type;refused 1 1 invalid;error rate_limited;");
    buf_deinit(&out);
    put_away(&p, c);
}

Test(client_bytes, a_seat_that_comes_too_late_is_given_back)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
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

Test(client_bytes, a_redirect_is_followed_and_home_stays)
{
    struct peer p = peer_open(), q = peer_open();
    struct room_client *c = client_to(&p);
    struct wire_frame_join join;
    struct buf out;
    seat(&p, c);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay", .room_id = "r-2"}, NULL), 0);
    int64_t id = read_join(&p, c, &join);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, redirect, .id = id, .room_id = {"r-2"}, .server = {"node-2"}, .address = wire_str("127.0.0.1"),
        .port = q.port, .ticket = wire_str("t1"));
    peer_write(&p, out.data, out.len);
    greet(&q, c, "node-2");
    id = read_join(&q, c, &join);
    cr_assert(join.mode == WIRE_FRAME_JOIN_MODE_JOIN && strcmp(join.room_id.s, "r-2") == 0);
    cr_assert(wire_str_is(join.ticket, "t1"));
    buf_reset(&out);
    PUT(&out, joined, .id = id, .room = 7, .room_id = {"r-2"}, .type = {"relay"}, .players = 2, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    PUT(&out, message, .seq = 1, .room = 7, .data = {one_value, 1});
    peer_write(&q, out.data, out.len);
    run_until(c, "message");
    cr_assert_str_eq(said, "redirected node-2;joined 2 r-2 node-2 2/4 via 3;message 2 - 1;");
    cr_assert_eq(room_client_connections(c), 2);
    cr_assert_str_eq(room_client_server(c), "node-1");
    said[0] = '\0';
    buf_reset(&out);
    PUT(&out, left, .room = 7, .reason = wire_str("closed"));
    peer_write(&q, out.data, out.len);
    run_until(c, "left 2 closed;");
    cr_assert_eq(room_client_connections(c), 1, "the second connection has no use any more");
    buf_deinit(&out);
    put_away(&q, NULL);
    put_away(&p, c);
}

Test(client_bytes, a_lost_home_ends_its_rooms_and_is_looked_for)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
    seat(&p, c);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), 0);
    close(p.fd);
    p.fd = -1;
    run_until(c, "reconnecting;");
    cr_assert_str_eq(said, "left 1 disconnected;error disconnected;reconnecting;");
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), ROOM_E_DISCONNECTED);
    greet(&p, c, "node-1");
    run_until(c, "welcome node-1;");
    put_away(&p, c);
}

Test(client_bytes, bytes_that_are_no_frames_end_the_connection)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *reason;
    } cases[] = {
        {"\xff\xff\xff\xff", 4, "left 1 too_big;"},
        {"\0\0\0\0", 4, "left 1 bad_frame;"},
        {"\0\0\0\x01\xc1", 5, "left 1 bad_frame;"},
        {"\0\0\0\x02\x91\x44", 6, "left 1 bad_frame;"}, /* a message without its fields */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer p = peer_open();
        struct room_client *c = client_to(&p);
        seat(&p, c);
        peer_write(&p, cases[i].bytes, cases[i].len);
        run_until(c, cases[i].reason);
        put_away(&p, c);
    }
}

Test(client_bytes, a_kicked_client_stays_away)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
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

Test(client_bytes, a_server_that_stops_is_a_lost_home)
{
    struct peer p = peer_open();
    struct room_client *c = client_to(&p);
    struct buf out;
    seat(&p, c);
    buf_init(&out, &alloc_libc, 65536);
    PUT(&out, kicked, .reason = wire_str("server_stopping"));
    peer_write(&p, out.data, out.len);
    run_until(c, "reconnecting;");
    cr_assert_str_eq(said, "left 1 server_stopping;reconnecting;");
    close(p.fd);
    p.fd = -1;
    greet(&p, c, "node-2");
    run_until(c, "welcome node-2;");
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
    cr_assert_eq(room_client_create(&config, &c), 0);
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), ROOM_E_DISCONNECTED);
    cr_assert_eq(room_client_ping(c, 1), ROOM_E_DISCONNECTED);
    cr_assert_eq(room_client_send(c, 1, one_value, 1, NULL), ROOM_E_NOT_FOUND);
    room_client_destroy(c);
    room_client_destroy(NULL);
}
