/*
 * The checks of bus_checks.h.
 *
 * Must not wait but for conditions. Invariant: a token is used once in each check; checks share no token.
 */
#include "support/bus_checks.h"

#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const int T = 5000;

static struct driver_done *ended(struct driver *d, int err, uint64_t token)
{
    cr_assert_eq(err, 0, "token %" PRIu64 ": %d", token, err);
    cr_assert(driver_wait(d, token, 2 * T), "token %" PRIu64 " ended %d times", token, d->done[token].count);
    return &d->done[token];
}

/* Tokens of one check count up from its first. */
static uint64_t next_token;

static struct driver_done *append(struct driver *d, const char *subject, uint64_t expected, const char *text)
{
    uint64_t token = next_token++;
    return ended(d, bus_log_append(d->bus, token, subject, expected, text, strlen(text), T), token);
}

static struct driver_done *last(struct driver *d, const char *subject)
{
    uint64_t token = next_token++;
    return ended(d, bus_log_last(d->bus, token, "LOG", subject, T), token);
}

static struct driver_done *next(struct driver *d, const char *subject, uint64_t from)
{
    uint64_t token = next_token++;
    return ended(d, bus_log_next(d->bus, token, "LOG", subject, from, T), token);
}

static void purge(struct driver *d, const char *subject, uint64_t below)
{
    uint64_t token = next_token++;
    cr_assert_eq(ended(d, bus_log_purge(d->bus, token, "LOG", subject, below, T), token)->result, BUS_OK);
}

static void make(struct driver *d, const char *name, const char *subjects)
{
    uint64_t token = next_token++;
    struct bus_stream stream = {.name = name, .subjects = subjects};
    cr_assert_eq(ended(d, bus_stream(d->bus, token, &stream, 2 * T), token)->result, BUS_OK, "%s", d->done[token].data);
}

#define IS(done, text, seq)                                \
    do {                                                   \
        const struct driver_done *done_ = (done);          \
        cr_assert_eq(done_->result, BUS_OK);               \
        cr_assert_str_eq(done_->data, text);               \
        cr_assert_eq(done_->revision, seq, "%" PRIu64 " is not %" PRIu64, done_->revision, (uint64_t)(seq)); \
    } while (0)

/* Leaves the sequences of two messages of log.a with one of log.b between them. */
static void check_appends(struct driver *d, uint64_t *first, uint64_t *second)
{
    cr_assert_eq(last(d, "log.a")->result, BUS_NOT_FOUND);
    cr_assert_eq(next(d, "log.a", 0)->result, BUS_NOT_FOUND);
    struct driver_done *done = append(d, "log.a", 0, "one");
    cr_assert_eq(done->result, BUS_OK);
    *first = done->revision;
    cr_assert_gt(*first, 0);
    cr_assert_eq(append(d, "log.a", 0, "twin")->result, BUS_CONFLICT);
    cr_assert_eq(append(d, "log.b", *first, "wrong")->result, BUS_CONFLICT, "what is expected is of the subject");
    done = append(d, "log.b", 0, "between");
    cr_assert_eq(done->result, BUS_OK);
    cr_assert_eq(done->revision, *first + 1, "one sequence for all subjects, and no refused append counts");
    done = append(d, "log.a", *first, "two");
    cr_assert_eq(done->result, BUS_OK);
    *second = done->revision;
    cr_assert_eq(*second, *first + 2);
    done = append(d, "log.a", *first, "late");
    cr_assert_eq(done->result, BUS_CONFLICT);
    cr_assert_eq(done->revision, *second, "the conflict tells the last sequence");
    cr_assert_eq(append(d, "log.a", *second + 9, "future")->result, BUS_CONFLICT);
}

static void check_reads(struct driver *d, uint64_t first, uint64_t second)
{
    IS(last(d, "log.a"), "two", second);
    IS(next(d, "log.a", 0), "one", first);
    IS(next(d, "log.a", first), "one", first);
    IS(next(d, "log.a", first + 1), "two", second);
    IS(next(d, "log.b", 0), "between", first + 1);
    cr_assert_eq(next(d, "log.a", second + 1)->result, BUS_NOT_FOUND);
    cr_assert_eq(next(d, "log.b", second)->result, BUS_NOT_FOUND);
    cr_assert_eq(last(d, "log.none")->result, BUS_NOT_FOUND);
}

