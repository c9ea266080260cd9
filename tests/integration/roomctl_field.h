/*
 * What roomctl's tests with real nodes share: one nats-server, some nodes, players in rooms, roomctl run as a program.
 *
 * Decides nothing about what is tested. Invariant: every wait is for a condition with a deadline; children die with us; each
 * node keeps its rooms in the test's own folder.
 */
#ifndef ROOMCTL_FIELD_H
#define ROOMCTL_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "room/client.h"

enum { FIELD_T = 15000 /* ms */, FIELD_NODES = 2 };

struct player {
    struct room_client *client;
    bool welcome, joined, left;
    uint32_t room;
    uint64_t acknowledged; /* the highest `sent` */
    char state[200];       /* of the room when it was joined: the beginning of the msgpack value */
    size_t state_len;
};

/* Starts nats-server and nodes n0, n1, ...; `more`: one more option of each node with its value, or NULL. */
void field_start(int nodes, const char *option, const char *value);
void field_stop(void);
void field_start_node(int i);
const char *field_address(int i); /* host:port for players */
void field_kill_node(int i);
void field_signal_node(int i, int number);
const char *field_dir(void);

/* Runs roomctl with these words; its exit code. Standard error is in the output too if they end with 2>&1. */
int ctl(const char *words);
/* What it printed; valid until the next ctl(). */
const char *ctl_out(void);
/* Fails the test unless the exit code is `want` and the output JSON. */
json_t *ctl_json(const char *words, int want);
/* "a b": the ids of what a verb lists. */
const char *ctl_ids(const char *words);

/* For wait_until: */
bool rooms_are(void *want);  /* "r-a r-b" */
bool all_holds(void *unused); /* check is clean */
bool check_says(void *text); /* a breach with this text; "room x: orphan" */

/* Puts, or with NULL deletes, a value behind the nodes' backs. */
void plant(const char *bucket, const char *key, const char *value);
/* The value, "" if there is none; valid until the next call of any of these. */
const char *stored(const char *bucket, const char *key);
/* Appends to a room's journal; `before` is what the message claims to follow. */
void plant_journal(const char *room, uint64_t before);
void purge_journal(const char *room);
/* A question to JetStream, as "STREAM.DELETE.x"; fails the test unless it is answered. */
void ask_jetstream(const char *what, const char *body);

/* Connects a player to node `node` and joins; sends one msgpack value and waits for its acknowledgement. */
void enter(struct player *p, const char *name, int node, const char *type, const char *room);
void send_value(struct player *p, const void *value, size_t len);
bool player_left(void *player);

#endif
