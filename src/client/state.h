/*
 * What a client is made of; shared by the files of this folder only.
 *
 * Decides: the shape of the tables. Invariant: connections are freed in one place (client_sweep()), after all callbacks of
 * a room_client_process(); until then a dead one is only marked, so that no callback can pull the ground from under us.
 * There is one session; it has one connection, its home, and while it moves to another server the one that will be.
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

enum { CLIENT_ADDRESS_SIZE = 288, CLIENT_HOST_MAX = 255, CLIENT_HOPS_MAX = 3, CLIENT_TOKEN_MAX = 1024 };

enum client_conn_state { CONN_CONNECTING, CONN_HELLO, CONN_OPEN, CONN_DEAD };

struct client_conn {
    struct client_conn *next;
    struct room_client *client;
    enum client_conn_state state;
    int fd;
    bool want_write; /* EPOLLOUT is asked for */
    bool broken;     /* a write failed */
    char address[CLIENT_ADDRESS_SIZE]; /* host:port */
    struct id server; /* from welcome, or from the redirect before that */
    struct buf in, out;
    int64_t opened_ms, heard_ms, pinged_ms;
};

struct client_room {
    uint32_t room;   /* ours */
    int64_t remote;  /* the session's */
    bool leaving;
    bool there;      /* while a welcome is read: the session still has it */
};

struct client_request {
    uint64_t id;
    int64_t deadline_ms;
    bool asked;     /* at the home that is; otherwise it is when there is one */
    bool moving;    /* the session moves for it: it fails with the move */
    bool private_room;
    bool service; /* no join: a call to a service */
    unsigned hops; /* redirects followed */
    enum wire_frame_join_mode mode;
    struct id type, room_id, create_id;
    struct wire_str ticket;   /* owned; to a service: the route */
    struct wire_raw options;  /* owned; to a service: the message */
};

/* A message without an answer. */
struct client_send {
    struct client_send *next;
    uint64_t n;
    uint32_t room;
    uint32_t len;
    uint8_t data[];
};

struct room_client {
    struct room_client_callbacks on;
    void *arg;
    struct id player;
    char *token;
    bool can_redirect, can_relay, can_resume;
    size_t max_frame, max_queue;
    int64_t connect_timeout_ms, join_timeout_ms, request_timeout_ms, ping_ms;

    char servers[ROOM_CLIENT_SERVERS_MAX][CLIENT_ADDRESS_SIZE];
    unsigned server_count, next_server, attempt;
    char first[CLIENT_ADDRESS_SIZE]; /* where a home is looked for before the list; "": nowhere */

    int epoll_fd;
    bool started, closed, dirty, sweep;
    int closed_code;
    int64_t now_ms, retry_at_ms; /* retry_at: INT64_MAX unless a home is to be looked for */
    struct rng rng;

    struct client_conn *conns, *home, *moving; /* moving: to be the home; NULL: the session stays */
    char secret[CLIENT_TOKEN_MAX]; /* that takes the session up again */
    size_t secret_len;             /* 0: there is no session, or it ends with its connection */
    uint64_t last_push;            /* number of the last push out of the player's inbox */
    uint64_t seq, acked;           /* the highest number heard; the highest the server knows that we have heard */
    int64_t ack_at_ms;             /* of what is heard and not acknowledged */
    /* Both grow and are packed by moving the last entry: no pointer into them survives a callback. */
    struct client_room *rooms;
    struct client_request *requests;
    unsigned room_count, room_cap, request_count, request_cap;
    uint32_t last_room;
    uint64_t last_request, last_n;
    struct client_send *sends, **sends_end; /* in the order of their numbers */
    size_t kept; /* bytes of sends and joins without an answer: max_queue at most */
    int64_t strays[ROOM_CLIENT_ROOMS_MAX]; /* seats of the session that no room of ours is, and an open join may be */
    unsigned stray_count;
    struct {
        uint64_t id; /* 0: waits in no queue */
        bool queued, leaving;
        struct id queue, told, asked; /* told, asked: the last match */
        struct buf frame;             /* as it was asked */
    } match;
};