static void check_purges(struct driver *d, uint64_t first, uint64_t second)
{
    purge(d, "log.a", 1);
    IS(next(d, "log.a", 0), "one", first);
    purge(d, "log.a", second);
    IS(next(d, "log.a", 0), "two", second);
    IS(last(d, "log.a"), "two", second);
    IS(last(d, "log.b"), "between", first + 1);
    struct driver_done *done = append(d, "log.a", second, "three");
    cr_assert_eq(done->result, BUS_OK, "what was purged does not move the fence");
    purge(d, "log.none", 0);
    purge(d, "log.a", 0);
    cr_assert_eq(last(d, "log.a")->result, BUS_NOT_FOUND);
    IS(last(d, "log.b"), "between", first + 1);
    cr_assert_eq(append(d, "log.a", done->revision, "four")->result, BUS_CONFLICT);
    uint64_t before = done->revision;
    done = append(d, "log.a", 0, "");
    cr_assert_eq(done->result, BUS_OK, "an emptied subject expects 0");
    cr_assert_eq(done->revision, before + 1, "the sequence goes on");
    IS(last(d, "log.a"), "", before + 1);
    cr_assert_eq(last(d, "log.a")->len, 0);
    purge(d, "log.a", before + 1000);
    cr_assert_eq(last(d, "log.a")->result, BUS_NOT_FOUND);
}

/* What goes by itself is the oldest of a subject, and what is left keeps its sequence. */
static void check_limits(struct driver *d)
{
    uint64_t token = next_token++, seq[4] = {0};
    struct bus_stream stream = {.name = "SHORT", .subjects = "short.*", .max_per_subject = 2, .ttl_ms = 300000};
    cr_assert_eq(ended(d, bus_stream(d->bus, token, &stream, 2 * T), token)->result, BUS_OK);
    for (int i = 0; i < 4; i++) {
        struct driver_done *done = append(d, "short.a", i ? seq[i - 1] : 0, "x");
        cr_assert_eq(done->result, BUS_OK);
        seq[i] = done->revision;
    }
    cr_assert_eq(append(d, "short.b", 0, "other")->result, BUS_OK);
    token = next_token++;
    cr_assert_eq(ended(d, bus_log_next(d->bus, token, "SHORT", "short.a", 0, T), token)->revision, seq[2]);
    token = next_token++;
    cr_assert_eq(ended(d, bus_log_last(d->bus, token, "SHORT", "short.a", T), token)->revision, seq[3]);
    token = next_token++;
    cr_assert_eq(ended(d, bus_log_last(d->bus, token, "SHORT", "short.b", T), token)->result, BUS_OK);
    cr_assert_eq(bus_stream(d->bus, 0, &(struct bus_stream){.name = "X", .subjects = "x.*", .ttl_ms = -1}, T), ROOM_E_INVALID);
}

