/*
 * What bots.c (playing), bots_check.c (judging what was heard), bots_ledger.c (what was acknowledged) and bots_report.c share.
 *
 * Decides: what is remembered: of each stream of numbers, one per receiver's seat and sender, and of each room that outlives
 * its owner. Invariant: a seat's streams end with the seat, an account never.
 */
#ifndef ROOMBENCH_BOTS_STATE_H
#define ROOMBENCH_BOTS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "room/client.h"
#include "tools/roombench/bots.h"
#include "tools/roombench/stats.h"

enum { BOTS_SEATS = 3, BOTS_ID = 66, BOTS_PER_ROOM = 4, BOTS_SERVERS_MAX = 64, BOTS_RING = 64 };

enum bots_kind { BOTS_RELAY, BOTS_STATE, BOTS_COUNTER };

/* What one seat has heard from one sender. */
struct bots_stream {
    uint32_t sender; /* index of the bot; BOTS_ROOM for the counter's own values */
    uint32_t life;   /* which seat of the sender; numbers begin anew with each */
    int64_t last;
    int64_t missing;
};

#define BOTS_ROOM UINT32_MAX

/* What was acknowledged of one room, to all of its players. */
struct bots_account {
    enum bots_kind kind;
    char room_id[BOTS_ID];
    uint64_t epoch; /* of the last acknowledgement */
    int64_t acked_at_us;
    /* Counters: the values that acknowledged adds made (each adds 1, so each makes another one), as bits. */
    uint8_t *values;
    size_t values_size;
    int64_t top; /* the highest of them */
    uint64_t acknowledged, in_doubt; /* adds; in doubt: the seat or the connection was lost before the answer */
    int64_t found; /* at the end, by somebody who joins anew; negative: nobody could */
};

struct bots_seat {
    enum bots_kind kind;
    char room_id[BOTS_ID];
    struct bots_account *account; /* NULL: the room does not outlive its owner */
    const struct bot *maker;      /* who joins first, so that the rooms are spread over the servers */
    uint64_t request;  /* of the open join, 0: none */
    uint32_t room;     /* 0: not seated */
    uint64_t epoch;
    uint32_t life;
    int64_t sent;      /* numbers sent in this life */
    uint64_t acked;
    uint64_t open;     /* sent, not yet acknowledged */
    int64_t sent_at_us[BOTS_RING]; /* by n */
    int64_t retry_at_us, send_at_us;
    bool gap;          /* of a counter: the next value may leave some out */
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
    int64_t start_us;
    char servers[BOTS_SERVERS_MAX][BOTS_ID];
    unsigned homes[BOTS_SERVERS_MAX]; /* welcomes */
    unsigned seen_servers;
    uint64_t sent, acked, received, refused, errors;
    char last_error[128];
    uint64_t join_local, join_redirect, join_relay, lost_homes, lost_seats, sent_at_loss;
    uint64_t resumed; /* sessions taken up again: after a loss, and to follow a redirect */
    uint64_t lost, out_of_order, duplicated;
    unsigned rooms, shared;
    struct stats latency, ack;
    struct bots_account *accounts;
    unsigned account_count, recovered; /* changes of the owner, of all rooms together */
    int64_t recovery_max_us;
    struct stats recovery;
    char breach[160]; /* the first that the ledger found; "": none */
};

/* bots_check.c */
/* The seat has heard number `n` of that sender's life. */
void bots_heard(struct bots *b, struct bots_seat *seat, uint32_t sender, uint32_t life, int64_t n);
void bots_forget(struct bots_seat *seat);
/* How many messages that should have arrived by now have not. With `count` they are counted as lost. */
uint64_t bots_outstanding(struct bots *b, bool count);
/* The seat begins anew with the room's whole state: what was missed is no loss, what is older than what was heard is. */
void bots_resynced(struct bots *b, struct bots_seat *seat, const void *state, size_t len);
/* Messages were missed, in each room of the player; its state follows later. */
void bots_gap(struct bots_seat *seat);
/* Value `value` of a counter comes next. */
void bots_skip(struct bots_seat *seat, int64_t value);
/* {"value": v} */
bool bots_read_value(const void *data, size_t len, int64_t *value);
/* Counts rooms, and those with players from several servers, as they are now; keeps the highest counts. */
void bots_count_rooms(struct bots *b);

/* bots_ledger.c */
/* The account of a room, made at the first call; NULL for relay rooms. */
struct bots_account *bots_account(struct bots *b, enum bots_kind kind, const char *room_id);
void bots_acknowledged(struct bots *b, struct bots_seat *seat, const void *result, size_t len);
/* What is open of the seat will not be answered any more. */
void bots_doubt(struct bots_seat *seat);
/* Joins each counter room anew and compares. */
void bots_audit(struct bots *b);
void bots_breach(struct bots *b, const char *room_id, const char *format, ...) __attribute__((format(printf, 3, 4)));
void bots_accounts_free(struct bots *b);

/* bots_report.c */
/* Prints, and says whether all held: 0 or 1. */
int bots_report(struct bots *b);

#endif
