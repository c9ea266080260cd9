/*
 * What the client library's tests share: a scripted server on a socket, and a client that writes down what it calls back.
 *
 * Decides nothing about what is tested. Invariant: every wait is for something to happen, with a deadline.
 */
#ifndef CLIENT_PEER_H
#define CLIENT_PEER_H

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "client/frame.h"
#include "room/client.h"
#include "wire/wire_gen.h"

/* One line of what was called back; compared as text. */
extern char said[4096];
/* Of the last error. */
extern char last_text[2100];

struct peer {
    int listener, fd;
    uint16_t port;
};

struct peer peer_open(void);
/* `q` may be NULL: the second server of the list. `shape`, too: changes what the client is made with. */
struct room_client *client_to(const struct peer *p, const struct peer *q, void (*shape)(struct room_client_config *config));
void run_until(struct room_client *c, const char *text);
/* Reads one whole frame while the client runs; the fields borrow from a static buffer. */
size_t peer_read(struct peer *p, struct room_client *c, const uint8_t **frame);
void peer_write(struct peer *p, const void *bytes, size_t len);
/* Closes the connection, not the listener. */
void peer_cut(struct peer *p);
/* The other side is gone while the client runs: what came before is thrown away. */
void peer_wait_closed(struct peer *p, struct room_client *c);

/* Adds a frame to the buffer. */
#define PUT(out, kind, ...)                                                                                          \
    do {                                                                                                             \
        struct wire_frame_##kind f_ = {__VA_ARGS__};                                                                 \
        size_t begin_ = frame_begin(out);                                                                            \
        cr_assert_eq(frame_end(out, begin_, wire_frame_##kind##_pack(&f_, out)), 0);                                 \
    } while (0)

/* Writes one frame. */
#define SAY(peer, kind, ...)                                                                                         \
    do {                                                                                                             \
        struct buf out_;                                                                                             \
        buf_init(&out_, &alloc_libc, 65536);                                                                         \
        PUT(&out_, kind, __VA_ARGS__);                                                                               \
        peer_write(peer, out_.data, out_.len);                                                                       \
        buf_deinit(&out_);                                                                                           \
    } while (0)

/* Reads one frame of that kind into `f`. */
#define READ(peer, client, kind, f)                                                                                  \
    do {                                                                                                             \
        const uint8_t *frame_;                                                                                       \
        size_t len_ = peer_read(peer, client, &frame_);                                                              \
        cr_assert_eq(wire_peek_op(frame_, len_), wire_op_of_##kind, "another frame: op %d", wire_peek_op(frame_, len_)); \
        cr_assert_eq(wire_frame_##kind##_unpack(f, frame_, len_, NULL), 0);                                          \
    } while (0)

enum {
    wire_op_of_hello = WIRE_OP_HELLO,
    wire_op_of_join = WIRE_OP_JOIN,
    wire_op_of_leave = WIRE_OP_LEAVE,
    wire_op_of_send = WIRE_OP_SEND,
    wire_op_of_ack = WIRE_OP_ACK,
    wire_op_of_ping = WIRE_OP_PING,
    wire_op_of_bye = WIRE_OP_BYE,
    wire_op_of_request = WIRE_OP_REQUEST,
    wire_op_of_match = WIRE_OP_MATCH,
    wire_op_of_unmatch = WIRE_OP_UNMATCH,
    wire_op_of_accept = WIRE_OP_ACCEPT,
};

extern const uint8_t one_value[1];

/* Reads the hello and answers with a new session that can be resumed by "secret". */
void greet(struct peer *p, struct room_client *c, const char *server);
int64_t read_join(struct peer *p, struct room_client *c, struct wire_frame_join *join);
/* Welcome, one join and its answer: room 1, which is 7 to the server. */
void seat(struct peer *p, struct room_client *c);
void put_away(struct peer *p, struct room_client *c);

#endif