static void check_refusals(struct driver *d)
{
    struct bus *b = d->bus;
    uint64_t token = next_token++;
    struct driver_done *done = ended(d, bus_log_append(b, token, "nolog.a", 0, "x", 1, 300), token);
    cr_assert_eq(done->result, BUS_NO_RESPONDERS, "no stream has this subject: nothing was changed, and we know it");
    token = next_token++;
    cr_assert_eq(ended(d, bus_log_last(b, token, "NOLOG", "log.a", T), token)->result, BUS_REFUSED);
    token = next_token++;
    cr_assert_eq(ended(d, bus_log_purge(b, token, "NOLOG", "log.a", 7, T), token)->result, BUS_REFUSED);
    cr_assert_eq(bus_log_append(b, 0, "log.*", 0, "", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_log_append(b, 0, "log.\"", 0, "", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_log_append(b, 0, "log.a", BUS_ANY_REVISION, "", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_log_append(b, 0, "log.a", 0, "", 0, 0), ROOM_E_INVALID);
    cr_assert_eq(bus_log_last(b, 0, "LOG", "log.>", T), ROOM_E_INVALID);
    cr_assert_eq(bus_log_next(b, 0, "bad.name", "log.a", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_log_purge(b, 0, "LOG", "log..a", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_stream(b, 0, &(struct bus_stream){.name = "X", .subjects = "x.\"*"}, T), ROOM_E_INVALID);
    cr_assert_eq(bus_stream(b, 0, &(struct bus_stream){.name = "X", .subjects = "x.*", .replicas = 6}, T), ROOM_E_INVALID);
}

void bus_check_log(struct driver *d)
{
    uint64_t first, second;
    next_token = 1000;
    make(d, "LOG", "log.*");
    make(d, "LOG", "log.*");
    make(d, "LOG", "otherwise.*"); /* there already: fine */
    check_appends(d, &first, &second);
    check_reads(d, first, second);
    check_purges(d, first, second);
    check_limits(d);
    check_refusals(d);
}

void bus_check_log_age(struct driver *d, void (*pass)(int64_t ms))
{
    next_token = 1500;
    struct bus_stream stream = {.name = "BRIEF", .subjects = "brief.*", .ttl_ms = 300};
    uint64_t token = next_token++;
    cr_assert_eq(ended(d, bus_stream(d->bus, token, &stream, 2 * T), token)->result, BUS_OK);
    cr_assert_eq(append(d, "brief.a", 0, "x")->result, BUS_OK);
    enum bus_result left = BUS_OK;
    for (int tries = 0; left == BUS_OK && tries < 200; tries++) { /* 20 s */
        pass(100);
        token = next_token++;
        left = ended(d, bus_log_last(d->bus, token, "BRIEF", "brief.a", T), token)->result;
    }
    cr_assert_eq(left, BUS_NOT_FOUND, "it is over by itself");
}

void bus_check_log_race(struct driver **d, int count)
{
    enum { ROUNDS = 100 };
    uint64_t expected = 0;
    next_token = 2000;
    make(d[0], "RACE", "race.*");
    for (int round = 0; round < ROUNDS; round++) {
        int winners = 0, conflicts = 0;
        uint64_t first = next_token, won = 0;
        for (int i = 0; i < count; i++) {
            uint64_t token = next_token++;
            cr_assert_eq(bus_log_append(d[i]->bus, token, "race.a", expected, "x", 1, T), 0);
            bus_flush(d[i]->bus);
        }
        for (int i = 0; i < count; i++) {
            const struct driver_done *done = ended(d[i], 0, first + (uint64_t)i);
            winners += done->result == BUS_OK;
            conflicts += done->result == BUS_CONFLICT;
            won = done->result == BUS_OK ? done->revision : won;
        }
        cr_assert_eq(winners, 1);
        cr_assert_eq(conflicts, count - 1);
        expected = won;
    }
}

void bus_check_big(struct driver *d)
{
    enum { LIMIT = (1 << 20) - 128 };
    static uint8_t data[LIMIT + 1];
    static const size_t sizes[] = {700000, LIMIT};
    next_token = 3000;
    make(d, "BIG", "big.*");
    uint64_t token = next_token++;
    cr_assert_eq(ended(d, bus_kv_bucket(d->bus, token, &(struct bus_bucket){.name = "big"}, T), token)->result, BUS_OK);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    uint64_t expected = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t len = sizes[i];
        uint64_t sum = XXH3_64bits(data, len);
        token = next_token++;
        struct driver_done *done = ended(d, bus_log_append(d->bus, token, "big.a", expected, data, len, T), token);
        cr_assert_eq(done->result, BUS_OK);
        expected = done->revision;
        token = next_token++;
        done = ended(d, bus_log_last(d->bus, token, "BIG", "big.a", T), token);
        cr_assert(done->result == BUS_OK && done->len == len && done->sum == sum, "%d %zu", (int)done->result, done->len);
        token = next_token++;
        done = ended(d, bus_log_next(d->bus, token, "BIG", "big.a", expected, T), token);
        cr_assert(done->result == BUS_OK && done->len == len && done->sum == sum, "%d %zu", (int)done->result, done->len);
        token = next_token++;
        done = ended(d, bus_kv_put(d->bus, token, "big", "room.4.7.0", BUS_ANY_REVISION, data, len, T), token);
        cr_assert_eq(done->result, BUS_OK);
        token = next_token++;
        done = ended(d, bus_kv_get(d->bus, token, "big", "room.4.7.0", T), token);
        cr_assert(done->result == BUS_OK && done->len == len && done->sum == sum, "%d %zu", (int)done->result, done->len);
    }
    cr_assert_eq(bus_log_append(d->bus, 0, "big.a", expected, data, LIMIT + 1, T), ROOM_E_TOO_BIG);
    cr_assert_eq(bus_kv_put(d->bus, 0, "big", "room.4.7.0", BUS_ANY_REVISION, data, LIMIT + 1, T), ROOM_E_TOO_BIG);
}
