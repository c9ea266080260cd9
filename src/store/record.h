/*
 * Keys and values of the store's database, layout 1.
 *
 * Decides the bytes: which key a snapshot has, and whether a value is the whole snapshot its key names. Knows nothing of
 * LMDB. Invariant: no byte of a key or a value can change without record_read() saying so.
 *
 *   'L'                                   the layout: magic, number, which commit this is, checksum
 *   'S' room 0 epoch position version     a snapshot; the numbers are big endian, so that order of keys = order of marks
 *   'O' room 0 epoch position version     this snapshot waits in the outbox; the value is its length and a hash of both
 *
 * A snapshot's value is a header of RECORD_HEADER bytes (little endian), then room, type and data. Its first 16 bytes are the
 * 128-bit xxh3 of everything behind them.
 */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "base/id.h"
#include "port/store.h"

enum {
    RECORD_LAYOUT = 1,
    RECORD_HEADER = 72, /* bytes */
    RECORD_MARK = 24,
    RECORD_KEY_MAX = 1 + ID_MAX + 1 + RECORD_MARK,
    RECORD_LAYOUT_SIZE = 24
};

enum record_kind { RECORD_LAYOUT_KEY = 'L', RECORD_OUTBOX = 'O', RECORD_SNAPSHOT = 'S' };

struct record_key {
    uint8_t bytes[RECORD_KEY_MAX];
    size_t len;
};

/* The key of one snapshot or outbox entry. */
void record_key(struct record_key *out, enum record_kind kind, const char *room, const struct store_mark *mark);
/* Below every key of the room, and above every one (but below the next room's). `room` "" is below all rooms. */
void record_key_before(struct record_key *out, enum record_kind kind, const char *room);
void record_key_behind(struct record_key *out, enum record_kind kind, const char *room);
/* False: not a key of this kind. */
bool record_key_parse(const void *key, size_t len, enum record_kind kind, struct id *room, struct store_mark *mark);

/* Bytes of the value of `s`. */
size_t record_size(const struct store_snapshot *s);
/* Writes exactly record_size() bytes. */
void record_write(uint8_t *out, const struct store_snapshot *s);
/* Length of the data and time of saving, without looking whether the value is whole. False: not even its header is. */
bool record_peek(const uint8_t *value, size_t size, size_t *len, struct wall *saved);

/* The names of a snapshot that was read. */
struct record_names {
    struct id room, type;
};
/* True: `value` is whole and is what (room, mark) names; `out` points into `value` and `names`. False: `why` says what is
 * wrong. */
bool record_read(const uint8_t *value, size_t size, const char *room, const struct store_mark *mark,
                 struct record_names *names, struct store_snapshot *out, struct err_detail *why);

void record_layout_write(uint8_t out[RECORD_LAYOUT_SIZE], uint32_t number, uint64_t commit);
/* The number of the layout, or 0: these bytes name none. */
uint32_t record_layout_read(const uint8_t *value, size_t size, uint64_t *commit);

#endif
