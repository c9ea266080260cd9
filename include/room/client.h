/*
 * The C client of roomd: play in rooms from any program.
 *
 * Caveats first. One client belongs to one thread. Nothing blocks, except the look-up of host names that are not IP
 * addresses. Callbacks are called only from room_client_process() and room_client_run_once(), never from the call that
 * started the operation; they may call everything here but room_client_process(), _run_once() and _destroy(). Pointers
 * given to a callback are borrowed until it returns.
 *
 * The caller owns the loop: poll room_client_fd() for room_client_events() no longer than room_client_deadline_ms(), then
 * call room_client_process() with the time: milliseconds of a monotonic clock of the caller's choice, always the same one.
 * Or call room_client_run_once() again and again.
 *
 * A client is one session: one player, one connection to one server (its home), and its rooms wherever they are. Room numbers
 * and the numbers of messages are the library's own and are never used twice in the life of a client.
 *
 * The session outlives its connection. A lost one is taken up again at the same server or another one of the list, for ever:
 * `reconnecting` before each attempt, then `welcome` with `resumed` 1: rooms keep their numbers, what was said meanwhile comes
 * now, in order and once, or `resync` says that some is missing. What had no answer is asked again by the library: each message
 * is applied once and acknowledged once, each join leads to one seat. Meanwhile go on sending and joining: it is kept, up to
 * the limit. A room that ended meanwhile is `left` with reason "ended". If the session could not be kept (the time that the
 * server grants is over), its rooms are `left` with "session_lost", messages without `sent` may or may not have been applied, open
 * joins fail, and `welcome` says `resumed` 0: joining again is the caller's decision.
 * With `no_resume` all of that happens at once when the connection is lost (`left` with "disconnected").
 *
 * A join may be answered by a redirect: then the session moves. The library connects to the room's server, takes the session up
 * there (`welcome`, `resumed` 1), closes the former connection and joins with the ticket; the other rooms go on through the new
 * home. If that server cannot be reached in time, the client stays where it was and the join fails with `unavailable`.
 *
 * A player has one session in the whole cluster: whoever logs in as the same player without knowing this session's secret
 * replaces it (`kicked`, "replaced"). room_client_destroy() ends the session.
 * A room that loses its server is not lost with it: `paused`, then `resumed` and `resync`, or `left`.
 */
#ifndef ROOM_CLIENT_H
#define ROOM_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "room/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct room_client;

enum room_client_via { ROOM_CLIENT_LOCAL = 1, ROOM_CLIENT_RELAY = 2, ROOM_CLIENT_REDIRECT = 3 };

struct room_client_joined {
    uint64_t request; /* from room_client_join() */
    uint32_t room;    /* the library's number of the room, from 1 */
    const char *room_id;
    const char *type;
    const char *server; /* the home: where the room is reached */
    uint64_t epoch;
    unsigned players;
    unsigned max_players;
    enum room_client_via via;
    const void *state; /* one msgpack value; NULL: none */
    size_t state_len;
};

struct room_client_matched {
    uint64_t request; /* from room_client_match(); 0: another player of the party asked */
    const char *queue, *match, *room_id, *type;
    const char *server; /* that has the room */
    unsigned team;      /* the player's, from 0 */
    const char *const *players; /* all of the match, by teams */
    unsigned player_count;
};

