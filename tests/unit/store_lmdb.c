/*
 * What only the store on disk can show: files, growth, limits, two processes, damage to the file itself.
 *
 * Decides nothing that both stores share (store_contract.c). Invariant: a file that was there is never lost, and no bytes in
 * it bring the process down.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <fcntl.h>
#include <lmdb.h>
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

#include "base/rng.h"
#include "store/lmdb_check.h"
#include "store/record.h"
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

/* ---- Damage ---- */

/* Thousands of openings: where the machine has a file system in memory, there. */
static void setup_fast(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    setup();
}

TestSuite(damage, .init = setup_fast, .fini = teardown, .timeout = 120);

static const char *held(const char *room)
{
    enum store_result result = sd_loaded(&d, STORE_HELD, room);
    return result == STORE_OK ? d.found_data : result == STORE_NOT_FOUND ? "(none)" : "(damaged)";
}

/* A file with everything in it that such a file has: both trees of two levels, large and small values, free pages. */
static char *rich_file(size_t *size)
{
    char name[16], *data = calloc(1, 20000);
    for (uint64_t round = 1; round <= 6; round++) {
        for (int i = 0; i < 60; i++) {
            snprintf(name, sizeof name, "room-%02d", i);
            snprintf(data, 20000, "%s at %lu", name, (unsigned long)round);
            sd_save(&d, name, mark(round), data, i % 10 == 0 ? 9000 : 200);
            if (i % 7 == 0)
                sd_turn(&d, 1);
        }
        cr_assert(sd_settle(&d));
    }
    for (int i = 0; i < 60; i += 2) {
        snprintf(name, sizeof name, "room-%02d", i);
        cr_assert(sd_wait(&d, sd_sent(&d, name, 1, 6)));
    }
    free(data);
    sd_shut(&d);
    return sd_read_file(&d, size);
}

/* Opens what is there. Every state that is found is one that was saved, and not an older one than the last but one - or
 * nothing, if the file as a whole was set aside. Returns how many rooms have their newest. */
static size_t check_rooms(void)
{
    struct err_detail detail = {""};
    char name[16], expect[32];
    size_t newest = 0;
    d.file_damaged = 0;
    int err = sd_open(&d, &detail);
    cr_assert_eq(err, 0, "%s", detail.text);
    sd_turn(&d, 0);
    for (int i = 0; i < 60; i += 3) {
        snprintf(name, sizeof name, "room-%02d", i);
        enum store_result result = sd_loaded(&d, STORE_HELD, name);
        if (result != STORE_OK) {
            cr_assert(d.file_damaged || result == STORE_DAMAGED, "%s: %d", name, result);
            continue;
        }
        uint64_t version = d.found.mark.version;
        cr_assert(version == 6 || version == 5);
        newest += version == 6;
        snprintf(expect, sizeof expect, "%s at %lu", name, (unsigned long)version);
        cr_assert_str_eq(d.found_data, expect);
    }
    cr_assert_eq(sd_saved(&d, "new", mark(1), "it works"), STORE_OK);
    sd_shut(&d);
    return newest;
}

