/*
 * Real nats-servers with JetStream for tests: one, or a cluster of three.
 *
 * Decides: how they are configured and when they count as healthy. The binary is $ROOMD_NATS_SERVER, else nats-server in PATH.
 * Invariant: each server lives in a temporary directory on free ports, and dies with the test.
 */
#ifndef SUPPORT_NATS_HARNESS_H
#define SUPPORT_NATS_HARNESS_H

#include <stdbool.h>
#include <sys/types.h>

enum { NATS_HARNESS_MAX = 3 };

struct nats_harness {
    int count;
    const char *binary;
    char dir[256];
    pid_t pid[NATS_HARNESS_MAX];      /* 0: not running */
    int port[NATS_HARNESS_MAX];       /* clients */
    int route_port[NATS_HARNESS_MAX];
    int http_port[NATS_HARNESS_MAX];
    char urls[256];                   /* of all, comma separated */
};

/* Starts 1 or 3 servers and waits until JetStream can create streams. `binary` NULL: the default. False, with a line on
 * standard error, if there is no such binary or it does not become healthy; nothing is left to stop then. */
bool nats_harness_start(struct nats_harness *h, int count, const char *binary);
void nats_harness_stop(struct nats_harness *h);

/* "nats://127.0.0.1:port" of one; borrowed until the next call. */
const char *nats_harness_url(const struct nats_harness *h, int i);
/* SIGKILL; start it again (same port, same store) with restart. */
void nats_harness_kill(struct nats_harness *h, int i);
bool nats_harness_restart(struct nats_harness *h, int i);
/* SIGSTOP and SIGCONT. */
void nats_harness_freeze(struct nats_harness *h, int i);
void nats_harness_thaw(struct nats_harness *h, int i);
bool nats_harness_healthy(const struct nats_harness *h, int timeout_ms);
/* Which server leads this stream; -1: none says so within 10 s. */
int nats_harness_leader(const struct nats_harness *h, const char *stream);

#endif
