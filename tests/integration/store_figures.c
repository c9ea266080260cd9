/*
 * Prints what the store on disk does per second, beside the floor of the same disk: a write and fdatasync of the same bytes.
 *
 * Decides nothing but that commits are shared: the figures depend on the disk. A plain program.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/proc.h"
#include "support/store_driver.h"

enum { ONE_BY_ONE = 200 };

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_times(const char *what, size_t bytes, int64_t *us, size_t n)
{
    qsort(us, n, sizeof *us, by_size);
    printf("%-34s %6zu B: p50 %6ld us, p99 %6ld us, max %6ld us\n", what, bytes, (long)us[n / 2], (long)us[n * 99 / 100],
           (long)us[n - 1]);
}

static void floor_times(struct sd *d, const char *data, size_t bytes)
{
    int64_t us[ONE_BY_ONE];
    char path[340];
    snprintf(path, sizeof path, "%s/floor", d->temp);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    for (size_t i = 0; i < ONE_BY_ONE; i++) {
        struct mono start = time_mono_now();
        ASSERT(pwrite(fd, data, bytes, (off_t)(i % 8 * bytes)) == (ssize_t)bytes && fdatasync(fd) == 0);
        us[i] = time_mono_now().us - start.us;
    }
    close(fd);
    print_times("floor: write and fdatasync", bytes, us, ONE_BY_ONE);
}

static void one_by_one(struct sd *d, const char *data, size_t bytes)
{
    int64_t us[ONE_BY_ONE];
    for (size_t i = 0; i < ONE_BY_ONE; i++) {
        struct mono start = time_mono_now();
        uint64_t token = sd_save(d, "one", (struct store_mark){1, i, i + bytes}, data, bytes);
        ASSERT(sd_wait(d, token) && d->done[token].result == STORE_OK);
        us[i] = time_mono_now().us - start.us;
    }
    print_times("save to result, one at a time", bytes, us, ONE_BY_ONE);
}

/* What a loop that calls nothing is kept from running while the store works: the floor for the longest call. */
static int64_t longest_gap_us(void)
{
    struct mono start = time_mono_now(), last = start, now;
    int64_t longest = 0;
    for (now = start; now.us - start.us < 50000; last = now) {
        now = time_mono_now();
        longest = now.us - last.us > longest ? now.us - last.us : longest;
    }
    return longest;
}

/* All rooms of a node due at once, some times over. */
static bool all_at_once(struct sd *d, const char *data, size_t bytes, size_t rooms, int rounds)
{
    struct store_stats before, after;
    char name[16];
    int64_t longest_us = 0, gap_us = 0; /* what a call keeps the loop */
    store_stats(d->store, &before);
    struct mono start = time_mono_now();
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < rooms; i++) {
            snprintf(name, sizeof name, "room-%zu", i);
            struct mono call = time_mono_now();
            sd_save(d, name, (struct store_mark){1 + bytes, (uint64_t)round, (uint64_t)round}, data, bytes);
            int64_t us = time_mono_now().us - call.us;
            longest_us = us > longest_us ? us : longest_us;
        }
        int64_t us = longest_gap_us();
        gap_us = us > gap_us ? us : gap_us;
        ASSERT(sd_settle(d));
    }
    double s = (double)(time_mono_now().us - start.us) / 1e6;
    store_stats(d->store, &after);
    uint64_t saves = after.saves - before.saves, commits = after.commits - before.commits;
    printf("%-24s %6zu rooms, %6zu B: %8.0f saves/s, %6.1f MB/s, %5.1f saves per commit, %6.0f us per commit, file %zu MiB, "
           "longest call %ld us (of no call: %ld us)\n",
           "all rooms due at once", rooms, bytes, (double)saves / s, (double)(saves * bytes) / s / 1e6,
           (double)saves / (double)commits, (double)(after.commit_us - before.commit_us) / (double)commits,
           after.used_bytes >> 20, (long)longest_us, (long)gap_us);
    return saves == (uint64_t)rounds * rooms && commits * 10 < saves;
}

int main(void)
{
    static char data[65536];
    struct err_detail detail = {""};
    struct sd d;
    bool shared = true;
    sd_init(&d, SD_LMDB);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 131 >> 3);
    if (sd_open(&d, &detail) != 0) {
        fprintf(stderr, "store_figures: %s\n", detail.text);
        return 1;
    }
    size_t sizes[] = {1024, 65536};
    for (int i = 0; i < 2; i++) {
        floor_times(&d, data, sizes[i]);
        one_by_one(&d, data, sizes[i]);
        shared = all_at_once(&d, data, sizes[i], i ? 1000 : 10000, i ? 3 : 5) && shared;
    }
    sd_shut(&d);
    struct mono start = time_mono_now();
    struct store_stats stats;
    sd_reopen(&d);
    store_stats(d.store, &stats);
    printf("opening and checking %zu rooms, %zu MiB: %ld us\n", stats.rooms, stats.used_bytes >> 20,
           (long)(time_mono_now().us - start.us));
    sd_deinit(&d);
    if (!shared)
        fprintf(stderr, "store_figures: commits are not shared\n");
    return shared ? 0 : 1;
}
