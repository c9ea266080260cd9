/*
 * Between clients.c (what players do) and client_frames.c (what they are told).
 *
 * Invariant: a client is SEATED exactly when it was told `joined` and neither `left` nor the end of its connection since.
 */
#ifndef SIM_CLIENTS_H
#define SIM_CLIENTS_H

#include "ledger.h"

enum client_state { CLIENT_OFF, CLIENT_HELLO, CLIENT_READY, CLIENT_JOINING, CLIENT_SEATED, CLIENT_LEAVING };

struct client_item { /* on its way to the node: one connection keeps its order */
    struct client_item *next;
    enum { ITEM_OPEN, ITEM_FRAME, ITEM_CLOSE } kind;
    unsigned node;
    uint64_t life, conn;
    size_t len;
    uint8_t data[];
};

struct heard_from {
    uint64_t join; /* the sender's */
    int64_t number;
};

/* As many inputs without an answer as a player lets there be. */
enum { CLIENT_OPEN_MAX = 60 };

struct sim_client {
    struct world *w;
    unsigned index;
    char player[16];
    enum client_state state;
    unsigned node;
    uint64_t life, conn;
    bool can_redirect, can_relay, proved, asked_proof;
    int64_t deadline_us, request;
    struct client_item *first, **last;
    /* where a redirect leads */
    bool redirected;
    unsigned target;
    char ticket[520];
    int create_id; /* of the join under way or to be repeated, -1: none */
    bool repeat;
    /* the seat */
    int64_t room;
    struct id room_id, type;
    int64_t epoch, joined_epoch;
    bool paused, counts;
    uint64_t join; /* counts up over all joins of this client */
    int64_t number, n, acknowledged, counter, seq;
    int64_t open[CLIENT_OPEN_MAX]; /* numbers of inputs without an answer, the oldest first */
    unsigned open_count;
    struct map epochs; /* room that outlives its owner -> the highest epoch seen, as a number */
    unsigned errors; /* told since it joined */
    struct heard_from heard[SIM_CLIENTS_MAX];
};

/* What players play. Creation ids take types by their place here. */
struct client_type {
    const char *name, *spec, *room;
    bool named_only; /* its rooms never end, so there must not be many */
};
enum { CLIENT_TYPES = 9 };
extern const struct client_type client_types[CLIENT_TYPES];

void client_set(struct sim_client *c, enum client_state state);
void client_connect(struct sim_client *c, unsigned node);
void client_disconnect(struct sim_client *c);
/* No answer to what is open will come any more. */
void client_doubts(struct sim_client *c);
void client_say(struct sim_client *c, int op, const void *message);
void client_join(struct sim_client *c, enum wire_frame_join_mode mode, const char *type, const char *room);
void client_told(struct sim_client *c, const uint8_t *data, size_t len);
struct sim_client *client_at(struct world *w, const char *player);

#endif
