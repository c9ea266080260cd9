/*
 * What only the store on disk can show: files, growth, limits, two processes, a full disk.
 *
 * Decides nothing that both stores share (store_contract.c); what damaged bytes do is in store_damage.c.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/proc.h"
#include "support/store_driver.h"

static struct sd d;

static void setup(void)
{
    sd_init(&d, SD_LMDB);
    cr_assert_eq(sd_open(&d, NULL), 0);
}

static void teardown(void)
{
    sd_deinit(&d);
}

TestSuite(lmdb, .init = setup, .fini = teardown, .timeout = 120);

static struct store_mark mark(uint64_t version)
{
    return (struct store_mark){1, version, version};
}

static struct store_stats stats(void)
{
    struct store_stats s;
    store_stats(d.store, &s);
    return s;
}

static void save_many(size_t count, size_t bytes)
{
    char name[16], *data = malloc(bytes);
    cr_assert(data);
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "r%zu", i);
        memset(data, 'a' + (int)(i % 26), bytes);
        sd_save(&d, name, mark(1), data, bytes);
    }
    free(data);
}

Test(lmdb, one_commit_serves_all_that_waits)
{
    save_many(3000, 1000);
    cr_assert(sd_settle(&d));
    struct store_stats s = stats();
    cr_assert_eq(s.saves, 3000);
    cr_assert_leq(s.commits, 30, "%lu commits", (unsigned long)s.commits);
    cr_assert_eq(s.rooms, 3000);
    cr_assert_eq(s.outbox_bytes, 3000 * 1000);
    cr_assert_gt(s.commit_us_max, 0);
    cr_assert_geq(s.commit_us, s.commit_us_max);
}

Test(lmdb, a_load_does_not_wait_for_the_queue)
{
    cr_assert_eq(sd_saved(&d, "first", mark(1), "here"), STORE_OK);
    save_many(300, 300000);
    uint64_t commits = stats().commits;
    uint64_t load = sd_load(&d, STORE_HELD, "first");
    cr_assert(sd_wait(&d, load));
    cr_assert_eq(d.done[load].result, STORE_OK);
    /* The one under way, and those that end before this process gets to look. */
    cr_assert_leq(stats().commits, commits + 3);
    cr_assert_gt(stats().queue, 0, "most saves still wait");
    cr_assert(sd_settle(&d));
}

static bool committed_twice(void *arg)
{
    return stats().commits == 2;
}

Test(lmdb, what_loads_find_is_bounded_until_it_is_drained)
{
    static char data[100000];
    sd_shut(&d);
    d.lmdb.max_queue_bytes = 300000;
    sd_reopen(&d);
    cr_assert(sd_wait(&d, sd_save(&d, "r", mark(1), data, sizeof data)));
    for (int i = 0; i < 20; i++)
        sd_load(&d, STORE_HELD, "r");
    /* Loads go first, so when this is written those that were due are served. */
    sd_save(&d, "s", mark(1), "s", 1);
    cr_assert(wait_until(committed_twice, NULL, SD_WAIT_MS));
    cr_assert_geq(stats().queue, 16, "%zu", stats().queue);
    cr_assert(sd_settle(&d));
    cr_assert_eq(d.results, 22);
    cr_assert_eq(d.snapshots, 20);
}

Test(lmdb, the_map_grows)
{
    sd_shut(&d);
    d.lmdb.map_bytes = 1 << 20;
    sd_reopen(&d);
    cr_assert_eq(stats().map_bytes, 1 << 20);
    save_many(100, 1 << 20);
    cr_assert(sd_settle(&d));
    cr_assert_gt(stats().map_bytes, 64 << 20);
    cr_assert_gt(stats().used_bytes, 100 << 20);
    cr_assert_leq(stats().used_bytes, stats().map_bytes);
    cr_assert_eq(d.troubles, 0);
    sd_reopen(&d);
    cr_assert_eq(stats().rooms, 100);
    cr_assert_eq(sd_loaded(&d, STORE_HELD, "r99"), STORE_OK);
    cr_assert_eq(d.found.len, 1 << 20);
    cr_assert_eq(d.found_data[(1 << 20) - 1], 'a' + 99 % 26);
}

Test(lmdb, space_is_used_again)
{
    char *data = calloc(1, 100000);
    for (uint64_t v = 1; v <= 400; v++) {
        uint64_t token = sd_save(&d, "r", mark(v), data, 100000);
        cr_assert(sd_wait(&d, token));
    }
    free(data);
    cr_assert_leq(stats().used_bytes, 4 << 20, "%zu bytes for two of 100 KB", stats().used_bytes);
}

