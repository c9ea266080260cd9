/* See store_driver.h. */
#include "support/store_driver.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/proc.h"

static void signal_wake(void *arg)
{
    struct sd *d = arg;
    uint64_t one = 1;
    ASSERT(write(d->wake_fd, &one, sizeof one) == sizeof one);
}

void sd_init(struct sd *d, enum sd_kind kind)
{
    memset(d, 0, sizeof *d);
    d->kind = kind;
    ASSERT(temp_dir(d->temp));
    snprintf(d->dir, sizeof d->dir, "%s/a/store", d->temp);
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    d->done = calloc(SD_TOKENS, sizeof *d->done);
    d->rooms = calloc(SD_ROOMS, sizeof *d->rooms);
    ASSERT(d->wake_fd >= 0 && d->done && d->rooms);
    d->lmdb.retry_ms = 20;
    alloc_budget_init(&d->budget, &alloc_libc, SIZE_MAX);
    d->mem = (struct store_mem_config){.min_us = 100, .max_us = 5000, .seed = 1, .retry_ms = 20};
    d->now = (struct mono){1000000};
    if (kind == SD_MEM)
        ASSERT((d->disk = store_disk_create(&d->budget.alloc)) != NULL);
}

void sd_deinit(struct sd *d)
{
    sd_shut(d);
    store_disk_destroy(d->disk);
    ASSERT(d->budget.used_bytes == 0);
    close(d->wake_fd);
    free(d->done);
    free(d->rooms);
    free(d->found_data);
    temp_dir_remove(d->temp);
}

int sd_open(struct sd *d, struct err_detail *detail)
{
    if (d->kind == SD_LMDB) {
        d->lmdb.dir = d->dir;
        d->lmdb.wake = signal_wake;
        d->lmdb.wake_arg = d;
        return store_lmdb_create(&d->lmdb, &d->store, detail);
    }
    d->mem.alloc = &d->budget.alloc;
    d->mem.disk = d->disk;
    d->mem.wake = signal_wake;
    d->mem.wake_arg = d;
    d->store = store_mem_create(&d->mem);
    return d->store ? 0 : ROOM_E_NO_MEMORY;
}

static void keep_snapshot(struct sd *d, const struct store_snapshot *s)
{
    d->snapshots++;
    d->found = *s;
    id_set(&d->found_room, s->room);
    id_set(&d->found_type, s->type);
    free(d->found_data);
    d->found_data = malloc(s->len + 1);
    ASSERT(d->found_data);
    if (s->len)
        memcpy(d->found_data, s->data, s->len);
    d->found_data[s->len] = 0;
    d->found.room = d->found_room.s;
    d->found.type = d->found_type.s;
    d->found.data = d->found_data;
}

static void on_done(struct sd *d, const struct store_event *e)
{
    struct sd_done *done = &d->done[e->token % SD_TOKENS];
    done->count++;
    done->result = e->result;
    done->mark = e->snapshot.mark;
    done->rooms = e->count;
    snprintf(done->detail, sizeof done->detail, "%s", e->detail ? e->detail : "");
    d->results++;
}

static void on_event(void *arg, const struct store_event *e)
{
    struct sd *d = arg;
    if (e->kind == STORE_EV_DONE) {
        on_done(d, e);
    } else if (e->kind == STORE_EV_SNAPSHOT) {
        keep_snapshot(d, &e->snapshot);
    } else if (e->kind == STORE_EV_ROOM) {
        ASSERT(d->room_count < SD_ROOMS);
        struct sd_room *r = &d->rooms[d->room_count++];
        ASSERT(id_set(&r->id, e->snapshot.room));
        r->mark = e->snapshot.mark;
        r->len = e->snapshot.len;
        r->saved = e->snapshot.saved;
    } else {
        if (e->kind == STORE_EV_DAMAGED && e->snapshot.room) {
            d->damaged++;
            id_set(&d->damaged_room, e->snapshot.room);
        }
        d->file_damaged += e->kind == STORE_EV_DAMAGED && !e->snapshot.room;
        d->troubles += e->kind == STORE_EV_TROUBLE;
        d->wells += e->kind == STORE_EV_WELL;
        if (e->kind == STORE_EV_TROUBLE)
            d->trouble = e->result;
        if (e->kind != STORE_EV_WELL)
            snprintf(d->detail, sizeof d->detail, "%s", e->detail ? e->detail : "");
    }
}

void sd_turn(struct sd *d, int wait_ms)
{
    uint64_t count;
    if (d->kind == SD_MEM) {
        d->now.us += 1000;
        store_mem_tick(d->store, d->now);
        wait_ms = 0;
    }
    poll(&(struct pollfd){.fd = d->wake_fd, .events = POLLIN}, 1, wait_ms);
    ssize_t woken = read(d->wake_fd, &count, sizeof count);
    if (woken > 0 || wait_ms == 0)
        while (store_drain(d->store, on_event, d, 64) == 64)
            ;
}

bool sd_wait(struct sd *d, uint64_t token)
{
    struct mono deadline = mono_add_ms(time_mono_now(), SD_WAIT_MS);
    while (d->done[token % SD_TOKENS].count == 0) {
        if (mono_reached(time_mono_now(), deadline))
            return false;
        sd_turn(d, 100);
    }
    return true;
}

