/*
 * Kills a process in the middle of its commits, again and again, and looks whether all it was told is there.
 *
 * A plain program (Criterion cannot run under the thread sanitizer). The child says on a pipe what it is about to do and
 * what it was told is done; the parent keeps that as a ledger, kills the child after a random number of words, opens the
 * store itself and compares. Invariant: of each room the store holds either what was last told done, or what was asked for
 * after it; nothing else, nothing half.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/rng.h"
#include "support/proc.h"
#include "support/store_driver.h"

enum { ROOMS = 40, ROUNDS = 120, BUDGET_MS = 5000, BYTES_MAX = 30000 };

enum word_kind { WORD_ASK_SAVE, WORD_ASK_SENT, WORD_ASK_FORGET, WORD_DONE };

/* What goes through the pipe: less than PIPE_BUF, so whole or not at all. */
struct word {
    uint32_t room;
    uint32_t kind;
    uint64_t version;
};

struct state {
    bool held, waits;
    uint64_t version;
};

struct line { /* of the ledger */
    struct state sure, maybe;
    bool open; /* asked for, not told */
};

static size_t state_len(uint32_t room, uint64_t version)
{
    return (room * 7919 + version * 104729) % BYTES_MAX;
}

static void state_fill(char *out, uint32_t room, uint64_t version)
{
    struct rng rng;
    rng_init(&rng, version * ROOMS + room);
    for (size_t i = 0; i < state_len(room, version); i++)
        out[i] = (char)(i % 512 ? out[i - 1] + 1 : (int)rng_next(&rng));
}

static struct store_mark mark(uint64_t version)
{
    return (struct store_mark){1, version / 3, version};
}

static void fail(const char *what, uint32_t room, const struct line *l)
{
    fprintf(stderr, "store_kill: room-%u: %s (sure: held %d waits %d version %lu; maybe: %d %d %lu; open %d)\n", room, what,
            l->sure.held, l->sure.waits, (unsigned long)l->sure.version, l->maybe.held, l->maybe.waits,
            (unsigned long)l->maybe.version, l->open);
    exit(1);
}

/* ---- The child ---- */

static void say(uint32_t room, enum word_kind kind, uint64_t version)
{
    struct word w = {room, kind, version};
    if (write(1, &w, sizeof w) != sizeof w)
        _exit(3);
}

/* One call on a room that has none open. */
static uint64_t ask(struct sd *d, struct rng *rng, uint32_t room, uint64_t *version)
{
    char name[16], data[BYTES_MAX];
    snprintf(name, sizeof name, "room-%u", room);
    uint64_t dice = rng_below(rng, 20);
    if (dice == 0) {
        say(room, WORD_ASK_FORGET, 0);
        return sd_forget(d, name);
    }
    if (dice < 6 && *version) {
        say(room, WORD_ASK_SENT, *version);
        return sd_sent(d, name, 1, *version);
    }
    ++*version;
    state_fill(data, room, *version);
    say(room, WORD_ASK_SAVE, *version);
    return sd_save(d, name, mark(*version), data, state_len(room, *version));
}

static int child(const char *dir, uint64_t seed, uint64_t first_version)
{
    struct sd d;
    struct rng rng;
    uint64_t tokens[ROOMS] = {0}, versions[ROOMS];
    struct err_detail detail = {""};
    sd_init(&d, SD_LMDB);
    snprintf(d.dir, sizeof d.dir, "%s", dir);
    temp_dir_remove(d.temp);
    rng_init(&rng, seed);
    for (uint32_t i = 0; i < ROOMS; i++)
        versions[i] = first_version;
    if (sd_open(&d, &detail) != 0) {
        fprintf(stderr, "store_kill: %s\n", detail.text);
        return 1;
    }
    for (;;) {
        for (uint32_t i = 0; i < ROOMS; i++) {
            struct sd_done *done = &d.done[tokens[i] % SD_TOKENS];
            if (tokens[i] && done->count && done->result == STORE_OK)
                say(i, WORD_DONE, 0);
            if ((!tokens[i] || done->count) && rng_below(&rng, 3) == 0)
                tokens[i] = ask(&d, &rng, i, &versions[i]);
            else if (tokens[i] && done->count)
                tokens[i] = 0;
        }
        sd_turn(&d, 1);
    }
}

/* ---- The parent ---- */