/* Any of them may be NULL. */
struct room_client_callbacks {
    /* The connection is open. `resumed` 1: the session of before goes on here; rooms that it has no more were `left` just now. */
    void (*welcome)(void *arg, const char *server, const char *session, int resumed);
    void (*joined)(void *arg, const struct room_client_joined *joined);
    /* The seat is gone; the number means nothing from now on. Also the answer to room_client_leave(). */
    void (*left)(void *arg, uint32_t room, const char *reason);
    /* `from` is NULL if the room itself speaks. `data` is one msgpack value. */
    void (*message)(void *arg, uint32_t room, const char *from, const void *data, size_t len);
    /* The room has no owner at the moment, or its owner cannot reach the others. Go on sending: up to a limit the server keeps
     * what is said and hands it on, once and in order. `resumed` follows, or `left`. `epoch` is the ownership as far as it
     * is known. May come more than once. */
    void (*paused)(void *arg, uint32_t room, uint64_t epoch);
    /* The room runs again; at a higher epoch by another owner, then `resync` follows. Also without a `paused` before it. */
    void (*resumed)(void *arg, uint32_t room, uint64_t epoch);
    /* Messages may have been missed and will not come any more; forget what was made of them, `state` is the room's whole
     * state now: one msgpack value, NULL if its type shows none. `missed` is how many, 0 if that is not known. `room` 0:
     * every room of the player. */
    void (*resync)(void *arg, uint32_t room, const void *state, size_t len, uint64_t missed);
    /* A backend speaks to the player, or to all in one of his rooms or on his server. What was pushed to the player while he was
     * away comes after `welcome`, in order. One that this client has heard is not said twice, in whatever session: what it hears
     * is acknowledged by itself. Another process of the same player may hear the last ones again. */
    void (*push)(void *arg, const void *data, size_t len);
    /* So many pushes to the player were dropped before the one that follows: too many waited. */
    void (*pushes_missed)(void *arg, uint64_t count);
    /* Message `n` was applied. `result` is one msgpack value or NULL. */
    void (*sent)(void *arg, uint32_t room, uint64_t n, const void *result, size_t len);
    /* The answer to room_client_request(): one msgpack value. */
    void (*reply)(void *arg, uint64_t request, const void *data, size_t len);
    /* The request failed. `request` 0: an error that names none of ours. With ROOM_E_SERVICE_ERROR the text is the service's
     * own word, ": " and its message. */
    void (*error)(void *arg, uint64_t request, int code, const char *text);
    /* Message `n` was refused by the room or its server, and not done. */
    void (*refused)(void *arg, uint32_t room, uint64_t n, int code, const char *text);
    /* The room is on another server; the session goes there. */
    void (*redirected)(void *arg, uint64_t request, const char *server, const char *address, uint16_t port);
    void (*pong)(void *arg, uint64_t t);
    /* The answer to room_client_match(): it waits. */
    void (*queued)(void *arg, uint64_t request, const char *queue, const char *ticket);
    /* A match was found; it stands if all its players answer with room_client_accept() within `wait_ms`. */
    void (*confirm)(void *arg, const char *queue, const char *match, unsigned wait_ms, unsigned players);
    /* It stands, and a seat in its room is reserved for the player: room_client_join() with mode "join" and the room's id takes
     * it. Comes once for a match, also to players whose party's leader asked. */
    void (*matched)(void *arg, const struct room_client_matched *matched);
    /* The player waits no more: "left", "timeout", "unconfirmed", "withdrawn", "session_lost". */
    void (*unmatched)(void *arg, uint64_t request, const char *queue, const char *reason);
    /* The server ended the session; `closed` follows. A replaced player must not come back by itself. Not called when the
     * server stops: the session goes on at another one. */
    void (*kicked)(void *arg, const char *reason);
    /* The connection is lost; before attempt 1, 2, 3 ... to find a home again. */
    void (*reconnecting)(void *arg, unsigned attempt, const char *server);
    /* Over: the client does nothing more. Only destroy it. */
    void (*closed)(void *arg, int code, const char *text);
};

struct room_client_config {
    const char *servers; /* "host:port,host:port"; an IPv6 address in brackets; 16 at most */
    const char *player;  /* [A-Za-z0-9_-], 1 to 64 characters */
    const char *token;   /* JWT whose `sub` is the player, shown to every server it connects to; NULL: none */
    int can_redirect;    /* may be sent to another server; if neither is set, the server decides as if both were */
    int can_relay;       /* may be served through the server it is on */
    int no_resume;       /* the session ends with its connection; not together with can_redirect */
    struct room_client_callbacks on;
    void *arg; /* handed to every callback */

    /* 0 stands for the default in brackets. */
    unsigned first_server;      /* index into `servers` to begin with [0] */
    size_t max_frame_bytes;     /* of an incoming frame [1 MiB]; a larger one closes the connection */
    size_t max_queue_bytes;     /* of messages and joins without an answer [256 KiB, at least 32 KiB]; then `full` */
    unsigned connect_timeout_ms; /* until `welcome` [5000] */
    unsigned join_timeout_ms;   /* [10000] */
    unsigned request_timeout_ms; /* of room_client_request() [90000]; the server's own are shorter, 60 s at the most */
    unsigned ping_interval_ms;  /* a quiet connection is probed this often [5000] and lost after three of them */
};

enum { ROOM_CLIENT_ROOMS_MAX = 256, ROOM_CLIENT_JOINS_MAX = 256 /* joins and requests */, ROOM_CLIENT_SERVERS_MAX = 16 };

