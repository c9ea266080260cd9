/*
 * The hook around requests to services, from a shared object.
 *
 * Decides: whether what a file exports is a hook of this version. Knows nothing of what it does.
 */
#ifndef ROOMD_HOOK_H
#define ROOMD_HOOK_H

#include "base/err.h"
#include "room/service_hook.h"

/* INVALID with the reason. What it gives is borrowed for the life of the process: the object stays loaded. */
MUST_USE int service_hook_load(const char *path, const struct room_service_hook **out, struct err_detail *detail);

#endif
