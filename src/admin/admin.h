/*
 * The admin port: a small HTTP/1.1 server for operators and backends.
 *
 * Decides: what a whole request is, how many there may be at once, how big and how slow, and who may ask (a bearer token).
 * Must not know what is asked: it hands up whole requests and takes answers, which are JSON. A request is a number, and is
 * answered once; each connection serves one request and is then closed.
 *
 * A body is JSON (Content-Type: application/json), which no page of another site can send from a browser without being asked.
 * Loop thread only. The handler is called from the loop, never from inside an admin_*() call, and may call any of them.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/err.h"
#include "wire/http.h"

enum {
    ADMIN_CONNECTIONS = 128,        /* beyond it the next is closed at once */
    ADMIN_BODY_MAX = 1024 * 1024,   /* bytes */
    ADMIN_READ_MS = 10000,          /* for a whole request to come */
    ADMIN_ANSWER_MS = 30000,        /* for its answer to be made and taken */
    ADMIN_TOKEN_MAX = 512
};

struct admin_config {
    uv_loop_t *loop;           /* borrowed until the port is destroyed, as `alloc` */
    const struct alloc *alloc;
    const char *host;          /* an IPv4 or IPv6 address */
    int port;                  /* 0: any free one */
    const char *token;         /* "": whoever reaches it may ask; copied */
};

struct admin_request {
    struct http_text method, path;
    const char *body;
    size_t len;
    bool allowed; /* it bears the token, or none is wanted */
};

/* All is borrowed until the handler returns. */
struct admin_handler {
    void *arg;
    void (*request)(void *arg, uint64_t id, const struct admin_request *r);
};

struct admin;

/* INVALID (address), IO (the port is taken), TOO_BIG (token), NO_MEMORY. Returns owned: admin_destroy(). */
MUST_USE int admin_create(const struct admin_config *config, const struct admin_handler *handler, struct admin **out,
                          struct err_detail *detail);
int admin_port(const struct admin *a);
/* Copies. A request that is gone is ignored. */
void admin_answer(struct admin *a, uint64_t id, int status, const char *json, size_t len);
/* {"error": word, "message": text}. */
void admin_refuse(struct admin *a, uint64_t id, int status, const char *word, const char *text);
/* What is open is dropped; `done` is called from the loop when nothing is left. NULL is allowed: `done` at once. */
void admin_destroy(struct admin *a, void (*done)(void *arg), void *arg);

#endif
