/*
 * A snapshot as a file: `roomctl snapshot export` and `import`.
 *
 *   roomd-snapshot 1 <sum> <length>\n    sum: XXH3-64 of all that follows, 16 hexadecimal digits; length: of the header, bytes
 *   <header>\n                           JSON: {"exported": time, "snapshot": {...}, "room": {...}}
 *   <bytes>                              the room's image, as long as snapshot.bytes says, with snapshot.checksum
 *
 * `snapshot` is the entry of the bucket without its `data` (schemas/snapshot_entry.json), `room` the room's entry as it was
 * listed, or made up from what is known if it was not (schemas/room_entry.json).
 *
 * Decides: what a whole file is. Knows no NATS and reads no file: bytes in memory. Invariant: what is not byte for byte as
 * it was written is refused, with a text that says what is wrong.
 */
#ifndef ROOMCTL_SNAPFILE_H
#define ROOMCTL_SNAPFILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { SNAPFILE_HEADER_MAX = 1024 * 1024, SNAPFILE_MAX = 34 * 1024 * 1024 };

/* Appends the file; `out` is at least SNAPFILE_MAX long at its limit. TOO_BIG, NO_MEMORY. */
MUST_USE int snapfile_write(struct buf *out, const char *header, size_t header_len, const void *bytes, size_t len);

struct snapfile {
    const char *header;
    size_t header_len;
    const uint8_t *bytes;
    size_t len;
};

/* BAD_FRAME with a text. `out` points into `data`. */
MUST_USE int snapfile_read(const void *data, size_t len, struct snapfile *out, struct err_detail *detail);

#endif
