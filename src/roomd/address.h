/*
 * Addresses to listen on, as options name them.
 *
 * Decides: what HOST:PORT is, and which hosts only this machine reaches. Opens nothing.
 */
#ifndef ROOMD_ADDRESS_H
#define ROOMD_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* `option` is for the text of a failure. INVALID. */
MUST_USE int address_split(const char *option, const char *text, char *host, size_t host_size, int *port,
                           struct err_detail *detail);
/* What is no address cannot be listened on; whoever opens it says so. */
bool address_from_elsewhere(const char *host);

#endif
