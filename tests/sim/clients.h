/*
 * Between clients.c (what players do) and client_frames.c (what they are told).
 *
 * Invariant: a client is SEATED exactly when it was told `joined` and neither `left` nor the end of its connection since.
 */
#ifndef SIM_CLIENTS_H
#define SIM_CLIENTS_H

#include "sim.h"
#include "wire/wire_gen.h"

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
    int64_t epoch, seat_max;
    uint64_t join; /* counts up over all joins of this client */
    int64_t number, n, acknowledged, counter;
    unsigned errors; /* told since it joined */
    struct heard_from heard[SIM_CLIENTS_MAX];
};

extern const char *const client_types[];
enum { CLIENT_TYPES = 5 };

void client_set(struct sim_client *c, enum client_state state);
void client_connect(struct sim_client *c, unsigned node);
void client_disconnect(struct sim_client *c);
void client_say(struct sim_client *c, int op, const void *message);
void client_join(struct sim_client *c, enum wire_frame_join_mode mode, const char *type, const char *room);
void client_told(struct sim_client *c, const uint8_t *data, size_t len);
struct sim_client *client_at(struct world *w, const char *player);

#endif