/* Copies all of `config`. INVALID, NO_MEMORY, IO. Returns owned in `out`: room_client_destroy(). */
int room_client_create(const struct room_client_config *config, struct room_client **out);
/* Ends the session and closes everything at once, without callbacks. The end is told to the server if that takes no waiting;
 * otherwise, and while there is no connection, the player's seats are held until the session's time is over. Takes NULL. */
void room_client_destroy(struct room_client *client);

/* Starts to connect; `welcome` or `reconnecting` follows. ALREADY: it was called before. */
int room_client_connect(struct room_client *client, int64_t now_ms);

/* What to poll; the same descriptor for the client's whole life, whatever connections there are inside. */
int room_client_fd(const struct room_client *client);
/* The events to poll for, as of poll(2). */
short room_client_events(const struct room_client *client);
/* When room_client_process() must be called even if nothing arrives; INT64_MAX: never. */
int64_t room_client_deadline_ms(const struct room_client *client);
/* Reads, calls back, keeps deadlines, writes what is queued. 0, or a code once the client is closed. */
int room_client_process(struct room_client *client, short revents, int64_t now_ms);
/* Polls for `timeout_ms` at most and processes, on the clock of CLOCK_MONOTONIC. For simple programs. */
int room_client_run_once(struct room_client *client, int timeout_ms);
/* Writes what is queued now instead of at the next room_client_process(). */
void room_client_flush(struct room_client *client);

struct room_client_join {
    const char *mode;      /* "join_or_create", "join" or "create"; NULL: the first */
    const char *type;      /* room type */
    const char *room_id;   /* NULL: any room of the type */
    const char *create_id; /* NULL: none */
    const void *options;   /* one msgpack value; NULL: none */
    size_t options_len;
    int private_room;      /* 1: a room made by this join stays out of listings and matching */
};

/* Copies `join`. `joined` or `error` follows with the request's number. DISCONNECTED: there is no session; INVALID;
 * FULL: too many joins are open, or too much has no answer. */
int room_client_join(struct room_client *client, const struct room_client_join *join, uint64_t *request);
/* `left` follows. NOT_FOUND, FULL. */
int room_client_leave(struct room_client *client, uint32_t room);
/* `data` is one msgpack value; copied. `n` (may be NULL) counts 1, 2, 3 ... over all rooms; `sent` or `refused` follows, or
 * `left`. NOT_FOUND (also: it is being left), INVALID, FULL (nothing was kept and no number used). */
int room_client_send(struct room_client *client, uint32_t room, const void *data, size_t len, uint64_t *n);
/* A call to a backend service by one of the server's routes (1 to 128 characters); `data` is one msgpack value; copied. `reply`
 * or `error` follows with the request's number; TIMEOUT, DISCONNECTED and UNKNOWN_RESULT: it may or may not have been done.
 * A request is asked again with its session: a service that must do nothing twice remembers the session and the number.
 * DISCONNECTED: there is no session; INVALID; FULL: too many requests are open, or too much has no answer. */
int room_client_request(struct room_client *client, const char *route, const void *data, size_t len, uint64_t *request);
struct room_client_match {
    const char *queue;      /* one of the server's */
    const void *properties; /* what is matched on: one msgpack map, 1024 bytes at most; NULL: none */
    size_t properties_len;
    const char *const *party; /* players who are to stay together with this one; 16 at most */
    unsigned party_count;
};

/* Copies `match`. `queued` or `error` follows with the request's number, and later `matched` or `unmatched`; it waits on over
 * lost connections, as the session does. DISCONNECTED: there is no session; ALREADY: it waits in a queue; INVALID; FULL. */
int room_client_match(struct room_client *client, const struct room_client_match *match, uint64_t *request);
/* `unmatched` follows, or `matched` if that was faster. NOT_FOUND: it waits in no queue; FULL. */
int room_client_unmatch(struct room_client *client);
/* The answer to `confirm`; `accept` 0: the player wants none of it, and leaves the queue. DISCONNECTED, INVALID, FULL. */
int room_client_accept(struct room_client *client, const char *match, int accept);
/* `pong` follows with `t`, which must not be 0. DISCONNECTED, INVALID, FULL. */
int room_client_ping(struct room_client *client, uint64_t t);

/* The home's id; "" while there is no connection. Borrowed until the next room_client_process(). */
const char *room_client_server(const struct room_client *client);

#ifdef __cplusplus
}
#endif

#endif
