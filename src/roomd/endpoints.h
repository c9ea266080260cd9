/*
 * What the admin port answers: health, and what backends may ask of the cluster over HTTP in place of NATS.
 *
 * Decides: the paths, and which HTTP status each end has. What is asked goes to the node, which asks whoever is right; so any
 * node answers for all.
 */
#ifndef ROOMD_ENDPOINTS_H
#define ROOMD_ENDPOINTS_H

#include "admin/admin.h"
#include "node/node.h"
#include "roomd/options.h"

struct endpoints {
    struct admin *admin; /* NULL: there is none */
    struct node *node;   /* set by whoever has it; NULL: not yet */
    char host[256];
};

/* Listens, if the options say so. INVALID, IO, NO_MEMORY. */
MUST_USE int endpoints_open(struct endpoints *e, uv_loop_t *loop, const struct options *o, struct err_detail *detail);
/* Of struct node_out. */
void endpoints_asked(struct endpoints *e, uint64_t ticket, int code, const char *json, size_t len);
/* `done` follows from the loop, or at once. */
void endpoints_close(struct endpoints *e, void (*done)(void *arg), void *arg);

#endif
