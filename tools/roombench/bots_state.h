/*
 * What bots.c (playing) and bots_check.c (judging, printing) share.
 *
 * Decides: what is remembered of each stream of numbers: one per receiver's seat and sender. Invariant: a seat's streams
 * end with the seat.
 */
#ifndef ROOMBENCH_BOTS_STATE_H
#define ROOMBENCH_BOTS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "room/client.h"
#include "tools/roombench/bots.h"
#include "tools/roombench/stats.h"

enum { BOTS_SEATS = 2, BOTS_ID = 66, BOTS_PER_ROOM = 8, BOTS_SERVERS_MAX = 64, BOTS_RING = 64 };

enum bots_kind { BOTS_RELAY, BOTS_STATE, BOTS_COUNTER };

/* What one seat has heard from one sender. */
struct bots_stream {
    uint32_t sender; /* index of the bot; BOTS_ROOM for the counter's own values */
    uint32_t life;   /* which seat of the sender; numbers begin anew with each */
    int64_t last;
    int64_t missing;
};

#define BOTS_ROOM UINT32_MAX

struct bots_seat {
    enum bots_kind kind;
    char room_id[BOTS_ID];
    uint64_t request;  /* of the open join, 0: none */
    uint32_t room;     /* 0: not seated */
    uint64_t epoch;
    uint32_t life;
    int64_t sent;      /* numbers sent in this life */
    uint64_t acked;
    uint64_t open;     /* sent, not yet acknowledged */
    int64_t sent_at_us[BOTS_RING]; /* by n */
    int64_t retry_at_us, send_at_us;
    struct bots_stream *streams;
    unsigned stream_count, stream_cap;
};

struct bots;

struct bot {
    struct bots *all;
    struct room_client *client;
    unsigned index;
    bool redirect;
    int server; /* index of the home server, -1: none */
    bool had_home;
    struct bots_seat seats[BOTS_SEATS];
};

struct bots {
    struct bots_options o;
    struct bot *bots;
    unsigned server_count; /* of the list */
    char servers[BOTS_SERVERS_MAX][BOTS_ID];
    unsigned homes[BOTS_SERVERS_MAX]; /* welcomes */
    unsigned seen_servers;
    uint64_t sent, acked, received, refused, errors;
    char last_error[128];
    uint64_t join_local, join_redirect, join_relay, lost_homes, lost_seats, sent_at_loss;
    uint64_t lost, out_of_order, duplicated;
    unsigned rooms, shared;
    struct stats latency, ack;
};

/* bots_check.c */
/* The seat has heard number `n` of that sender's life. */
void bots_heard(struct bots *b, struct bots_seat *seat, uint32_t sender, uint32_t life, int64_t n);
void bots_forget(struct bots_seat *seat);
/* How many messages that should have arrived by now have not. With `count` they are counted as lost. */
uint64_t bots_outstanding(struct bots *b, bool count);
/* Counts rooms, and those with players from several servers, as they are now; keeps the highest counts. */
void bots_count_rooms(struct bots *b);
int bots_report(struct bots *b);

#endif
