/* See hook.h. */
#include "roomd/hook.h"

#include <dlfcn.h>

int service_hook_load(const char *path, const struct room_service_hook **out, struct err_detail *detail)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(detail, ROOM_E_INVALID, "cannot load service hook '%s': %s", path, dlerror());
    const struct room_service_hook *hook = dlsym(library, "room_service_hook");
    if (hook && hook->api_version == ROOM_SERVICE_HOOK_API_VERSION) {
        *out = hook;
        return 0;
    }
    int rc = hook ? err_set(detail, ROOM_E_INVALID,
                            "cannot load service hook '%s': it was built for version %u of room/service_hook.h, this is "
                            "version %u; build it again",
                            path, hook->api_version, ROOM_SERVICE_HOOK_API_VERSION)
                  : err_set(detail, ROOM_E_INVALID, "cannot load service hook '%s': symbol 'room_service_hook' not found",
                            path);
    dlclose(library);
    return rc;
}
