/*
 * A hook around requests to services: middleware of the gateway.
 *
 * A shared object exports one under the name `room_service_hook`, and is loaded with `roomd --service-hook ./audit.so`:
 *
 *     const struct room_service_hook room_service_hook = {.api_version = ROOM_SERVICE_HOOK_API_VERSION, .before = before};
 *
 * tests/rooms/audit.c is a whole one to copy from.
 *
 * Rules: both functions run on the node's one thread, so neither may block or sleep: while one runs, every room of the node
 * stands still. Pointers are borrowed until the function returns; strings are NUL-terminated. `data` is the raw bytes of one
 * msgpack value, checked to be well formed and nothing more. A request that is repeated by its client (same session, same id)
 * is not seen again, and what rooms ask services is not seen at all.
 */
#ifndef ROOM_SERVICE_HOOK_H
#define ROOM_SERVICE_HOOK_H

#include <stddef.h>
#include <stdint.h>

#include "room/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct here or the meaning of a function changes; a hook of another version is not loaded. */
#define ROOM_SERVICE_HOOK_API_VERSION 1u

/* A player's request. New fields are added at the end. */
struct room_service_call {
    const char *route;   /* as the player named it */
    const char *service; /* where the route leads */
    const char *player;  /* "": has not said hello, and the route has login=no */
    const char *session; /* "" likewise */
    const char *trace;   /* ULID; the service is told the same one */
    uint64_t id;         /* the player's number of the request */
};

struct room_service_hook {
    unsigned api_version; /* ROOM_SERVICE_HOOK_API_VERSION */

    /* Before the request is sent, after all that the node itself has against it. 0: it goes on. A negative code of
     * room/error.h: it is refused with that code, and after() is not called. Anything else is `internal`. May be NULL. */
    int (*before)(const struct room_service_call *call, const void *data, size_t len);

    /* It has ended: with the reply (code 0), or with a code and no data. `took_ms` counts from the request's arrival. Called
     * once for each request that before() let through, also when its player is gone. Not called for what is open when the
     * process ends. May be NULL. */
    void (*after)(const struct room_service_call *call, int code, const void *data, size_t len, int64_t took_ms);
};

#ifdef __cplusplus
}
#endif

#endif
