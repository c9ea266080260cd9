/*
 * What damaged bytes do to the store on disk: flipped bits, cut files, files of something else.
 *
 * Knows the layout of LMDB's pages, to spoil each of their parts. Invariant: a file that was there is never lost, no bytes in
 * it bring the process down, and no state is handed out that was never saved.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "store/lmdb_check.h"
#include "store/record.h"
#include "support/store_driver.h"

static struct sd d;

/* Thousands of openings: where the machine has a file system in memory, there. */
static void setup_fast(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    sd_init(&d, SD_LMDB);
    cr_assert_eq(sd_open(&d, NULL), 0);
}

static void teardown(void)
{
    sd_deinit(&d);
}

TestSuite(damage, .init = setup_fast, .fini = teardown, .timeout = 120);

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

/* The parts of a file, as LMDB lays them out. */
struct parts {
    char *meta, *old_meta;     /* behind their page headers */
    char *branch, *leaf;       /* of the main tree: its root, and the first page below */
    char *overflow;            /* the first large value */
    char *free_leaf;           /* of the free list */
};

static uint64_t number(const char *at, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, at, bytes);
    return v;
}

static void set(char *at, uint64_t v, size_t bytes)
{
    memcpy(at, &v, bytes);
}

static char *node(char *page, size_t i)
{
    return page + number(page + 16 + 2 * i, 2);
}

static struct parts metas_of(char *file)
{
    struct parts p = {.meta = file + 16, .old_meta = file + 4096 + 16};
    if (number(p.old_meta + 128, 8) > number(p.meta + 128, 8)) {
        p.meta = file + 4096 + 16;
        p.old_meta = file + 16;
    }
    return p;
}

static struct parts parts_of(char *file, size_t size)
{
    struct parts p = metas_of(file);
    cr_assert_eq(number(p.meta + 24 + 48 + 6, 2), 2, "two levels");
    p.branch = file + 4096 * number(p.meta + 24 + 48 + 40, 8);
    p.leaf = file + 4096 * number(node(p.branch, 0), 4);
    p.free_leaf = file + 4096 * number(p.meta + 24 + 40, 8);
    cr_assert_eq(number(p.free_leaf + 10, 2), 2, "a leaf");
    for (char *at = file + 8192; at < file + size && !p.overflow; at += 4096)
        p.overflow = number(at + 10, 2) == 4 && number(at, 8) == (uint64_t)(at - file) / 4096 ? at : NULL;
    cr_assert(p.overflow);
    return p;
}

static void bad_magic(struct parts *p)
{
    set(p->old_meta, 1, 4);
}

static void bad_version(struct parts *p)
{
    set(p->meta + 4, 999, 4);
}

static void bad_page_size(struct parts *p)
{
    set(p->meta + 24, 1000, 4);
}

static void old_is_newer(struct parts *p)
{
    set(p->old_meta + 128, number(p->meta + 128, 8) + 1, 8);
}

static void far_newer(struct parts *p)
{
    set(p->old_meta + 128, number(p->meta + 128, 8) + 63, 8);
}

static void wrong_page(struct parts *p)
{
    set(p->meta + 128, number(p->meta + 128, 8) + 1, 8);
    set(p->old_meta + 128, number(p->old_meta + 128, 8) + 1, 8);
}

static void last_page(struct parts *p)
{
    set(p->meta + 120, 1u << 30, 8);
}

static void fewer_pages(struct parts *p)
{
    set(p->meta + 120, 10, 8);
}

static void depth(struct parts *p)
{
    set(p->meta + 24 + 48 + 6, 3, 2);
}

static void too_deep(struct parts *p)
{
    set(p->meta + 24 + 48 + 6, 31, 2);
}

static void flags(struct parts *p)
{
    set(p->meta + 24 + 48 + 4, 4, 2);
}

static void entries(struct parts *p)
{
    set(p->meta + 24 + 48 + 32, 1, 8);
}

static void overflows(struct parts *p)
{
    set(p->meta + 24 + 48 + 24, 1, 8);
}

static void root(struct parts *p)
{
    set(p->meta + 24 + 48 + 40, 1, 8);
}

static void page_number(struct parts *p)
{
    set(p->leaf, 3, 8);
}

static void page_kind(struct parts *p)
{
    set(p->leaf + 10, 4, 2);
}

