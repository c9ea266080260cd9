/*
 * The books that ledger.c keeps; clients and invariants write into them.
 *
 * Invariant: every function ignores a room that has no account.
 */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H

#include "sim.h"
#include "wire/wire_gen.h"

void ledger_init(struct world *w);
void ledger_deinit(struct world *w);
/* A whole state, and a value in passing, that a player was told at `epoch`. */
void ledger_state(struct world *w, const char *room, const char *type, int64_t epoch, int64_t value);
void ledger_heard(struct world *w, const char *room, int64_t epoch, int64_t value);
/* joined_epoch: of the room that the message was for. */
void ledger_acknowledged(struct world *w, const char *room, int64_t joined_epoch, int64_t epoch, int64_t value);
/* Nobody will ever hear what became of so many adds. */
void ledger_doubt(struct world *w, const char *room, int64_t epoch, unsigned count);
/* An accepted write of the room's entry; `e` NULL: its deletion. */
void ledger_written(struct world *w, const char *room, const struct wire_room_entry *e, bool by_owner);
/* The room is another node's from now on, whole: nothing that was acknowledged at `epoch` may be missing later. */
void ledger_moved(struct world *w, const char *room, int64_t epoch);
/* A copy of the room on some disk is not whole: it may lose what only that one had. */
void ledger_damaged(struct world *w, const char *room);
/* The room was seen running on its owner, which could save it. */
void ledger_runs(struct world *w, const char *room, int64_t epoch, bool can_save);
/* A room that keeps a journal, and has not ended. */
bool ledger_lives(const struct world *w, const char *room, int64_t epoch);
/* It need not run again: it is parked, and may be. */
bool ledger_excuses(const struct world *w, const char *room);
/* The room's value when all is over. */
bool ledger_final(struct world *w, const char *room, int64_t value);
/* What can only be judged at the end. */
void ledger_close(struct world *w);

#endif