static void empty_dir(void)
{
    char path[600];
    DIR *dir = opendir(d.dir);
    for (struct dirent *e; (e = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", d.dir, e->d_name);
        if (strncmp(e->d_name, "data.mdb", 8) == 0)
            cr_assert_eq(unlink(path), 0);
    }
    closedir(dir);
}

Test(damage, a_flipped_bit_anywhere_costs_at_most_what_it_hit)
{
    size_t size, aside = 0, untouched = 0, tried = 0;
    struct rng rng;
    char *file = rich_file(&size);
    rng_init(&rng, 7);
    cr_assert_eq(check_rooms(), 20);
    for (size_t at = 0; at + 4096 < size; at += 1 + rng_below(&rng, size / 300), tried++) {
        /* Meta pages and page headers matter most; some get 40 flipped bits within a page. */
        size_t where = tried % 4 == 0 ? tried % 300 : tried % 4 == 1 ? at / 4096 * 4096 + rng_below(&rng, 64) : at;
        char whole[4096];
        memcpy(whole, file + where, sizeof whole);
        file[where] ^= (char)(1 << rng_below(&rng, 8));
        for (int i = 0; tried % 5 == 0 && i < 40; i++)
            file[where + rng_below(&rng, sizeof whole)] ^= (char)(1 << rng_below(&rng, 8));
        sd_write_file(&d, file, size);
        memcpy(file + where, whole, sizeof whole);
        untouched += check_rooms() == 20;
        aside += d.file_damaged > 0;
        cr_assert_eq(sd_count_files(&d, ".damaged-") > 0, sd_count_files(&d, "data.mdb") == 2);
        empty_dir();
    }
    printf("store: %zu times bits flipped in %zu KB: %zu files set aside, %zu changed nothing that is read\n", tried,
           size >> 10, aside, untouched);
    cr_assert_gt(aside, 20);
    cr_assert_gt(untouched, 20);
    free(file);
}

Test(damage, a_cut_file_is_set_aside_by_name)
{
    size_t size;
    char *file = rich_file(&size), path[340];
    struct err_detail detail;
    for (size_t cut = 1; cut < size; cut += cut < 9000 ? 997 : size / 40) {
        sd_write_file(&d, file, cut);
        check_rooms();
        if (d.file_damaged)
            cr_assert(strstr(d.detail, "data.mdb' is damaged: ") && strstr(d.detail, "data.mdb.damaged-2"), "%s", d.detail);
        else
            cr_assert_gt(cut, size / 2, "only free pages at the end may be cut off");
        if (cut < size / 2)
            cr_assert_eq(sd_count_files(&d, ".damaged-"), 1, "kept, not deleted");
        empty_dir();
    }
    sd_write_file(&d, file, 0);
    check_rooms();
    snprintf(path, sizeof path, "%s/data.mdb", d.dir);
    cr_assert_eq(lmdb_check(path, &detail), LMDB_CHECK_WHOLE);
    free(file);
}

Test(damage, a_file_of_something_else_is_set_aside)
{
    sd_shut(&d);
    char *junk = malloc(50000);
    memset(junk, 'x', 50000);
    sd_write_file(&d, junk, 50000);
    free(junk);
    d.file_damaged = 0;
    cr_assert_eq(sd_open(&d, NULL), 0);
    sd_turn(&d, 0);
    cr_assert_eq(d.file_damaged, 1);
    cr_assert_eq(sd_count_files(&d, ".damaged-"), 1);
    cr_assert_eq(sd_saved(&d, "r", mark(1), "new"), STORE_OK);
    sd_reopen(&d);
    cr_assert_str_eq(held("r"), "new");
    cr_assert_eq(d.file_damaged, 1);
}

/* Puts one entry where no store would, with LMDB itself. */
static void put_raw(const void *key, size_t key_len, const void *value, size_t len)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_open(env, d.dir, MDB_NOLOCK, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v = {len, (void *)(uintptr_t)value};
    cr_assert_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

Test(damage, a_newer_layout_is_refused_and_left_alone)
{
    struct err_detail detail = {""};
    uint8_t layout[RECORD_LAYOUT_SIZE];
    sd_saved(&d, "r", mark(1), "precious");
    sd_shut(&d);
    record_layout_write(layout, RECORD_LAYOUT + 1);
    put_raw("L", 1, layout, sizeof layout);
    cr_assert_eq(sd_open(&d, &detail), ROOM_E_UNSUPPORTED);
    cr_assert(strstr(detail.text, "has layout 2 and this roomd knows 1"), "%s", detail.text);
    cr_assert_eq(sd_count_files(&d, ".damaged-"), 0);
    record_layout_write(layout, RECORD_LAYOUT);
    put_raw("L", 1, layout, sizeof layout);
    cr_assert_eq(sd_open(&d, &detail), 0);
    cr_assert_str_eq(held("r"), "precious");
}

Test(damage, a_damaged_outbox_is_filled_again)
{
    struct record_key key;
    sd_saved(&d, "a", mark(1), "a1");
    sd_saved(&d, "a", mark(2), "a2");
    sd_saved(&d, "b", mark(1), "b1");
    cr_assert(sd_wait(&d, sd_sent(&d, "a", 1, 2)));
    cr_assert(sd_wait(&d, sd_sent(&d, "b", 1, 1)));
    sd_shut(&d);
    record_key(&key, RECORD_OUTBOX, "b", &(struct store_mark){1, 1, 1});
    put_raw(key.bytes, key.len, "0123456789abcdef", 16);
    sd_reopen(&d);
    cr_assert(strstr(d.detail, "outbox was damaged"), "%s", d.detail);
    cr_assert(sd_wait(&d, sd_list(&d, STORE_WAITING, NULL, 10)));
    cr_assert_eq(d.room_count, 2);
    cr_assert_eq(d.rooms[0].mark.version, 2);
    cr_assert_eq(stats().outbox, 2);
    cr_assert_eq(stats().outbox_bytes, 4);
    d.file_damaged = 0;
    sd_reopen(&d);
    cr_assert_eq(d.file_damaged, 0, "that was repaired");
    cr_assert_eq(stats().outbox, 2);
}

Test(damage, a_record_under_another_key_is_damaged)
{
    uint8_t value[RECORD_HEADER + 10];
    struct record_key key;
    struct store_snapshot s = {.room = "a", .type = "t", .mark = mark(1), .data = "abc", .len = 3};
    sd_shut(&d);
    record_write(value, &s);
    record_key(&key, RECORD_SNAPSHOT, "b", &s.mark);
    put_raw(key.bytes, key.len, value, record_size(&s));
    sd_reopen(&d);
    cr_assert_str_eq(held("b"), "(damaged)");
    cr_assert(strstr(d.detail, "another snapshot than its key says"), "%s", d.detail);
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
    cr_assert_str_eq(held("r"), "from before");
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