static void lower(struct parts *p)
{
    set(p->leaf + 12, 4096, 2);
}

static void upper(struct parts *p)
{
    set(p->leaf + 14, 5000, 2);
}

static void pointer(struct parts *p)
{
    set(p->leaf + 16, 4094, 2);
}

static void key_size(struct parts *p)
{
    set(node(p->leaf, 0) + 6, 5000, 2);
}

static void data_size(struct parts *p)
{
    set(node(p->leaf, 0), 2, 2);
}

static void node_flags(struct parts *p)
{
    set(node(p->leaf, 1) + 4, 2, 2);
}

static void order(struct parts *p)
{
    uint64_t first = number(p->leaf + 16, 2);
    set(p->leaf + 16, number(p->leaf + 18, 2), 2);
    set(p->leaf + 18, first, 2);
}
static void separator(struct parts *p)
{
    memset(node(p->branch, 1) + 8, 'A', 1);
}

static void twice(struct parts *p)
{
    set(node(p->branch, 1), number(node(p->branch, 0), 4), 4);
}

static void child(struct parts *p)
{
    set(node(p->branch, 1), 1 << 20, 4);
}

static void overflow_count(struct parts *p)
{
    set(p->overflow + 12, 1, 4);
}

static void overflow_end(struct parts *p)
{
    set(p->overflow + 12, 1 << 20, 4);
}

static void free_live(struct parts *p)
{
    char *n = node(p->free_leaf, 0);
    set(n + 16 + 8, number(p->leaf, 8), 8);
    set(n + 16, 1, 8);
}
static void free_count(struct parts *p)
{
    set(node(p->free_leaf, 0) + 16, 100000, 8);
}

static void free_future(struct parts *p)
{
    set(node(p->free_leaf, 0) + 8, 1u << 30, 8);
}


static const struct {
    void (*spoil)(struct parts *p);
    const char *words;
} spoilers[] = {
    {bad_magic, "is not one of LMDB 0.9"}, {bad_version, "is not one of LMDB 0.9"},
    {bad_page_size, "is not one of LMDB 0.9"}, {far_newer, "bear transactions"},
    {wrong_page, "bear transactions"},
    {last_page, "last page cannot be"}, {fewer_pages, "is outside"}, {depth, "of another kind"}, {too_deep, "has depth 31"},
    {flags, "unknown flags"}, {entries, "not 1 on"}, {overflows, "as it should"}, {root, "is outside"},
    {page_number, "of another kind or number"}, {page_kind, "of another kind or number"}, {lower, "impossible bounds"},
    {upper, "impossible bounds"}, {pointer, "a node outside"}, {key_size, "a node outside"}, {data_size, "nodes in"},
    {node_flags, "a node of an unknown kind"}, {order, "keys out of order"}, {separator, "keys out of order"},
    {twice, "has two users"}, {child, "is outside"}, {overflow_count, "not the start of a large value"},
    {overflow_end, "ends in the large value"}, {free_live, "has two users"}, {free_count, "broken free list"},
    {free_future, "free list from the future"},
};

Test(damage, the_check_says_what_is_wrong)
{
    char path[340];
    size_t size;
    char *file = rich_file(&size), *spoiled = malloc(size);
    struct err_detail why = {""};
    snprintf(path, sizeof path, "%s/data.mdb", d.dir);
    cr_assert_eq(lmdb_check(path, &why), LMDB_CHECK_WHOLE, "%s", why.text);
    for (size_t i = 0; i < sizeof spoilers / sizeof spoilers[0]; i++) {
        memcpy(spoiled, file, size);
        struct parts p = parts_of(spoiled, size);
        spoilers[i].spoil(&p);
        sd_write_file(&d, spoiled, size);
        cr_assert_eq(lmdb_check(path, &why), LMDB_CHECK_DAMAGED, "spoiler %zu (%s)", i, spoilers[i].words);
        cr_assert(strstr(why.text, spoilers[i].words), "spoiler %zu: '%s' for '%s'", i, why.text, spoilers[i].words);
    }
    free(file);
    free(spoiled);
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
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "r"), "new");
    cr_assert_eq(d.file_damaged, 1);
}

