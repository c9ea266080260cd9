/*
 * Drives a store of either kind in a test: waits for results, keeps what was found.
 *
 * Decides how a test waits (for its token, with a deadline) and how it makes a disk full or a snapshot damaged, so that one
 * test text serves both stores. Knows nothing of what is tested.
 */
#ifndef SUPPORT_STORE_DRIVER_H
#define SUPPORT_STORE_DRIVER_H

#include "base/alloc.h"
#include "base/id.h"
#include "store/store_lmdb.h"
#include "store/store_mem.h"

enum sd_kind { SD_LMDB, SD_MEM };
enum { SD_TOKENS = 70000, SD_ROOMS = 4096, SD_WAIT_MS = 20000 };

struct sd_done {
    int count;
    enum store_result result;
    struct store_mark mark;
    size_t rooms;
    char detail[320];
};

struct sd_room {
    struct id id;
    struct store_mark mark;
    size_t len;
    struct wall saved;
};

struct sd {
    enum sd_kind kind;
    struct store *store; /* NULL: not open */
    char dir[300];       /* of the store, in a temporary directory */
    char temp[256];
    struct store_lmdb_config lmdb; /* for the next sd_open() */
    struct store_mem_config mem;
    struct alloc_budget budget;
    struct store_disk *disk;
    struct mono now;
    int wake_fd;
    struct sd_done *done; /* SD_TOKENS of them */
    uint64_t next_token;
    size_t results;
    /* What the last load and list found. */
    size_t snapshots;
    struct store_snapshot found; /* its strings and data lead to the next three */
    struct id found_room, found_type;
    char *found_data;
    struct sd_room *rooms; /* SD_ROOMS of them */
    size_t room_count;
    size_t damaged, file_damaged, troubles, wells;
    struct id damaged_room;
    enum store_result trouble;
    char detail[320]; /* of the last damage or trouble */
};

/* A driver with a temporary directory and nothing open. */
void sd_init(struct sd *d, enum sd_kind kind);
void sd_deinit(struct sd *d);
/* 0 or the code of a create that failed; `detail` may be NULL. */
int sd_open(struct sd *d, struct err_detail *detail);
/* An orderly end: closes, drains, destroys. */
void sd_shut(struct sd *d);
void sd_reopen(struct sd *d);

/* Drains for a moment, or what is there (`wait_ms` 0). */
void sd_turn(struct sd *d, int wait_ms);
/* Until the token has its result; false after SD_WAIT_MS. */
bool sd_wait(struct sd *d, uint64_t token);
/* Until nothing is open. */
bool sd_settle(struct sd *d);

/* Calls that must be accepted; each returns its token. */
uint64_t sd_save(struct sd *d, const char *room, struct store_mark mark, const void *data, size_t len);
uint64_t sd_load(struct sd *d, enum store_which which, const char *room);
uint64_t sd_list(struct sd *d, enum store_which which, const char *after, size_t max);
uint64_t sd_sent(struct sd *d, const char *room, uint64_t epoch, uint64_t version);
uint64_t sd_forget(struct sd *d, const char *room);

/* The same with the wait; returns the result. */
enum store_result sd_saved(struct sd *d, const char *room, struct store_mark mark, const char *text);
enum store_result sd_loaded(struct sd *d, enum store_which which, const char *room);
/* The data a load finds, as text: borrowed until the next load. "(none)" or "(damaged)" if there is none or none whole. */
const char *sd_text(struct sd *d, enum store_which which, const char *room);

/* The next write that needs space fails, or works again. */
void sd_full(struct sd *d, bool full);
/* The snapshot that is `back` from the room's newest and holds `text` is damaged. Reopens. */
void sd_damage(struct sd *d, const char *room, size_t back, const char *text);

/* The whole data file; owned. */
char *sd_read_file(const struct sd *d, size_t *size);
void sd_write_file(const struct sd *d, const char *bytes, size_t size);
/* Files in the directory with this text in their name. */
size_t sd_count_files(const struct sd *d, const char *part);

#endif
