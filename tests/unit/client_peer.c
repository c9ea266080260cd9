/*
 * See client_peer.h.
 */
#include "client_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"

enum { DEADLINE_MS = 5000 };

char said[4096], last_text[2100];

#define NOTE(...) snprintf(said + strlen(said), sizeof said - strlen(said), __VA_ARGS__)

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    NOTE("%s %s;", resumed ? "back" : "welcome", server);
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    NOTE("joined %u %s %s %u/%u via %d;", j->room, j->room_id, j->server, j->players, j->max_players, j->via);
}

static void on_left(void *arg, uint32_t room, const char *reason)
{
    NOTE("left %u %s;", room, reason);
}

static void on_message(void *arg, uint32_t room, const char *from, const void *data, size_t len)
{
    NOTE("message %u %s %zu;", room, from ? from : "-", len);
}

static void on_paused(void *arg, uint32_t room, uint64_t epoch)
{
    NOTE("paused %u at %d;", room, (int)epoch);
}

static void on_resumed(void *arg, uint32_t room, uint64_t epoch)
{
    NOTE("resumed %u at %d;", room, (int)epoch);
}

static void on_resync(void *arg, uint32_t room, const void *state, size_t len, uint64_t missed)
{
    NOTE("resync %u %s %zu missed %d;", room, state ? "state" : "-", len, (int)missed);
}

static void on_push(void *arg, const void *data, size_t len)
{
    NOTE("push %d;", *(const uint8_t *)data);
}

static void on_pushes_missed(void *arg, uint64_t count)
{
    NOTE("missed %d;", (int)count);
}

static void on_sent(void *arg, uint32_t room, uint64_t n, const void *result, size_t len)
{
    NOTE("sent %u %d;", room, (int)n);
}

static void on_reply(void *arg, uint64_t request, const void *data, size_t len)
{
    NOTE("reply %d %zu;", (int)request, len);
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    NOTE("error %s;", room_error_name(code));
    snprintf(last_text, sizeof last_text, "%s", text);
}

static void on_refused(void *arg, uint32_t room, uint64_t n, int code, const char *text)
{
    NOTE("refused %u %d %s;", room, (int)n, room_error_name(code));
}

static void on_redirected(void *arg, uint64_t request, const char *server, const char *address, uint16_t port)
{
    NOTE("redirected %s;", server);
}

static void on_queued(void *arg, uint64_t request, const char *queue, const char *ticket)
{
    NOTE("queued %d %s %s;", (int)request, queue, ticket);
}

static void on_confirm(void *arg, const char *queue, const char *match, unsigned wait_ms, unsigned players)
{
    NOTE("confirm %s %s %u %u;", queue, match, wait_ms, players);
}

static void on_matched(void *arg, const struct room_client_matched *m)
{
    NOTE("matched %d %s %s %s %u", (int)m->request, m->match, m->room_id, m->type, m->team);
    for (unsigned i = 0; i < m->player_count; i++)
        NOTE(" %s", m->players[i]);
    NOTE(";");
}

static void on_unmatched(void *arg, uint64_t request, const char *queue, const char *reason)
{
    NOTE("unmatched %d %s %s;", (int)request, queue, reason);
}

static void on_kicked(void *arg, const char *reason)
{
    NOTE("kicked %s;", reason);
}

static void on_reconnecting(void *arg, unsigned attempt, const char *server)
{
    if (attempt == 1)
        NOTE("reconnecting;");
}

static void on_closed(void *arg, int code, const char *text)
{
    NOTE("closed %s;", room_error_name(code));
}

