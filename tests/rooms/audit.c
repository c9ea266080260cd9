/*
 * An example of room/service_hook.h: a line for each request to a service, and a limit on what is asked of the shop.
 *
 * Before: a request on a route that begins with "shop" may have 64 bytes of data. After: one line on standard error, which is
 * the node's log.
 */
#include <stdio.h>
#include <string.h>

#include "room/service_hook.h"

enum { SHOP_BYTES = 64 };

static int before(const struct room_service_call *call, const void *data, size_t len)
{
    if (strncmp(call->route, "shop", 4) == 0 && len > SHOP_BYTES)
        return ROOM_E_TOO_BIG;
    return 0;
}

static void after(const struct room_service_call *call, int code, const void *data, size_t len, int64_t took_ms)
{
    fprintf(stderr, "audit route=%s service=%s player=%s id=%llu trace=%s result=%s bytes=%zu ms=%lld\n", call->route,
            call->service, call->player[0] ? call->player : "-", (unsigned long long)call->id, call->trace, room_error_name(code), len,
            (long long)took_ms);
}

const struct room_service_hook room_service_hook = {
    .api_version = ROOM_SERVICE_HOOK_API_VERSION,
    .before = before,
    .after = after,
};
