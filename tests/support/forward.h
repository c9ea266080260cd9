/*
 * A TCP forwarder in a child process, for clients whose connections are to break while nobody else notices.
 *
 * Decides: when connections break: at forward_cut() all of them, with a reset and whatever is under way; new ones pass at once.
 * Knows no protocol. The child dies with its parent.
 */
#ifndef SUPPORT_FORWARD_H
#define SUPPORT_FORWARD_H

#include <stdbool.h>
#include <sys/types.h>

struct forward {
    pid_t pid;
    int port;
};

/* From a port of its own to `port` of 127.0.0.1; false: it could not be started. */
bool forward_start(struct forward *f, int port);
void forward_cut(const struct forward *f);
void forward_stop(struct forward *f);

#endif