struct peer peer_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    struct peer p = {.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .fd = -1};
    cr_assert_eq(bind(p.listener, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(listen(p.listener, 8), 0);
    getsockname(p.listener, (struct sockaddr *)&a, &size);
    p.port = ntohs(a.sin_port);
    return p;
}

struct room_client *client_to(const struct peer *p, const struct peer *q, void (*shape)(struct room_client_config *config))
{
    char servers[64];
    struct room_client *c = NULL;
    int len = snprintf(servers, sizeof servers, "127.0.0.1:%u", p->port);
    if (q)
        snprintf(servers + len, sizeof servers - (size_t)len, ",127.0.0.1:%u", q->port);
    struct room_client_config config = {
        .servers = servers, .player = "alice", .can_redirect = 1, .can_relay = 1, .max_frame_bytes = 4096,
        .on = {.welcome = on_welcome, .joined = on_joined, .left = on_left, .message = on_message, .paused = on_paused,
               .push = on_push, .pushes_missed = on_pushes_missed,
               .resumed = on_resumed, .resync = on_resync, .sent = on_sent, .reply = on_reply, .error = on_error,
               .refused = on_refused, .redirected = on_redirected, .kicked = on_kicked, .reconnecting = on_reconnecting, .closed = on_closed,
               .queued = on_queued, .confirm = on_confirm, .matched = on_matched, .unmatched = on_unmatched}};
    if (shape)
        shape(&config);
    said[0] = '\0';
    cr_assert_eq(room_client_create(&config, &c), 0);
    cr_assert_eq(room_client_connect(c, time_mono_now().us / 1000), 0);
    return c;
}

void run_until(struct room_client *c, const char *text)
{
    int64_t end = time_mono_now().us / 1000 + DEADLINE_MS;
    while (!strstr(said, text)) {
        cr_assert_lt(time_mono_now().us / 1000, end, "waited for '%s', said '%s'", text, said);
        room_client_run_once(c, 20);
    }
}

size_t peer_read(struct peer *p, struct room_client *c, const uint8_t **frame)
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

void peer_write(struct peer *p, const void *bytes, size_t len)
{
    cr_assert_eq(send(p->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

void peer_cut(struct peer *p)
{
    close(p->fd);
    p->fd = -1;
}

void peer_wait_closed(struct peer *p, struct room_client *c)
{
    char bytes[4096];
    ssize_t got = -1;
    int64_t end = time_mono_now().us / 1000 + DEADLINE_MS;
    while (got != 0 && !(got < 0 && errno == ECONNRESET)) {
        cr_assert_lt(time_mono_now().us / 1000, end, "the client does not close; said '%s'", said);
        room_client_run_once(c, 5);
        got = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    }
    peer_cut(p);
}

const uint8_t one_value[1] = {0x2a};

void greet(struct peer *p, struct room_client *c, const char *server)
{
    struct wire_frame_hello hello;
    struct id id;
    READ(p, c, hello, &hello);
    cr_assert(hello.v == 1 && strcmp(hello.player.s, "alice") == 0);
    id_set(&id, server);
    SAY(p, welcome, .session = {"s1"}, .player = {"alice"}, .resume = wire_str("secret"), .grace_ms = 60000, .server = id);
}

int64_t read_join(struct peer *p, struct room_client *c, struct wire_frame_join *join)
{
    READ(p, c, join, join);
    return join->id;
}

void seat(struct peer *p, struct room_client *c)
{
    struct wire_frame_join join;
    greet(p, c, "node-1");
    run_until(c, "welcome node-1;");
    cr_assert_eq(room_client_join(c, &(struct room_client_join){.type = "relay"}, NULL), 0);
    int64_t id = read_join(p, c, &join);
    cr_assert(join.mode == WIRE_FRAME_JOIN_MODE_JOIN_OR_CREATE && strcmp(join.type.s, "relay") == 0);
    SAY(p, joined, .id = id, .room = 7, .room_id = {"r-1"}, .type = {"relay"}, .players = 1, .max_players = 4,
        .via = WIRE_FRAME_JOINED_VIA_LOCAL);
    run_until(c, "joined 1 r-1 node-1 1/4 via 1;");
    said[0] = '\0';
}

void put_away(struct peer *p, struct room_client *c)
{
    room_client_destroy(c);
    if (p->fd >= 0)
        close(p->fd);
    close(p->listener);
}
