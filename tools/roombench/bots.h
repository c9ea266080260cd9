/*
 * Players that check what they hear.
 *
 * Decides: whether a running cluster loses, repeats or turns around messages; in one thread, from outside, over the client
 * library; and whether counters, which promise to lose nothing, still have every add that was acknowledged. Must not know how
 * servers are started. Invariant: a message counts as lost only if its receiver sat in the room all the time, was not told to
 * resynchronise, and the room had one owner.
 */
#ifndef ROOMBENCH_BOTS_H
#define ROOMBENCH_BOTS_H

#include <stdbool.h>

struct bots_options {
    const char *servers; /* host:port,... */
    unsigned seconds;
    unsigned bots;
    unsigned rate; /* messages per second, bot and room */
    bool json;
};

/* Plays and prints. 0: nothing was lost, repeated or turned around, the counters have all adds that were acknowledged and no
 * more than those in doubt besides, every server had bots and rooms were shared across servers; 1: otherwise. */
int bots_play(const struct bots_options *options);

#endif
