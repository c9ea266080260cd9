/*
 * Inside of a node's way from a client's or a room's request to a service and back. Only route.c, asks.c, consult.c and
 * backend.c.
 *
 * route.c    what a client may ask, and what each end of a request is called
 * asks.c     what one session has asked: what is open, what was answered, how often it may
 * consult.c  what rooms here ask
 * backend.c  the instances behind a service: finding them, sending to them, reading what they say
 */
#ifndef NODE_ROUTE_H
#define NODE_ROUTE_H

#include "base/rate.h"
#include "core/service.h"
#include "node/state.h"

enum {
    ROUTE_OPEN_MAX = 64,                  /* requests of one session */
    ROUTE_CALLS_MAX = 10000,              /* requests to instances, of one node */
    ROUTE_BYTES_MAX = 64 * 1024 * 1024,   /* of open requests, of one node */
    ROUTE_KEPT_MAX = 32,                  /* answers of one session that can be repeated */
    ROUTE_KEPT_BYTES = 64 * 1024,         /* and their bytes */
    ROUTE_KEPT_ALL = 64 * 1024 * 1024,    /* the same of one node */
    BACKENDS_MAX = ROUTES_MAX + 256,      /* services that routes lead to, and others that rooms here have asked */
    BACKEND_PING_MS = 500,                /* instances of a service in use are pinged so often */
    BACKEND_PING_MIN_MS = 50,             /* or so often, where routes have less time */
    BACKEND_IDLE_MS = 10000,              /* not used for so long: not pinged */
    BACKEND_HOLD_MS = 250                 /* a request waits so long for the first instance to be found, at the most */
};

struct answered {
    struct answered *next;
    int64_t id;
    size_t len;
    uint8_t frame[]; /* in msgpack, whatever the session speaks */
};

struct asks {
    int64_t highest; /* number of a request that was let through */
    struct asked *first;
    unsigned open, kept;
    size_t kept_bytes;
    struct answered *kept_first, **kept_last; /* oldest first */
    unsigned route_count;
    struct rate rate, route_rates[];
};

/* One request, from the client's frame to its answer. */
struct asked {
    struct asked *next;    /* of its session */
    struct asked *waiting; /* for its service's instances: the next that waits */
    struct session *session; /* NULL: a room asks, or it has ended and nobody wants the answer */
    struct asker asker;      /* a room; empty: a client */
    struct backend *backend;
    const struct route *route;
    int64_t id;
    uint64_t number;
    char trace[ULID_SIZE];
    struct id player, session_id, instance; /* instance: the one that was named */
    struct mono began, deadline;
    unsigned parts;     /* calls that are open */
    bool dispatching;   /* more parts may come */
    bool patient;       /* there is no queue group, but somebody who has not answered pings yet */
    bool looked;        /* it waited for what a look around would show */
    int code;           /* ROUTE_ALL: of the last part that failed */
    uint32_t good;      /* ROUTE_ALL: parts that were answered */
    uint32_t gathered_count;
    struct buf gathered;
    size_t len;
    uint8_t body[]; /* JSON */
};

/* What became of a request, or of a part of it. What is pointed to is borrowed. */
struct outcome {
    int code;
    struct wire_raw data;         /* code 0 */
    struct wire_str service_code; /* SERVICE_ERROR */
    struct wire_str text;         /* NULL: the code's own */
};

struct backend {
    const char *service;
    struct route by_rooms; /* how rooms ask it */
    struct service pool;
    struct mono used, pinged, settled; /* settled: who has not answered the first ping by then does not count */
    bool in_use;
    bool asking; /* nothing is known yet: requests wait */
    bool plain;  /* the queue group was the last to answer */
    bool silent; /* somebody listens for pings, and did not answer the first */
    int shortest_ms; /* of its routes' time-outs */
    unsigned open;
    struct asked *first; /* those that wait, in the order they came */
};

struct router {
    const struct routes *routes; /* never NULL */
    uint64_t last_number;
    struct umap open;   /* number -> asked */
    struct umap calls;  /* token -> call */
    struct umap guests; /* conn -> session: who has not said hello */
    unsigned waiting;
    size_t bytes, kept_bytes;
    unsigned backend_count;
    struct backend *backends[BACKENDS_MAX]; /* those of routes first, in the order of their services */
};

/* asks.c */
/* NULL: no memory. */
struct asks *asks_of(struct node *n, struct session *s);
struct asked *asks_open(const struct asks *a, int64_t id);
/* Sends the answer once more; false: it is not kept. */
bool asks_repeat(struct node *n, struct session *s, int64_t id);
/* May one more go out now? 0, or RATE_LIMITED and why. */
int asks_allowed(struct node *n, struct asks *a, const struct route *route, const char **why);
void asks_add(struct asks *a, struct asked *q);
/* It is not open any more. */
void asks_remove(struct asks *a, struct asked *q);
void asks_keep(struct node *n, struct asks *a, int64_t id, int op, const void *message);
/* Frees the memory of answers; nothing may be open. */
void asks_free(struct node *n, struct session *s);

/* route.c */
/* Says it, remembers it, frees the request. */
void route_finish(struct node *n, struct asked *q, const struct outcome *o);
void route_fail(struct node *n, struct asked *q, int code, const char *text);

/* A request whose body is in n->scratch, of nobody yet. NULL: no memory. */
struct asked *route_open(struct node *n, const struct route *route, struct backend *b, int64_t timeout_ms);

/* consult.c */
/* Tells the room, if the request is a room's. */
void consult_finish(struct node *n, const struct asked *q, const struct outcome *o);

/* backend.c */
/* NULL: no memory, or there are BACKENDS_MAX. */
struct backend *backend_add(struct node *n, const char *service);
struct backend *backend_find(struct node *n, const char *service);
/* To an instance, to each, or into the queue of those that wait for one. The request may be over afterwards. */
void backend_send(struct node *n, struct asked *q);
/* Nobody wants the answer of one that waits: it does not go out. */
void backend_forget(struct node *n, struct asked *q);
void backend_free_calls(struct node *n);

#endif