/* conn.c: sockets. */
/* Starts a connection. `address` is host:port. IO, INVALID, NO_MEMORY. */
int conn_open(struct room_client *c, const char *address, struct client_conn **out) MUST_USE;
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
/* Begins to move there. As conn_open(). */
int client_move(struct room_client *c, const char *address) MUST_USE;
void client_timers(struct room_client *c);
void client_sweep(struct room_client *c);
/* Adds to the list of servers, if it is new and there is room. */
void client_learn_server(struct room_client *c, const char *address, size_t len);
int64_t client_next_due(const struct room_client *c);

/* session.c: what outlives a connection. */
bool client_home_open(const struct room_client *c);
void session_welcome(struct client_conn *conn, const struct wire_frame_welcome *f);
/* The session is over: its rooms are left, what is open fails. */
void session_lost(struct room_client *c, const char *reason, int code);
/* The number of a message or push: true if it is new. */
bool session_heard(struct room_client *c, int64_t seq) MUST_USE;
/* Nothing up to this number will be said again. */
void session_skip(struct room_client *c, int64_t seq);
/* Joins and requests that were not asked at this home yet, in the order of their numbers. */
void session_ask_open(struct room_client *c);
/* Once per turn: acknowledges what was heard, and gives back seats that nobody will sit on. */
void session_turn(struct room_client *c);
int64_t session_due(const struct room_client *c);
/* Gives back a seat that no room of ours is. */
void session_give_back(struct room_client *c, int64_t remote);
/* That one is no stray any more. */
void session_found(struct room_client *c, int64_t remote);

/* sends.c: messages without an answer. */
/* Gives it the next number. FULL, NO_MEMORY. */
int sends_keep(struct room_client *c, uint32_t room, const void *data, size_t len, const struct client_send **out) MUST_USE;
/* Forgets message `n`; the room it went to, 0: there is none without an answer. */
uint32_t sends_answered(struct room_client *c, uint64_t n);
void sends_forget(struct room_client *c, uint32_t room);
/* Queues it on the home connection. */
int sends_queue(struct room_client *c, const struct client_room *r, const struct client_send *s) MUST_USE;

/* waiting.c: matchmaking. */
/* At a new home, what has no end yet. */
void waiting_ask_again(struct room_client *c);
/* Forgets it, then says `unmatched`, if there is one. */
void waiting_lost(struct room_client *c, const char *reason);
/* The request failed; false: it is none of matchmaking. */
bool waiting_error(struct room_client *c, uint64_t id, int code, const char *text);
void waiting_deinit(struct room_client *c);
/* Frames, for dispatch.c. */
int waiting_queued(struct client_conn *conn, const uint8_t *data, size_t len);
int waiting_confirm(struct client_conn *conn, const uint8_t *data, size_t len);
int waiting_matched(struct client_conn *conn, const uint8_t *data, size_t len);
int waiting_unmatched(struct client_conn *conn, const uint8_t *data, size_t len);

/* request.c: joins and requests that are open, and rooms. */
struct client_request *request_find(struct room_client *c, uint64_t id);
/* A zeroed one with the next number, `options_len` counted; NULL: a limit is reached or there is no memory. */
struct client_request *request_add(struct room_client *c, size_t options_len);
void request_drop(struct room_client *c, struct client_request *r);
/* Forgets the request, then says `error`. */
void request_fail(struct room_client *c, struct client_request *r, int code, const char *text);
/* Queues its frame on the home connection; FULL, INVALID. */
int request_queue(struct room_client *c, struct client_request *r) MUST_USE;
struct client_room *room_add(struct room_client *c);
struct client_room *room_by_handle(struct room_client *c, uint32_t room);
struct client_room *room_by_remote(struct room_client *c, int64_t remote);
int room_queue_leave(struct room_client *c, int64_t remote) MUST_USE;
/* Forgets the room and what was said to it, then says `left`. */
void room_gone(struct room_client *c, struct client_room *r, const char *reason);

#endif
