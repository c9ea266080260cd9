/*
 * What the files of bus_mem share: the state of the bus and how an event gets into its list.
 *
 * bus_mem.c has messages, requests and time; mem_kv.c the buckets; mem_log.c the logs. Must not be seen outside. Invariant:
 * an operation that is accepted calls mem_done() once, and one that is not leaves everything as it was.
 */
#ifndef BUS_MEM_STATE_H
#define BUS_MEM_STATE_H

#include "base/map.h"
#include "bus/bus_mem.h"
#include "bus/subject.h"

enum { MEM_MAX_PAYLOAD = 1 << 20, MEM_HEADERS_MAX = 128 /* NATS counts a write's headers as payload */ };

struct mem_event;
struct mem_sub;
struct mem_request;
struct mem_bucket;
struct mem_stream;

struct bus_mem {
    struct bus bus;
    const struct alloc *alloc;
    struct mono now;
    struct mem_event *head, *tail;
    size_t count, max_events;
    struct mem_sub *subs;
    struct mem_request *requests;
    size_t request_count;
    uint64_t next_id;
    struct mem_bucket *buckets;
    struct mem_stream *streams;
    bool closed;
};

static inline struct bus_mem *mem_self(struct bus *b)
{
    return (struct bus_mem *)(void *)b;
}

/* bus_mem.c. False: no memory, or over the limit and not `always`. */
bool mem_emit(struct bus_mem *m, const struct bus_event *ev, bool always);
/* 0 or NO_MEMORY. */
int mem_done(struct bus_mem *m, uint64_t token, enum bus_result result, uint64_t revision, const void *data, size_t len);
/* May an operation with `len` bytes begin? */
int mem_check(const struct bus_mem *m, size_t len, int timeout_ms);

/* mem_kv.c */
int mem_kv_bucket(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms);
int mem_kv_watch(struct bus *b, const char *name);
int mem_kv_get(struct bus *b, uint64_t token, const char *name, const char *key, int timeout_ms);
int mem_kv_put(struct bus *b, uint64_t token, const char *name, const char *key, uint64_t expected, const void *data,
               size_t len, int timeout_ms);
int mem_kv_delete(struct bus *b, uint64_t token, const char *name, const char *key, uint64_t expected, int timeout_ms);
/* Expiry, and listings that are due. */
void mem_kv_tick(struct bus_mem *m);
void mem_kv_destroy(struct bus_mem *m);

/* mem_log.c */
int mem_stream(struct bus *b, uint64_t token, const struct bus_stream *stream, int timeout_ms);
int mem_log_append(struct bus *b, uint64_t token, const char *subject, uint64_t expected, const void *data, size_t len,
                   int timeout_ms);
int mem_log_last(struct bus *b, uint64_t token, const char *stream, const char *subject, int timeout_ms);
int mem_log_next(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t from, int timeout_ms);
int mem_log_purge(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t below, int timeout_ms);
void mem_log_tick(struct bus_mem *m); /* expiry */
void mem_log_destroy(struct bus_mem *m);

#endif
