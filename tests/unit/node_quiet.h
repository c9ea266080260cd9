/*
 * A gate that is not there: what a node says to players goes nowhere. A test that wants to hear it replaces `send` in a copy.
 */
#ifndef UNIT_NODE_QUIET_H
#define UNIT_NODE_QUIET_H

#include "node/node.h"

extern const struct node_out node_quiet;

#endif