static void note(struct line *l, const struct word *w)
{
    if (w->kind == WORD_DONE) {
        l->sure = l->maybe;
        l->open = false;
        return;
    }
    l->open = true;
    l->maybe = l->sure;
    if (w->kind == WORD_ASK_SAVE)
        l->maybe = (struct state){true, true, w->version};
    else if (w->kind == WORD_ASK_FORGET)
        l->maybe = (struct state){false, false, 0};
    else
        l->maybe.waits = false;
}

static pid_t spawn(char *program, const char *dir, uint64_t seed, uint64_t first_version, int *out)
{
    char seed_text[32], version_text[32];
    int fds[2];
    snprintf(seed_text, sizeof seed_text, "%lu", (unsigned long)seed);
    snprintf(version_text, sizeof version_text, "%lu", (unsigned long)first_version);
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -1;
    int saved = dup(1);
    dup2(fds[1], 1);
    pid_t pid = proc_spawn((char *[]){program, (char *)(uintptr_t)dir, seed_text, version_text, NULL}, NULL);
    dup2(saved, 1);
    close(saved);
    close(fds[1]);
    *out = fds[0];
    return pid;
}

/* Reads `words` words, kills, reads what is left in the pipe. Returns how many there were. */
static size_t listen_and_kill(pid_t pid, int fd, size_t words, struct line *ledger, uint64_t *version)
{
    struct word w;
    size_t n = 0;
    for (ssize_t got; (got = read(fd, &w, sizeof w)) != 0; n++) {
        ASSERT(got == sizeof w && w.room < ROOMS);
        note(&ledger[w.room], &w);
        if (w.version > *version)
            *version = w.version;
        if (n == words)
            kill(pid, SIGKILL);
    }
    int status = proc_wait(pid, 10000);
    close(fd);
    if (status != 128 + SIGKILL) {
        fprintf(stderr, "store_kill: the child ended by itself: %d\n", status);
        exit(1);
    }
    return n;
}

static bool is(struct sd *d, const char *name, uint32_t room, const struct state *s)
{
    char expect[BYTES_MAX];
    enum store_result result = sd_loaded(d, STORE_HELD, name);
    if (!s->held)
        return result == STORE_NOT_FOUND && sd_loaded(d, STORE_WAITING, name) == STORE_NOT_FOUND;
    state_fill(expect, room, s->version);
    return result == STORE_OK && d->found.mark.version == s->version && d->found.len == state_len(room, s->version) &&
           memcmp(d->found_data, expect, d->found.len) == 0 &&
           (sd_loaded(d, STORE_WAITING, name) == STORE_OK) == s->waits;
}

/* Compares; afterwards the ledger is what is there. */
static void compare(struct sd *d, struct line *ledger)
{
    struct err_detail detail = {""};
    char name[16];
    if (sd_open(d, &detail) != 0) {
        fprintf(stderr, "store_kill: %s\n", detail.text);
        exit(1);
    }
    sd_turn(d, 0);
    for (uint32_t i = 0; i < ROOMS; i++) {
        struct line *l = &ledger[i];
        snprintf(name, sizeof name, "room-%u", i);
        if (l->open && is(d, name, i, &l->maybe))
            l->sure = l->maybe;
        else if (!is(d, name, i, &l->sure))
            fail("what is there was never said", i, l);
        l->open = false;
    }
    if (d->damaged || d->file_damaged)
        fail(d->detail, 0, &ledger[0]);
    sd_shut(d);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return child(argv[1], strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    struct sd d;
    struct line ledger[ROOMS] = {0};
    struct rng rng;
    uint64_t version = 0, words = 0, round = 0;
    struct mono start = time_mono_now();
    rng_init(&rng, (uint64_t)start.us);
    sd_init(&d, SD_LMDB);
    for (; round < ROUNDS && (round < 5 || mono_diff_ms(start, time_mono_now()) < BUDGET_MS); round++) {
        int fd;
        pid_t pid = spawn(argv[0], d.dir, rng_next(&rng), version, &fd);
        if (pid < 0)
            return 1;
        words += listen_and_kill(pid, fd, 30 + rng_below(&rng, 1500), ledger, &version);
        compare(&d, ledger);
    }
    printf("store: %lu kills in the middle of commits, %lu calls and results in the ledger, nothing lost, nothing half\n",
           (unsigned long)round, (unsigned long)words);
    sd_deinit(&d);
    return 0;
}