/* Puts one entry where no store would, with LMDB itself, and a layout with this number, of the commit it is. */
static void put_raw(const void *key, size_t key_len, const void *value, size_t len, uint32_t number)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    uint8_t layout[RECORD_LAYOUT_SIZE];
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_open(env, d.dir, MDB_NOLOCK, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    record_layout_write(layout, number, mdb_txn_id(txn));
    cr_assert_eq(mdb_put(txn, dbi, &(MDB_val){1, (char[]){'L'}}, &(MDB_val){sizeof layout, layout}, 0), 0);
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v = {len, (void *)(uintptr_t)value};
    if (key)
        cr_assert_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

Test(damage, a_newer_layout_is_refused_and_left_alone)
{
    struct err_detail detail = {""};
    sd_saved(&d, "r", mark(1), "precious");
    sd_shut(&d);
    put_raw(NULL, 0, NULL, 0, RECORD_LAYOUT + 1);
    cr_assert_eq(sd_open(&d, &detail), ROOM_E_UNSUPPORTED);
    cr_assert(strstr(detail.text, "has layout 2 and this roomd knows 1"), "%s", detail.text);
    cr_assert_eq(sd_count_files(&d, ".damaged-"), 0);
    put_raw(NULL, 0, NULL, 0, RECORD_LAYOUT);
    cr_assert_eq(sd_open(&d, &detail), 0);
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "r"), "precious");
    sd_shut(&d);
    put_raw("L", 1, "x", 1, 0);
    cr_assert_eq(sd_open(&d, &detail), 0);
    cr_assert_eq(sd_count_files(&d, ".damaged-"), 1, "no layout at all: not ours, set aside");
}

/* The meta page of commit n - 1, with one bit flipped, can pass for that of n + 1. */
Test(damage, a_commit_that_went_back_is_named)
{
    size_t size;
    sd_saved(&d, "r", mark(1), "one");
    sd_saved(&d, "r", mark(2), "more");
    sd_saved(&d, "r", mark(1000), "the last one");
    sd_shut(&d);
    char *file = sd_read_file(&d, &size);
    struct parts p = metas_of(file);
    old_is_newer(&p);
    sd_write_file(&d, file, size);
    free(file);
    d.file_damaged = 0;
    cr_assert_eq(sd_open(&d, NULL), 0);
    sd_turn(&d, 0);
    cr_assert_eq(d.file_damaged, 1);
    cr_assert(strstr(d.detail, "the last commits are lost"), "%s", d.detail);
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "r"), "more");
    sd_reopen(&d);
    cr_assert_eq(d.file_damaged, 1, "said once");
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
    put_raw(key.bytes, key.len, "0123456789abcdef", 16, RECORD_LAYOUT);
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
    put_raw(key.bytes, key.len, value, record_size(&s), RECORD_LAYOUT);
    sd_reopen(&d);
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "b"), "(damaged)");
    cr_assert(strstr(d.detail, "another snapshot than its key says"), "%s", d.detail);
}

/* LMDB reads the file through a shared map, so that what is written to the file is what it sees. */
static void spoil_root(void)
{
    char path[340];
    size_t size;
    char *file = sd_read_file(&d, &size);
    struct parts p = metas_of(file);
    off_t root = (off_t)(4096 * number(p.meta + 24 + 48 + 40, 8));
    free(file);
    snprintf(path, sizeof path, "%s/data.mdb", d.dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, "\0", 1, root + 10), 1);
    close(fd);
}

Test(damage, a_file_spoiled_under_a_running_node_is_set_aside_too)
{
    sd_saved(&d, "r", mark(1), "one");
    spoil_root();
    d.file_damaged = 0;
    cr_assert_eq(sd_saved(&d, "s", mark(1), "saved in a new file"), STORE_OK);
    cr_assert_eq(d.file_damaged, 1);
    cr_assert(strstr(d.detail, "is of another kind"), "%s", d.detail);
    cr_assert_eq(d.troubles, 0);
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "s"), "saved in a new file");
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "r"), "(none)");
    spoil_root();
    cr_assert_eq(sd_loaded(&d, STORE_HELD, "s"), STORE_IO, "a read says so, the next call puts it right");
    cr_assert_str_eq(sd_text(&d, STORE_HELD, "s"), "(none)");
    cr_assert_eq(d.file_damaged, 2);
    cr_assert_eq(sd_count_files(&d, ".damaged-"), 2);
    cr_assert_eq(stats().rooms, 0);
}
