/*
 * What the files of the gate share: the gate, a connection, and the calls between them.
 *
 * A connection's memory lives until libuv's close callback, so code that called a handler may still look at the
 * connection, and must: the handler may have closed it. Invariant: a connection that is not DEAD stands in a slot.
 */
#ifndef GATE_STATE_H
#define GATE_STATE_H

#include <uv.h>

#include "base/buf.h"
#include "base/map.h"
#include "gate/gate.h"

struct ws;

enum conn_state {
    CONN_FRESH, /* no byte yet, or too few to tell TCP from HTTP */
    CONN_HTTP,  /* collecting a request header in `in` */
    CONN_TCP,
    CONN_WS,
    CONN_CLOSING, /* last words are being written, input is thrown away */
    CONN_DEAD     /* uv_close() was called */
};

/* What a connection is being waited for. Each wait has one length for all, so a queue is sorted by its order of entry
 * and one timer serves any number of connections. */
enum conn_wait { WAIT_HELLO, WAIT_ACTIVE, WAIT_QUIET, WAIT_CLOSE, WAIT_COUNT, WAIT_NONE = WAIT_COUNT };

enum {
    GATE_READ_BYTES = 64 * 1024,
    GATE_HTTP_BYTES = 8 * 1024
};

struct link {
    struct link *prev, *next; /* NULL: in no list */
};

struct conn {
    uv_tcp_t tcp;
    union {
        uv_write_t write;
        uv_shutdown_t shutdown;
    } req; /* a shutdown starts only after the last write ended */
    struct gate *gate;
    struct link waiting; /* in gate->waits[wait] */
    struct link dirty;   /* in gate->dirty: something to flush */
    uint64_t id;
    uint64_t since_ms; /* when the wait began, by uv_now() */
    struct ws *ws;     /* only while inside a WebSocket message */
    struct buf in;     /* an unfinished header, frame or message; no memory when empty */
    struct buf out;    /* queued in this turn */
    struct buf busy;   /* held by libuv until the write is done */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer;
    char reason[GATE_REASON_SIZE];
    uint8_t state; /* enum conn_state */
    uint8_t wait;  /* enum conn_wait */
    bool websocket;
    bool opened;        /* the handler knows it */
    bool established;
    bool writing;       /* `busy` is with libuv */
    bool spoke;         /* sent a frame, and has had no answer queued since */
    bool paused;        /* not reading: over the soft limit */
    bool eof;
    bool shut;          /* our side is shut down */
    bool close_sent;    /* a WebSocket close frame is queued or gone */
    bool encoding_set;  /* by subprotocol or the first message */
    bool encoding_fixed; /* by subprotocol: other messages are errors */
    uint8_t encoding;   /* enum gate_encoding */
};

struct slot {
    struct conn *conn; /* NULL: free */
    uint32_t generation;
    uint32_t next_free; /* slot number + 1, 0: none */
};

struct gate {
    struct gate_config config; /* defaults filled in; host is not kept */
    struct gate_handler handler;
    const struct alloc *alloc;
    uv_tcp_t listener;
    uv_tcp_t away; /* takes the socket for which there is no memory */
    uv_timer_t timer;
    uv_prepare_t prepare;
    uint64_t timer_due_ms; /* while the timer is active */
    uint32_t wait_ms[WAIT_COUNT];
    struct link waits[WAIT_COUNT];
    struct link dirty;
    struct slot *slots;
    uint32_t slot_count, slot_cap, free_slot;
    struct map addresses; /* ip -> count, only with a limit per address */
    struct ws *ws_spare;
    uint32_t ws_spares;
    struct gate_stats stats;
    int port;
    int handles; /* libuv handles not closed yet, connections included */
    bool listening;
    bool destroying;
    bool turning_away;   /* `away` is closing */
    bool accept_waiting; /* libuv holds a socket that could not be taken yet */
    void (*done)(void *arg);
    void *done_arg;
    uint8_t read_buffer[GATE_READ_BYTES];
};

/* gate.c */
struct conn *gate_find(const struct gate *g, uint64_t id);
/* A connection's handle is closed: gives the slot back and frees it. */
void gate_forget(struct conn *c);
/* One libuv handle less; frees the gate after the last one of a destroyed gate. */
void gate_handle_closed(struct gate *g);

/* wait.c */
void wait_init(struct gate *g);
void wait_enter(struct conn *c, enum conn_wait wait);
void wait_leave(struct conn *c);
void wait_timer(uv_timer_t *timer);
void link_init(struct link *head);
void link_add(struct link *head, struct link *l); /* at the end; `l` is in no list */
void link_del(struct link *l);                    /* fine if in no list */

/* conn.c */
void conn_start(struct conn *c); /* starts reading */
void conn_open(struct conn *c, enum conn_state state);
/* Queues bytes as they are. False: it was too much or there was no memory, and the connection is gone. */
bool conn_write(struct conn *c, const void *data, size_t len);
/* Makes room for `len` more bytes in the queue: ROOM_E_FULL or ROOM_E_NO_MEMORY, and the connection is gone. */
int conn_room(struct conn *c, size_t len);
size_t conn_queued(const struct conn *c);
void conn_flush(struct conn *c);
/* Hands a frame up. */
void conn_frame(struct conn *c, enum gate_encoding encoding, const uint8_t *data, size_t len);
/* Tells the handler and closes. */
void conn_refuse(struct conn *c, int code, const char *text);
/* Flushes, then closes. */
void conn_close(struct conn *c, const char *reason);
/* Closes now; queued bytes are lost. */
void conn_drop(struct conn *c, const char *reason);
/* Frees the memory of `in` if it is empty. */
void conn_release_in(struct conn *c);

/* tcp_frame.c */
void tcp_frame_feed(struct conn *c, const uint8_t *data, size_t len);
enum { TCP_FRAME_HEADER = 4 };
void tcp_frame_header(uint8_t out[TCP_FRAME_HEADER], size_t len);

/* upgrade.c */
void upgrade_feed(struct conn *c, const uint8_t *data, size_t len);

/* ws.c */
enum { WS_HEADER_MAX = 10 };
void ws_feed(struct conn *c, const uint8_t *data, size_t len);
size_t ws_header(uint8_t out[WS_HEADER_MAX], enum gate_encoding encoding, size_t len);
void ws_write_close(struct conn *c, const char *reason);
void ws_write_ping(struct conn *c);
/* Takes the parser from a connection that ends. */
void ws_release(struct conn *c);
void ws_free_spares(struct gate *g);

#endif