Test(lmdb, one_that_does_not_fit_does_not_hold_up_the_others)
{
    char *data = calloc(1, 3 << 20);
    sd_shut(&d);
    d.lmdb.map_bytes = 1 << 20;
    d.lmdb.max_map_bytes = 2 << 20;
    sd_reopen(&d);
    save_many(50, 1000);
    uint64_t big = sd_save(&d, "big", mark(1), data, 3 << 20);
    save_many(60, 1000);
    for (uint64_t t = big + 1; t <= d.next_token; t++)
        cr_assert(sd_wait(&d, t));
    for (uint64_t t = big + 51; t <= d.next_token; t++)
        cr_assert_eq(d.done[t].result, STORE_OK);
    cr_assert_eq(d.done[big].count, 0, "the big one waits");
    cr_assert_eq(d.troubles, 1);
    cr_assert(strstr(d.detail, "at its limit of 2 MiB"), "%s", d.detail);
    cr_assert_eq(d.wells, 0);
    cr_assert(sd_wait(&d, sd_forget(&d, "big")));
    cr_assert_eq(d.done[big].result, STORE_SUPERSEDED);
    sd_turn(&d, 100);
    cr_assert_eq(d.wells, 1);
    free(data);
}

Test(lmdb, its_files_are_private)
{
    struct stat st;
    char path[340];
    cr_assert_eq(stat(d.dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/data.mdb", d.dir);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    sd_shut(&d);
    cr_assert_eq(chmod(d.dir, 0755), 0);
    sd_reopen(&d);
    cr_assert_eq(stat(d.dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700);
}

Test(lmdb, a_directory_that_cannot_be_made_is_named)
{
    struct err_detail detail = {""};
    sd_shut(&d);
    snprintf(d.dir, sizeof d.dir, "/proc/no/store");
    cr_assert_eq(sd_open(&d, &detail), ROOM_E_IO);
    cr_assert(strstr(detail.text, "cannot make directory '/proc/no'"), "%s", detail.text);
    d.dir[0] = 0;
    cr_assert_eq(sd_open(&d, &detail), ROOM_E_INVALID);
}

/* Exits 0 if the store is refused because `owner` has it. */
static int open_as_another(pid_t owner)
{
    struct store_lmdb_config config = {.dir = d.dir};
    struct err_detail detail = {""};
    struct store *s;
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld:", (long)owner);
    int err = store_lmdb_create(&config, &s, &detail);
    return err == ROOM_E_CONFLICT && strstr(detail.text, pid) && strstr(detail.text, d.dir) ? 0 : 1;
}

Test(lmdb, a_second_process_is_refused_by_name)
{
    int status = -1;
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(open_as_another(self));
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    cr_assert_eq(open_as_another(self), 0, "nor twice in one process");
    cr_assert_eq(sd_saved(&d, "r", mark(1), "still mine"), STORE_OK);
    sd_reopen(&d);
}

/* ---- A disk of 3 MB ---- */

static bool mount_small(void)
{
    if (mkdir(d.temp, 0700) != 0 || unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount("none", d.temp, "tmpfs", 0, "size=3m") == 0;
}

Test(lmdb, a_really_full_disk)
{
    char ballast[300], *data = calloc(1, 100000);
    sd_shut(&d);
    temp_dir_remove(d.temp);
    if (!mount_small())
        cr_skip_test("no private mount here; a_full_disk_is_said_once_and_ends_by_itself shows it by a limit");
    sd_reopen(&d);
    cr_assert_eq(sd_saved(&d, "r", mark(1), "from before"), STORE_OK);
    snprintf(ballast, sizeof ballast, "%s/ballast", d.temp);
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    while (write(fd, data, 100000) > 0)
        ;
    close(fd);
    save_many(10, 100000);
    while (d.troubles == 0)
        sd_turn(&d, 100);
    cr_assert_eq(d.trouble, STORE_NO_SPACE);
    cr_assert(strstr(d.detail, "no space for '") && strstr(d.detail, "make room on that file system"), "%s", d.detail);
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "r"), "from before");
    cr_assert_eq(remove(ballast), 0);
    cr_assert(sd_settle(&d));
    cr_assert_eq(d.troubles, 1);
    cr_assert_eq(d.wells, 1);
    sd_reopen(&d);
    cr_assert_eq(stats().rooms, 11);
    free(data);
    sd_shut(&d);
    umount2(d.temp, MNT_DETACH);
}
