/*
 * A backend: a bare NATS connection that pushes to players and asks nodes, as any program may.
 *
 * Decides: what it says, and how its answers are timed. Must not know players' connections. Functions are called by one
 * thread; answers are stamped on a thread of nats.c, so that whoever waits for something else meanwhile does not make them
 * late. A failure is told on standard error once, by the function that returns it.
 */
#ifndef ROOMBENCH_BACKEND_H
#define ROOMBENCH_BACKEND_H

#include <stdint.h>

struct backend;

/* NULL: no connection. Returns owned. */
struct backend *backend_create(const char *nats_url);
/* Takes NULL. */
void backend_destroy(struct backend *b);
/* A message of 60 characters to the player, each with an id of its own. Its answer is to be waited for before the next push.
 * 0 or -1. */
int backend_push(struct backend *b, const char *player);
/* When the answer to the last push came, on the clock of stats_now_us(); -1 after five seconds, and if it does not say that the
 * node `server` saw to it and that it was delivered. */
int64_t backend_answered(struct backend *b, const char *server);
/* Waits until the node says of itself that `field` is `value`: 0, or -1 after 30 s. */
int backend_await(struct backend *b, const char *server, const char *field, unsigned value);

#endif
