/* See node_quiet.h. */
#include "node_quiet.h"

static void send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
}

static void close(void *arg, uint64_t conn, const char *reason, const void *final, size_t final_len)
{
}

static void established(void *arg, uint64_t conn)
{
}

static enum node_encoding encoding(void *arg, uint64_t conn)
{
    return NODE_MSGPACK;
}

static void ready(void *arg)
{
}

static void stopped(void *arg, int code, const char *reason)
{
}

const struct node_out node_quiet = {NULL, send, close, established, encoding, ready, NULL, stopped};
