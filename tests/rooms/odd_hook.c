/* A hook that answers what is no code. */
#include "room/service_hook.h"

static int before(const struct room_service_call *call, const void *data, size_t len)
{
    return call->id == 1 ? 7 : -9999;
}

const struct room_service_hook room_service_hook = {.api_version = ROOM_SERVICE_HOOK_API_VERSION, .before = before};
