/*
 * What a client is made of; shared by the files of this folder only.
 *
 * Decides: the shape of the tables. Invariant: connections are freed in one place (client_sweep()), after all callbacks of
 * a room_client_process(); until then a dead one is only marked, so that no callback can pull the ground from under us.
 */
#ifndef CLIENT_STATE_H
#define CLIENT_STATE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "base/rng.h"
#include "room/client.h"
#include "wire/wire_gen.h"

enum { CLIENT_ADDRESS_SIZE = 288, CLIENT_HOST_MAX = 255, CLIENT_HOPS_MAX = 3 };

enum client_conn_state { CONN_CONNECTING, CONN_HELLO, CONN_OPEN, CONN_DEAD };

struct client_conn {
    struct client_conn *next;
    struct room_client *client;
    enum client_conn_state state;
    int fd;
    bool home;
    bool want_write; /* EPOLLOUT is asked for */
    bool broken;     /* a write failed */
    char address[CLIENT_ADDRESS_SIZE]; /* host:port */
    struct id server; /* from welcome, or from the redirect before that */
    struct buf in, out;
    uint64_t next_n;
    int64_t opened_ms, heard_ms, pinged_ms;
};

struct client_room {
    uint32_t room;   /* ours */
    int64_t remote;  /* the session's */
    struct client_conn *conn;
    bool leaving;
};

struct client_request {
    uint64_t id;
    struct client_conn *conn;
    int64_t deadline_ms;
    bool waits_for_hello; /* goes out when the connection is open */
    bool private_room;
    unsigned hops; /* redirects followed */
    enum wire_frame_join_mode mode;
    struct id type, room_id, create_id;
    struct wire_str ticket;   /* owned */
    struct wire_raw options;  /* owned */
};

struct client_send_note {
    uint64_t n;
    uint32_t room;
    struct client_conn *conn;
};

enum { CLIENT_SEND_NOTES = 256 };

struct room_client {
    struct room_client_callbacks on;
    void *arg;
    struct id player;
    char *token;
    bool can_redirect, can_relay;
    size_t max_frame, max_queue;
    int64_t connect_timeout_ms, join_timeout_ms, ping_ms;

    char servers[ROOM_CLIENT_SERVERS_MAX][CLIENT_ADDRESS_SIZE];
    unsigned server_count, next_server, attempt;

    int epoll_fd;
    bool started, closed, dirty, sweep;
    int closed_code;
    int64_t now_ms, retry_at_ms; /* retry_at: INT64_MAX unless a home is to be looked for */
    struct rng rng;

    struct client_conn *conns, *home;
    /* Both grow and are packed by moving the last entry: no pointer into them survives a callback. */
    struct client_room *rooms;
    struct client_request *requests;
    unsigned room_count, room_cap, request_count, request_cap;
    uint32_t last_room;
    uint64_t last_request;
    struct client_send_note notes[CLIENT_SEND_NOTES]; /* the last sends, to name the room of a refused one */
    unsigned last_note;
};

/* conn.c: sockets. */
/* Starts a connection. `address` is host:port. IO, INVALID, NO_MEMORY. */
int conn_open(struct room_client *c, const char *address, bool home, struct client_conn **out) MUST_USE;
void conn_free(struct client_conn *conn);
/* Handles what epoll said. Failures end in client_conn_lost(). */
void conn_io(struct client_conn *conn, unsigned events);
void conn_flush(struct client_conn *conn);

/* dispatch.c: what a frame from a server means. */
void dispatch_frame(struct client_conn *conn, const uint8_t *data, size_t len);

/* life.c: homes, losses, deadlines. */
void client_conn_lost(struct client_conn *conn, const char *reason, int code);
void client_close(struct room_client *c, int code, const char *text);
void client_find_home(struct room_client *c);
void client_timers(struct room_client *c);
void client_sweep(struct room_client *c);
/* Adds to the list of servers, if it is new and there is room. */
void client_learn_server(struct room_client *c, const char *address, size_t len);
int64_t client_next_due(const struct room_client *c);

/* request.c: joins that are open, and rooms. */
struct client_request *request_find(struct room_client *c, uint64_t id);
/* A zeroed one with the next number; NULL: the limit is reached or there is no memory. */
struct client_request *request_add(struct room_client *c);
void request_drop(struct room_client *c, struct client_request *r);
/* Forgets the request, then says `error`. */
void request_fail(struct room_client *c, struct client_request *r, int code, const char *text);
/* Queues the join frame on its connection; FULL, INVALID. */
int request_queue(struct room_client *c, struct client_request *r) MUST_USE;
struct client_room *room_add(struct room_client *c);
struct client_room *room_by_handle(struct room_client *c, uint32_t room);
struct client_room *room_by_remote(struct room_client *c, const struct client_conn *conn, int64_t remote);
/* Forgets the room, then says `left`. */
void room_gone(struct room_client *c, struct client_room *r, const char *reason);

#endif
