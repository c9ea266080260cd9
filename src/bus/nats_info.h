/*
 * Reading the greeting of a nats-server, because nats.c 3.4.1 keeps the server's version to itself.
 *
 * Decides nothing. Blocks up to its time-out: bus thread at the first connect only. Invariant: reads at most 64 KiB.
 */
#ifndef BUS_NATS_INFO_H
#define BUS_NATS_INFO_H

#include <stdbool.h>

struct nats_info {
    char version[32];
    bool clustered;
};

/* `url` as nats.c gives it. 0 or ROOM_E_UNAVAILABLE. */
int nats_info_read(const char *url, int timeout_ms, struct nats_info *out);

#endif
