/*
 * A room's owner: who it is, and asking it.
 *
 * Decides: that a room which has just moved is looked up again, once. Must not know what is asked. One thread.
 * Invariant: nothing is asked of a node that the registry does not call the owner.
 */
#ifndef ROOMCTL_OWNER_H
#define ROOMCTL_OWNER_H

#include "roomctl/connect.h"

enum { OWNER_LONG_MS = 30000 };

/* The room's entry, and its owner's id (borrowed from it). NOT_FOUND; INVALID if the entry names no owner. */
MUST_USE int owner_find(struct conn *conn, const char *room, json_t **entry, const char **owner, struct err_detail *detail);

/* Sends a control request to the room's owner; takes `request`. *entry: the one it was asked by; *result as of conn_ctl().
 * UNAVAILABLE if nobody answers who runs it; conn->refused tells an owner's own "unavailable" from that. */
MUST_USE int owner_ask(struct conn *conn, const char *room, json_t *request, json_t **entry, json_t **result,
                       struct err_detail *detail);

/* The same for what takes its time: once the owner has answered a ping, waits OWNER_LONG_MS for the answer, or longer if
 * --timeout says so. */
MUST_USE int owner_ask_long(struct conn *conn, const char *room, json_t *request, json_t **entry, json_t **result,
                            struct err_detail *detail);

#endif
