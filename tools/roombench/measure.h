/*
 * Players for measuring: many clients in one thread, driven until something has happened.
 *
 * Decides: how the players wait and what is timed. Must not know how servers are started. A failure is told on standard
 * error once, by the function that returns it as -1 (or NULL).
 */
#ifndef ROOMBENCH_MEASURE_H
#define ROOMBENCH_MEASURE_H

#include "room/client.h"
#include "tools/roombench/stats.h"

enum { PLAYER_ROOMS = 16, WINDOW = 16 };

struct players;

struct player {
    struct players *all;
    struct room_client *client;
    unsigned welcomed, resumed, counted; /* welcomes; those of them that took the session up again; those waited for */
    uint32_t room;      /* the last one joined */
    int via;            /* of the last one */
    unsigned rooms, failed, lefts;
    int64_t asked_us;   /* when the last join began */
    uint64_t sent, acked, heard, pushed;
    int answers;        /* sends back what it hears */
    int leaves;         /* leaves what it has joined at once */
    char error[96];     /* the last failure */
};

struct players {
    struct player *p;
    unsigned count;
    int epoll_fd;
    struct players *next; /* all that are open, so that idle ones are kept alive */
    struct stats *joins; /* where the time of each join goes; NULL: nowhere */
};

/* `count` players connected to that server; of several, with a comma between them, each has its share. */
struct players *players_open(const char *server, const char *name, unsigned count, int redirect, int relay);
void players_close(struct players *ps);
/* Everything that is due, and at most `timeout_ms` of waiting. */
void players_turn(struct players *ps, int timeout_ms);
/* What is due for all players there are, measured or not: to be called now and then where nothing else waits. */
void players_timers(void);
/* Breaks all connections at once, as a network would: neither end asked for it. The clients come back by themselves;
 * players_close() instead leaves their sessions behind. When it began; -1: a connection was not found. */
int64_t players_cut(struct players *ps);
/* Waits until every player is welcome once more; -1 too if one of them was given a new session, or lost a room. */
int players_back(struct players *ps);
/* All players join at once; `format` has one %u for the player's number divided by `per_room`, or none. */
int players_join(struct players *ps, const char *type, const char *format, unsigned per_room);
/* Makes `total` rooms, each left again by its player at once, PLAYER_ROOMS under way per player; returns how many were
 * made, and the time it took. */
unsigned players_fill(struct players *ps, const char *type, unsigned total, int64_t *took_us);

/* Median microseconds from a send to its `sent` (a counter is added to). */
double players_ack_us(struct players *ps, unsigned rounds);
/* Adds of all players together, acknowledged per second; each has `window` of its `adds` unacknowledged at most. */
double players_add_rate(struct players *ps, unsigned adds, unsigned window);
/* Median microseconds until a message of `a`'s player has been sent back by `b`'s, both in one relay room. */
double players_pingpong_us(struct players *a, struct players *b, unsigned rounds);
/* Every `per_room`-th player speaks `messages` times, `window` unacknowledged at most; deliveries per second to all others. */
double players_broadcast_rate(struct players *ps, unsigned per_room, unsigned messages, unsigned window);

#endif
