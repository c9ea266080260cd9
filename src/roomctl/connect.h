/*
 * The connection of roomctl: settings as the nats tool finds them, and one question at a time over the bus.
 *
 * Decides: where NATS is (flags, environment, context files) and how long an answer may take. Knows no verb. One thread.
 * Invariant: no text of a failure shows a password or token.
 */
#ifndef ROOMCTL_CONNECT_H
#define ROOMCTL_CONNECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "port/bus.h"
#include "roomctl/options.h"

enum { CONN_LOGS = 16, CONN_PAGE = 500 };

struct conn_answer {
    struct conn_answer *next; /* of those that are waited for */
    uint64_t token;
    bool done;
    int64_t due_us; /* on the monotonic clock */
    enum bus_result result;
    uint64_t revision;
    char *data; /* owned, NUL-terminated; NULL before the end */
    size_t len;
};

struct conn {
    struct bus *bus;
    int wake_fd;
    int timeout_ms;
    bool up;
    bool prefixed;
    bool refused; /* the last control request was answered, with a refusal */
    char prefix[40];
    uint64_t tokens;
    struct conn_answer *waiting;
    json_t *listing; /* of one bucket while it is read: key -> {id, ...} */
    const char *listed_bucket;
    bool listed, partial;
    bool with_revisions; /* conn_list(): entries get a member "revision" */
    bool out_of_memory;
    bus_handler *on_other; /* messages, up and down: for watch */
    void *other_arg;
    char logs[CONN_LOGS][160]; /* what the bus said (permission violations) */
    int log_count;
};

/* Connects as `o` and the environment say. UNAVAILABLE if NATS cannot be reached, INVALID for bad settings. */
MUST_USE int conn_open(struct conn *c, const struct options *o, struct err_detail *detail);
void conn_close(struct conn *c);

/* Handles what has come, waiting up to `wait_ms` for it. */
void conn_turn(struct conn *c, int wait_ms);

/* Hands one question to the bus under `token`; 0 or the bus's refusal. */
typedef int conn_start(struct conn *c, uint64_t token, const void *arg);

/* Several questions can be under way. Between a conn_begin() that returned 0 and its conn_end() or conn_drop() `a` belongs to
 * the connection. `name` is for the text of a failure. conn_end() returns 0 if there is an answer, which the caller frees. */
MUST_USE int conn_begin(struct conn *c, struct conn_answer *a, conn_start *start, const void *arg, const char *name,
                        struct err_detail *detail);
MUST_USE int conn_end(struct conn *c, struct conn_answer *a, struct err_detail *detail);
void conn_drop(struct conn *c, struct conn_answer *a);

/* Asks and waits. 0: `out` is an answer (caller: conn_answer_free); else UNAVAILABLE or the bus's refusal. */
MUST_USE int conn_request(struct conn *c, const char *subject, const char *text, struct conn_answer *out,
                          struct err_detail *detail);
void conn_answer_free(struct conn_answer *answer);

/* A question to JetStream, e.g. "STREAM.INFO.KV_x" with the request's JSON or "": its parsed answer, also if that is an
 * error; numbers are reals. */
MUST_USE int conn_jetstream(struct conn *c, const char *what, const char *body, json_t **out, struct err_detail *detail);
/* The state of a stream, by its whole name: NOT_FOUND if there is none, with a text that calls it `called`. */
MUST_USE int conn_stream_info(struct conn *c, const char *stream, const char *called, const char *body, json_t **out,
                              struct err_detail *detail);
/* The same of a bucket's stream. */
MUST_USE int conn_bucket_info(struct conn *c, const char *bucket, json_t **out, struct err_detail *detail);

/* The entry under `key`, with "id" first, from the leader. NOT_FOUND; INVALID if it is no JSON object. */
MUST_USE int conn_entry(struct conn *c, const char *bucket, const char *key, json_t **out, struct err_detail *detail);
/* Every entry: an object key -> {"id": key, ...}; a value that is no JSON object is {"id": key, "broken": true}. */
MUST_USE int conn_list(struct conn *c, const char *bucket, json_t **out, struct err_detail *detail);

/* A control request to a node. `request` is taken. *result: what the node answered (owned by the caller). The node's error
 * word becomes the code; UNAVAILABLE if it does not answer. */
MUST_USE int conn_ctl(struct conn *c, const char *server, json_t *request, json_t **result, struct err_detail *detail);
/* The same for an op with pages; *out is the whole array found under `member`. */
MUST_USE int conn_ctl_pages(struct conn *c, const char *server, const char *op, const char *member, json_t **out,
                            struct err_detail *detail);
/* *out: {boot, status}. */
MUST_USE int conn_ping(struct conn *c, const char *server, json_t **out, struct err_detail *detail);

#endif
