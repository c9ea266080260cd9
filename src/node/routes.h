/*
 * The routes of a node: which service a client's request goes to, and under which conditions.
 *
 * Decides: how an option of --route is read, and what is wrong with one. Filled at start-up, read-only afterwards; does no
 * I/O and knows nothing of sessions or of the bus.
 */
#ifndef NODE_ROUTES_H
#define NODE_ROUTES_H

#include "base/err.h"
#include "base/id.h"
#include "wire/wire.h"

enum {
    ROUTES_MAX = 256,
    ROUTE_NAME_MAX = 128, /* characters */
    ROUTE_TIMEOUT_MS = 2000,
    ROUTE_TIMEOUT_MIN_MS = 50,
    ROUTE_TIMEOUT_MAX_MS = 60000
};

/* One instance, whichever; each that is known; the one that the request names; always the same. */
enum route_to { ROUTE_ONE, ROUTE_ALL, ROUTE_NAMED, ROUTE_INSTANCE };

struct route {
    char name[ROUTE_NAME_MAX + 1];
    struct id service, instance; /* instance: ROUTE_INSTANCE only */
    enum route_to to;
    int timeout_ms;
    bool login;    /* only for who has said hello */
    int64_t per_s; /* requests of one client in a second; 0: no limit of its own */
    unsigned number, service_number; /* places in the two tables */
};

struct routes { /* zeroed: none */
    unsigned count, service_count;
    struct route items[ROUTES_MAX];
    struct id services[ROUTES_MAX]; /* each once */
};

/* NAME=SERVICE[,to=one|all|named|INSTANCE][,timeout=TIME][,login=yes|no][,rate=N/s]. INVALID, EXISTS, FULL. */
MUST_USE int routes_add(struct routes *r, const char *spec, struct err_detail *detail);
/* NULL: no such route. */
const struct route *routes_find(const struct routes *r, struct wire_str name);

#endif