bool sd_settle(struct sd *d)
{
    struct store_stats stats;
    struct mono deadline = mono_add_ms(time_mono_now(), SD_WAIT_MS);
    for (store_stats(d->store, &stats); stats.queue > 0; store_stats(d->store, &stats)) {
        if (mono_reached(time_mono_now(), deadline))
            return false;
        sd_turn(d, 100);
    }
    sd_turn(d, 0);
    return true;
}

void sd_shut(struct sd *d)
{
    if (!d->store)
        return;
    store_close(d->store);
    ASSERT(sd_settle(d));
    if (d->kind == SD_LMDB)
        store_lmdb_destroy(d->store);
    else
        store_mem_destroy(d->store);
    d->store = NULL;
}

void sd_reopen(struct sd *d)
{
    struct err_detail detail = {""};
    sd_shut(d);
    if (sd_open(d, &detail) != 0) {
        fprintf(stderr, "cannot reopen: %s\n", detail.text);
        abort();
    }
    sd_turn(d, 0);
}

uint64_t sd_save(struct sd *d, const char *room, struct store_mark mark, const void *data, size_t len)
{
    uint64_t token = ++d->next_token;
    struct store_snapshot s = {room, "chess", mark, {(int64_t)mark.version * 1000}, 7, data, len};
    d->done[token % SD_TOKENS] = (struct sd_done){0};
    ASSERT(store_save(d->store, token, &s) == 0);
    return token;
}

uint64_t sd_load(struct sd *d, enum store_which which, const char *room)
{
    uint64_t token = ++d->next_token;
    d->done[token % SD_TOKENS] = (struct sd_done){0};
    d->snapshots = 0;
    ASSERT(store_load(d->store, token, which, room) == 0);
    return token;
}

uint64_t sd_list(struct sd *d, enum store_which which, const char *after, size_t max)
{
    uint64_t token = ++d->next_token;
    d->done[token % SD_TOKENS] = (struct sd_done){0};
    d->room_count = 0;
    ASSERT(store_list(d->store, token, which, after, max) == 0);
    return token;
}

uint64_t sd_sent(struct sd *d, const char *room, uint64_t epoch, uint64_t version)
{
    uint64_t token = ++d->next_token;
    d->done[token % SD_TOKENS] = (struct sd_done){0};
    ASSERT(store_sent(d->store, token, room, epoch, version) == 0);
    return token;
}

uint64_t sd_forget(struct sd *d, const char *room)
{
    uint64_t token = ++d->next_token;
    d->done[token % SD_TOKENS] = (struct sd_done){0};
    ASSERT(store_forget(d->store, token, room) == 0);
    return token;
}

enum store_result sd_saved(struct sd *d, const char *room, struct store_mark mark, const char *text)
{
    uint64_t token = sd_save(d, room, mark, text, strlen(text));
    ASSERT(sd_wait(d, token));
    return d->done[token % SD_TOKENS].result;
}

enum store_result sd_loaded(struct sd *d, enum store_which which, const char *room)
{
    uint64_t token = sd_load(d, which, room);
    ASSERT(sd_wait(d, token));
    return d->done[token % SD_TOKENS].result;
}

const char *sd_text(struct sd *d, enum store_which which, const char *room)
{
    enum store_result result = sd_loaded(d, which, room);
    ASSERT(result == STORE_OK || result == STORE_NOT_FOUND || result == STORE_DAMAGED);
    return result == STORE_OK ? d->found_data : result == STORE_NOT_FOUND ? "(none)" : "(damaged)";
}

static void data_path(const struct sd *d, char out[340])
{
    snprintf(out, 340, "%s/data.mdb", d->dir);
}

void sd_full(struct sd *d, bool full)
{
    char path[340];
    struct stat st;
    struct rlimit limit;
    if (d->kind == SD_MEM) {
        store_disk_full(d->disk, full);
        return;
    }
    data_path(d, path);
    ASSERT(stat(path, &st) == 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = full ? (rlim_t)st.st_size : limit.rlim_max;
    ASSERT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

char *sd_read_file(const struct sd *d, size_t *size)
{
    char path[340];
    struct stat st;
    data_path(d, path);
    FILE *f = fopen(path, "rb");
    ASSERT(f && fstat(fileno(f), &st) == 0);
    char *bytes = malloc((size_t)st.st_size + 1);
    ASSERT(bytes && fread(bytes, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
    fclose(f);
    *size = (size_t)st.st_size;
    return bytes;
}

void sd_write_file(const struct sd *d, const char *bytes, size_t size)
{
    char path[340];
    data_path(d, path);
    FILE *f = fopen(path, "wb");
    ASSERT(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
}

size_t sd_count_files(const struct sd *d, const char *part)
{
    size_t n = 0;
    DIR *dir = opendir(d->dir);
    for (struct dirent *e; dir && (e = readdir(dir));)
        n += strstr(e->d_name, part) != NULL;
    if (dir)
        closedir(dir);
    return n;
}

void sd_damage(struct sd *d, const char *room, size_t back, const char *text)
{
    if (d->kind == SD_MEM) {
        ASSERT(store_disk_damage(d->disk, room, back));
        return;
    }
    size_t size, hits = 0, len = strlen(text);
    sd_shut(d);
    char *bytes = sd_read_file(d, &size);
    for (char *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), text, len)); at += len, hits++)
        at[len / 2] ^= 0x10;
    ASSERT(hits > 0);
    sd_write_file(d, bytes, size);
    free(bytes);
    sd_reopen(d);
}
