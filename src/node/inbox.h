/*
 * What stands in a player's inbox: one subject of a stream, each message of which bears what is true after it.
 *
 * Decides: how messages are numbered, which repeat is known as one, and which pushes are still good: those that are not
 * acknowledged, up to a number and a number of bytes. Whoever has the last message knows the state of the whole subject; so
 * an overflow is nobody's work, and is seen by whoever reads. Pure: no bus, no clock, no session.
 */
#ifndef NODE_INBOX_H
#define NODE_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "wire/wire.h"

enum { INBOX_RECENT = 64, INBOX_PUSH_MAX = 64 * 1024 /* bytes of one push in msgpack */ };

struct inbox_limits {
    uint64_t messages, bytes;
};

struct inbox_head {
    uint64_t number, end;                        /* of the last push; all bytes up to it */
    uint64_t acked, acked_end, acked_sequence;   /* of the last that the player has */
    uint64_t old_sequence, old_end;
    struct inbox_known {
        uint64_t key, number;
    } recent[INBOX_RECENT]; /* the oldest first */
    unsigned recent_count;
};

struct inbox_message {
    bool mark;
    uint64_t before;
    struct inbox_head head;
    uint64_t size;
    struct wire_raw data; /* borrowed from what was read */
};

/* False: it is none. */
bool inbox_read(struct inbox_message *out, const uint8_t *data, size_t len);
/* Appends it to `out`; check out->failed. */
void inbox_write(const struct inbox_message *m, struct buf *out);

/* The number that a push of that key has; 0: it is none of the last ones. */
uint64_t inbox_find(const struct inbox_head *h, uint64_t key);
/* One push more, behind the message `before`. Returns below which sequence nothing is good any more; 0: leave it. */
uint64_t inbox_add(struct inbox_head *h, uint64_t before, uint64_t key, uint64_t size, const struct inbox_limits *limits);
/* Is that push still good, `last` being the newest there is? */
bool inbox_good(const struct inbox_message *m, const struct inbox_head *last, const struct inbox_limits *limits);
/* The same of one of which only the number is known: as far as the number says. */
bool inbox_may_be_good(uint64_t number, const struct inbox_head *last, const struct inbox_limits *limits);

#endif
