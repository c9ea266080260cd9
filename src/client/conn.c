/*
 * One connection of a client: a non-blocking TCP socket, its buffers, and the hello.
 *
 * Decides: when to read and write. Must not know what frames mean. Invariant: nothing is read into memory beyond one frame
 * of the allowed size, nothing is queued beyond the limit; one write takes along everything that is queued.
 */
#include "client/state.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/frame.h"

enum { READ_BYTES = 32 * 1024, READS_PER_TURN = 4 };

/* "host:port" or "[v6]:port"; the look-up blocks if host is a name. */
static int look_up(const char *address, struct addrinfo **out)
{
    char host[CLIENT_HOST_MAX + 1];
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || (size_t)(colon - address) > CLIENT_HOST_MAX)
        return ROOM_E_INVALID;
    size_t len = (size_t)(colon - address);
    const char *from = address;
    if (from[0] == '[' && from[len - 1] == ']') {
        from++;
        len -= 2;
    }
    memcpy(host, from, len);
    host[len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    return getaddrinfo(host, colon + 1, &hints, out) == 0 ? 0 : ROOM_E_IO;
}

static int start(struct client_conn *conn)
{
    struct addrinfo *found = NULL;
    int one = 1, rc = look_up(conn->address, &found);
    if (rc != 0)
        return rc;
    conn->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd >= 0)
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (conn->fd < 0 || (connect(conn->fd, found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS))
        rc = ROOM_E_IO;
    freeaddrinfo(found);
    if (rc != 0)
        return rc;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = conn};
    conn->want_write = true;
    return epoll_ctl(conn->client->epoll_fd, EPOLL_CTL_ADD, conn->fd, &ev) == 0 ? 0 : ROOM_E_IO;
}

int conn_open(struct room_client *c, const char *address, struct client_conn **out)
{
    struct client_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return ROOM_E_NO_MEMORY;
    conn->client = c;
    conn->fd = -1;
    conn->opened_ms = conn->heard_ms = conn->pinged_ms = c->now_ms;
    snprintf(conn->address, sizeof conn->address, "%s", address);
    buf_init(&conn->in, &alloc_libc, c->max_frame + FRAME_HEAD + READ_BYTES);
    buf_init(&conn->out, &alloc_libc, 2 * c->max_queue); /* all that is asked again, and the hello */
    int rc = start(conn);
    if (rc != 0) {
        conn_free(conn);
        return rc;
    }
    conn->next = c->conns;
    c->conns = conn;
    *out = conn;
    return 0;
}

void conn_free(struct client_conn *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    buf_deinit(&conn->in);
    buf_deinit(&conn->out);
    free(conn);
}

static void watch(struct client_conn *conn, bool write)
{
    if (conn->want_write == write)
        return;
    struct epoll_event ev = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = conn};
    if (epoll_ctl(conn->client->epoll_fd, EPOLL_CTL_MOD, conn->fd, &ev) == 0)
        conn->want_write = write;
}

void conn_flush(struct client_conn *conn)
{
    if (conn->state == CONN_CONNECTING || conn->state == CONN_DEAD || conn->broken)
        return;
    while (conn->out.len > 0) {
        ssize_t put = send(conn->fd, conn->out.data, conn->out.len, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (put < 0) {
            /* Told by conn_io(): a flush may come from outside room_client_process(), where nothing is called back. */
            conn->broken = true;
            watch(conn, true);
            return;
        }
        buf_consume(&conn->out, (size_t)put);
    }
    watch(conn, conn->out.len > 0);
}

static int queue_hello(struct client_conn *conn)
{
    struct room_client *c = conn->client;
    struct wire_frame_hello hello = {.v = 1, .player = c->player, .token = wire_str(c->token)};
    if (c->can_redirect)
        hello.can.items[hello.can.count++] = wire_str("redirect");
    if (c->can_relay)
        hello.can.items[hello.can.count++] = wire_str("relay");
    if (c->can_resume)
        hello.can.items[hello.can.count++] = wire_str("resume");
    if (c->secret_len) {
        hello.resume = (struct wire_str){c->secret, (uint32_t)c->secret_len};
        hello.last_seq = (int64_t)c->seq;
        hello.has_last_seq = true;
    }
    size_t begin = frame_begin(&conn->out);
    return frame_end(&conn->out, begin, wire_frame_hello_pack(&hello, &conn->out));
}

static void connected(struct client_conn *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        client_conn_lost(conn, "disconnected", ROOM_E_DISCONNECTED);
        return;
    }
    conn->state = CONN_HELLO;
    conn->heard_ms = conn->client->now_ms;
    if (queue_hello(conn) != 0)
        client_conn_lost(conn, "disconnected", ROOM_E_INVALID);
    else
        conn_flush(conn);
}

static void take_frames(struct client_conn *conn)
{
    const uint8_t *frame;
    size_t at = 0, len;
    int rc = 0;
    while (conn->state != CONN_DEAD &&
           (rc = frame_next(conn->in.data, conn->in.len, conn->client->max_frame, &at, &frame, &len)) == 1)
        dispatch_frame(conn, frame, len);
    buf_consume(&conn->in, at);
    if (rc < 0 && conn->state != CONN_DEAD)
        client_conn_lost(conn, room_error_name(rc), rc);
}

/* False: nothing more to read for now. */
static bool read_once(struct client_conn *conn)
{
    uint8_t *space = buf_space(&conn->in, READ_BYTES);
    if (!space) {
        client_conn_lost(conn, "no_memory", ROOM_E_NO_MEMORY);
        return false;
    }
    ssize_t got = recv(conn->fd, space, READ_BYTES, 0);
    if (got < 0 && errno == EINTR)
        return true;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (got <= 0) {
        client_conn_lost(conn, "disconnected", ROOM_E_DISCONNECTED);
        return false;
    }
    buf_added(&conn->in, (size_t)got);
    conn->heard_ms = conn->client->now_ms;
    take_frames(conn);
    return got == READ_BYTES && conn->state != CONN_DEAD;
}

void conn_io(struct client_conn *conn, unsigned events)
{
    if (conn->state == CONN_DEAD)
        return;
    if (conn->state == CONN_CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            connected(conn);
        return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        for (int i = 0; i < READS_PER_TURN && read_once(conn); i++)
            ;
    if (conn->state != CONN_DEAD && conn->broken)
        client_conn_lost(conn, "disconnected", ROOM_E_DISCONNECTED);
    if (conn->state != CONN_DEAD)
        conn_flush(conn);
}
