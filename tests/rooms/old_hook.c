/* A hook of another version. */
#include "room/service_hook.h"

const struct room_service_hook room_service_hook = {.api_version = ROOM_SERVICE_HOOK_API_VERSION + 1};
