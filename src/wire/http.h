/*
 * A bounded HTTP/1.x request header, taken apart in place.
 *
 * For the gate and the admin port. Decides what a well-formed request line and header field are (RFC 9112, strictly: no
 * folding, no bare LF, no space before the colon). Knows no paths and no methods, does no I/O and takes no memory. Any thread.
 */
#ifndef WIRE_HTTP_H
#define WIRE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_MAX_HEADERS = 64 };

/* Borrowed from the bytes that were parsed; no NUL at the end. */
struct http_text {
    const char *s;
    size_t len;
};

struct http_field {
    struct http_text name, value;
};

struct http_request {
    struct http_text method;
    struct http_text path;  /* of the target, undecoded, begins with '/' */
    struct http_text query; /* after '?', empty if there is none */
    int minor;              /* HTTP/1.minor, 0 or 1 */
    size_t field_count;
    struct http_field fields[HTTP_MAX_HEADERS];
};

/* The length of the whole header with its empty line if `len` bytes hold one, 0 if more bytes are needed, or
 * ROOM_E_BAD_FRAME (answer 400) or ROOM_E_TOO_BIG (too many fields, answer 431). `out` is filled on success only in full;
 * the caller bounds `len`. */
long http_parse(const void *data, size_t len, struct http_request *out);
/* The length up to and with the empty line, or 0. Looks only at the last `fresh` bytes and three before. */
size_t http_end(const void *data, size_t len, size_t fresh);
/* The value of the first field of that name (any case), or NULL. */
const struct http_text *http_field(const struct http_request *r, const char *name);
/* Is `word` (any case) one of the comma-separated words in any field of that name? */
bool http_has_word(const struct http_request *r, const char *name, const char *word);
/* Same bytes. */
bool http_is(struct http_text t, const char *s);

#endif
