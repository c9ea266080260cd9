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
 * One connection is the client's home; every join goes there. When the answer is a redirect, the library connects to the
 * room's server as well (the same player, a session of its own), joins with the ticket, and says `joined`: so a client in
 * rooms on several servers has one connection per server inside. Room numbers are the library's own and are never used
 * twice. A connection other than home is closed when its last room is left.
 *
 * A lost connection ends its rooms (`left` with reason "disconnected"); sends without `sent` may or may not have been
 * applied. A lost home is looked for on the next server of the list, for ever: `reconnecting` before each attempt, then
 * `welcome` again. Joining again is the caller's decision.
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
    const char *server; /* the server of the connection the room is reached by */
    uint64_t epoch;
    unsigned players;
    unsigned max_players;
    enum room_client_via via;
    const void *state; /* one msgpack value; NULL: none */
    size_t state_len;
};

/* Any of them may be NULL. */
struct room_client_callbacks {
    /* The home connection is open. */
    void (*welcome)(void *arg, const char *server, const char *session);
    void (*joined)(void *arg, const struct room_client_joined *joined);
    /* The seat is gone; the number means nothing from now on. Also the answer to room_client_leave(). */
    void (*left)(void *arg, uint32_t room, const char *reason);
    /* `from` is NULL if the room itself speaks. `data` is one msgpack value. */
    void (*message)(void *arg, uint32_t room, const char *from, const void *data, size_t len);
    /* A backend speaks to the player, not in a room. */
    void (*push)(void *arg, const void *data, size_t len);
    /* Message `n` of this room's connection was applied. `result` is one msgpack value or NULL. */
    void (*sent)(void *arg, uint32_t room, uint64_t n, const void *result, size_t len);
    /* The request failed. `request` 0: an error that names none of ours. */
    void (*error)(void *arg, uint64_t request, int code, const char *text);
    /* Message `n` was refused by the room or its server. */
    void (*refused)(void *arg, uint32_t room, uint64_t n, int code, const char *text);
    /* The room is on another server; the library goes there. */
    void (*redirected)(void *arg, uint64_t request, const char *server, const char *address, uint16_t port);
    void (*pong)(void *arg, uint64_t t);
    /* The server ended the session; `closed` follows. A replaced player must not come back by itself. Not called when the
     * server stops: that is a lost home, and another one is looked for. */
    void (*kicked)(void *arg, const char *reason);
    /* Before attempt 1, 2, 3 ... to find a home again. */
    void (*reconnecting)(void *arg, unsigned attempt, const char *server);
    /* Over: the client does nothing more. Only destroy it. */
    void (*closed)(void *arg, int code, const char *text);
};

struct room_client_config {
    const char *servers; /* "host:port,host:port"; an IPv6 address in brackets; 16 at most */
    const char *player;  /* [A-Za-z0-9_-], 1 to 64 characters */
    const char *token;   /* NULL: none */
    int can_redirect;    /* may be sent to another server; if neither is set, the server decides as if both were */
    int can_relay;       /* may be served through the server it is on */
    struct room_client_callbacks on;
    void *arg; /* handed to every callback */

    /* 0 stands for the default in brackets. */
    unsigned first_server;      /* index into `servers` to begin with [0] */
    size_t max_frame_bytes;     /* of an incoming frame [1 MiB]; a larger one closes the connection */
    size_t max_queue_bytes;     /* unsent bytes of one connection [256 KiB]; then `full` */
    unsigned connect_timeout_ms; /* until `welcome` [5000] */
    unsigned join_timeout_ms;   /* [10000] */
    unsigned ping_interval_ms;  /* a quiet connection is probed this often [5000] and lost after three of them */
};

enum { ROOM_CLIENT_ROOMS_MAX = 256, ROOM_CLIENT_JOINS_MAX = 256, ROOM_CLIENT_SERVERS_MAX = 16 };

/* Copies all of `config`. INVALID, NO_MEMORY, IO. Returns owned in `out`: room_client_destroy(). */
int room_client_create(const struct room_client_config *config, struct room_client **out);
/* Closes everything at once, without callbacks. Takes NULL. */
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

/* Copies `join`. `joined` or `error` follows with the request's number. DISCONNECTED: no home at the moment; INVALID;
 * FULL: too many joins are open or the queue is full. */
int room_client_join(struct room_client *client, const struct room_client_join *join, uint64_t *request);
/* `left` follows. NOT_FOUND, FULL. */
int room_client_leave(struct room_client *client, uint32_t room);
/* `data` is one msgpack value; copied. `n` (may be NULL) counts 1, 2, 3 ... over the rooms of one connection; `sent` or
 * `refused` follows, or `left`. NOT_FOUND, INVALID, FULL (nothing was queued and no number used). */
int room_client_send(struct room_client *client, uint32_t room, const void *data, size_t len, uint64_t *n);
/* `pong` follows with `t`, which must not be 0. DISCONNECTED, INVALID, FULL. */
int room_client_ping(struct room_client *client, uint64_t t);

/* The server of the home connection; "" while there is none. Borrowed until the next room_client_process(). */
const char *room_client_server(const struct room_client *client);
/* Connections that are open now. */
unsigned room_client_connections(const struct room_client *client);

#ifdef __cplusplus
}
#endif

#endif
