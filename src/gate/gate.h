/*
 * The gate: one port where players connect, over plain TCP or WebSocket.
 *
 * Decides: how bytes become frames and frames become bytes, how many connections there may be, how long each may keep us
 * waiting, and when a client reads too slowly to be kept. Must not know what a frame says: it hands up whole frames and
 * takes whole frames. A connection is a number (slot and generation), never a pointer; a number is never used again.
 *
 * TCP: each frame is a 4-byte big-endian length and that many bytes of msgpack. WebSocket (RFC 6455) at /ws on the same
 * port: a message is a frame, binary = msgpack, text = JSON. The subprotocols `roomd.v1.msgpack` and `roomd.v1.json` fix
 * which one; without a subprotocol each message decides for itself, and what we send is JSON if the first one was text.
 *
 * Loop thread only. Handlers are called from the loop, never from inside a gate_*() call, and may call any of them.
 */
#ifndef GATE_GATE_H
#define GATE_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/err.h"

enum gate_encoding { GATE_MSGPACK, GATE_JSON };

enum {
    GATE_MAX_FRAME_LIMIT = 16 * 1024 * 1024, /* max_frame_bytes at the most; keeps "GET " apart from a length */
    GATE_REASON_SIZE = 32,                   /* a reason word and its NUL; longer ones are cut */
    GATE_ADDRESS_SIZE = 64                   /* "[address]:port" and its NUL */
};

/* 0 means the default where one is given. */
struct gate_config {
    uv_loop_t *loop;           /* borrowed until the gate is destroyed */
    const struct alloc *alloc; /* borrowed likewise; must be able to give the memory of all connections */
    const char *host;          /* an IPv4 or IPv6 address, not a name; NULL: 127.0.0.1 */
    int port;                  /* 0: any free one, see gate_port() */
    size_t max_frame_bytes;    /* of an incoming frame; 64 KiB */
    uint32_t max_connections;  /* 10,000 */
    uint32_t max_connections_per_address; /* 0: no limit */
    uint32_t hello_timeout_ms; /* from accept to gate_established(); 10 s */
    uint32_t idle_timeout_ms;  /* nothing received for so long; 0: never. WebSocket clients are pinged at half of it */
    uint32_t close_timeout_ms; /* for flushing the last words of a connection; 2 s */
    size_t queue_limit_bytes;  /* unsent bytes of one connection; beyond it is closed as `slow_client`; 1 MiB */
    size_t soft_limit_bytes;   /* above it we stop reading from that client; a quarter of the limit; SIZE_MAX: never */
};

/* Pointers are borrowed until the handler returns. All are required. */
struct gate_handler {
    void *arg;
    /* TCP: the first byte came. WebSocket: the handshake is done. */
    void (*opened)(void *arg, uint64_t conn, const char *address);
    /* One whole frame, never empty, not yet looked into. Not called after gate_close(). */
    void (*frame)(void *arg, uint64_t conn, enum gate_encoding encoding, const uint8_t *data, size_t len);
    /* The connection is about to be closed for what it did: ROOM_E_TOO_BIG, ROOM_E_BAD_FRAME or ROOM_E_TIMEOUT (no
     * hello in time). The handler may send one last frame; the gate closes it with the code's word as the reason. */
    void (*refused)(void *arg, uint64_t conn, int code, const char *text);
    /* Exactly once for each `opened`, as the last call; `conn` is already unknown to the gate. `reason` is what was
     * given to gate_close() or `disconnected`, `client_close`, `slow_client`, `idle_timeout`, `timeout`, `too_big`,
     * `bad_frame`, `no_memory`, `shutdown`. */
    void (*closed)(void *arg, uint64_t conn, const char *reason);
};

struct gate_stats {
    uint32_t connections; /* now, those being closed included */
    uint32_t websockets;  /* of these */
    uint64_t accepted;
    uint64_t refused_full;    /* max_connections */
    uint64_t refused_address; /* max_connections_per_address */
    uint64_t refused_error;   /* accept failed or no memory */
    uint64_t refused_http;    /* answered by an HTTP error */
    uint64_t hello_timeouts;
    uint64_t idle_timeouts;
    uint64_t slow_clients;
    uint64_t too_big;
    uint64_t bad_frames;
    uint64_t bytes_in, bytes_out;
    uint64_t frames_in, frames_out;
};

struct gate;

/* Listens. Copies the config and the handler. On error nothing listens, but the loop needs one more turn to let go of
 * the memory. INVALID (address, limits), IO (the port is taken, ...), NO_MEMORY. Returns owned: gate_destroy(). */
int gate_create(const struct gate_config *config, const struct gate_handler *handler, struct gate **out,
                struct err_detail *detail) MUST_USE;

/* The port listened on. */
int gate_port(const struct gate *g);

/* Copies one frame into the connection's queue; it leaves with gate_flush(). NOT_FOUND: no such connection, or it is
 * being closed. TOO_BIG: more than the whole queue may hold, nothing was queued. FULL: the client reads too slowly and is
 * being closed. NO_MEMORY: likewise closed. */
int gate_send(struct gate *g, uint64_t conn, const void *data, size_t len);
/* The same with a frame in two parts, so that what is common to a broadcast is encoded once. */
int gate_send2(struct gate *g, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len);

/* Sends `final` (may be NULL) and what is queued, then closes; drops what is not gone after the close timeout. A
 * WebSocket client gets a close frame with a code that fits the reason, and the reason as its text. An unknown `conn` is
 * ignored. `closed` follows later. Copies. */
void gate_close(struct gate *g, uint64_t conn, const char *reason, const void *final, size_t final_len);

/* The hello is accepted: its timeout ends, idle time counts from here. */
void gate_established(struct gate *g, uint64_t conn);
/* How frames to this client must be encoded. Msgpack for an unknown one and before the first message. */
enum gate_encoding gate_encoding(const struct gate *g, uint64_t conn);
/* Unsent bytes; 0 for an unknown one. */
size_t gate_queued(const struct gate *g, uint64_t conn);

/* One write per connection for all that was queued since the last time. Call it at the end of each turn of the loop; what
 * was queued after that leaves before the loop next waits. */
void gate_flush(struct gate *g);

void gate_get_stats(const struct gate *g, struct gate_stats *out);

/* Closes the listener and keeps the connections. */
void gate_stop_accepting(struct gate *g);

/* Drops all connections at once (`closed` with `shutdown`) and frees the gate; `done` (may be NULL) is called from the
 * loop when nothing of it is left. NULL is allowed and calls nothing. */
void gate_destroy(struct gate *g, void (*done)(void *arg), void *arg);

#endif
