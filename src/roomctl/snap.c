/*
 * See snap.h.
 *
 * Weak spot: a snapshot that is replaced while its chunks are read looks damaged; it is read again some times.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "roomctl/snap.h"
#include "roomctl/stream.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { SCRATCH_BYTES = 4 << 20, READ_TRIES = 5 };

void snap_sum(const void *bytes, size_t len, char out[17])
{
    snprintf(out, 17, "%016llx", (unsigned long long)XXH3_64bits(bytes, len));
}

void snap_free(struct snap *s)
{
    buf_deinit(&s->scratch);
    free(s->bytes);
    s->bytes = NULL;
}

static int in_entry(struct snap *s, struct err_detail *detail)
{
    struct mp_read m;
    struct mp_token t;
    mp_read_init(&m, s->e.data.data, s->e.data.len);
    if (!s->e.data.len || mp_next(&m, &t, NULL) || t.type != MP_BIN || (int64_t)t.len != s->e.bytes)
        return err_set(detail, ROOM_E_BAD_FRAME, "its entry does not hold the %lld bytes it speaks of", (long long)s->e.bytes);
    s->bytes = malloc(t.len ? t.len : 1);
    if (!s->bytes)
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    memcpy(s->bytes, t.data, t.len);
    return 0;
}

int snap_parse(struct snap *s, const struct conn_answer *value, struct err_detail *detail)
{
    struct err_detail why = {""};
    memset(s, 0, sizeof *s);
    buf_init(&s->scratch, &alloc_libc, SCRATCH_BYTES);
    s->revision = value->revision;
    int err = wire_snapshot_entry_from_json(&s->e, value->data, value->len, &s->scratch, &why);
    int64_t want = err ? 0 : (s->e.bytes + SNAP_CHUNK - 1) / SNAP_CHUNK;
    if (err)
        err = err_set(detail, ROOM_E_BAD_FRAME, "its entry is not readable: %.200s", why.text);
    else if (s->e.bytes < 1 || s->e.bytes > SNAP_MAX || s->e.checksum.len != 16 || (s->e.chunks && s->e.chunks != want))
        err = err_set(detail, ROOM_E_BAD_FRAME, "its entry does not make sense: %lld bytes in %lld chunks",
                      (long long)s->e.bytes, (long long)s->e.chunks);
    else if (s->e.chunks == 0)
        err = in_entry(s, detail);
    if (err)
        snap_free(s);
    return err;
}

static void key_of(const struct wire_snapshot_entry *e, int64_t chunk, char out[ID_SIZE + 64])
{
    snprintf(out, ID_SIZE + 64, "%s.%lld.%lld.%lld", e->room.s, (long long)e->epoch, (long long)e->version, (long long)chunk);
}

static int chunk(struct conn *c, struct snap *s, int64_t i, struct err_detail *detail)
{
    char key[ID_SIZE + 64];
    struct conn_answer a;
    size_t from = (size_t)i * SNAP_CHUNK, left = (size_t)s->e.bytes - from, want = left < SNAP_CHUNK ? left : SNAP_CHUNK;
    key_of(&s->e, i, key);
    int err = stream_value(c, "snapshots", key, &a, detail);
    if (err)
        return err == ROOM_E_NOT_FOUND ? err_set(detail, ROOM_E_BAD_FRAME, "chunk '%s' is missing", key) : err;
    if (a.len == want)
        memcpy(s->bytes + from, a.data, want);
    else
        err = err_set(detail, ROOM_E_BAD_FRAME, "chunk '%s' has %zu bytes instead of %zu", key, a.len, want);
    conn_answer_free(&a);
    return err;
}

int snap_fetch(struct conn *c, struct snap *s, struct err_detail *detail)
{
    char sum[17];
    int err = 0;
    if (!s->bytes && !(s->bytes = malloc((size_t)s->e.bytes)))
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    for (int64_t i = 0; err == 0 && i < s->e.chunks; i++)
        err = chunk(c, s, i, detail);
    if (err)
        return err;
    snap_sum(s->bytes, (size_t)s->e.bytes, sum);
    return wire_str_is(s->e.checksum, sum)
               ? 0
               : err_set(detail, ROOM_E_BAD_FRAME, "its bytes have checksum %s instead of %.16s", sum, s->e.checksum.data);
}

int snap_read(struct conn *c, const char *room, struct snap *s, struct err_detail *detail)
{
    int err = ROOM_E_INTERNAL;
    uint64_t before = 0;
    for (int i = 0; i < READ_TRIES; i++) {
        struct conn_answer value;
        struct err_detail why = {""};
        err = stream_value(c, "snapshots", room, &value, detail);
        if (err)
            return err == ROOM_E_NOT_FOUND ? err_set(detail, err, "no snapshot of room '%s': see roomctl snapshot ls", room) : err;
        uint64_t revision = value.revision;
        err = snap_parse(s, &value, &why);
        conn_answer_free(&value);
        if (err == 0) {
            err = snap_fetch(c, s, &why);
            if (err == 0)
                return 0;
            snap_free(s);
        }
        err_set(detail, err, "snapshot of room '%s': %.220s", room, why.text);
        if (err != ROOM_E_BAD_FRAME || revision == before)
            return err; /* not replaced meanwhile: it is so */
        before = revision;
    }
    return err;
}

static void drop_chunks(struct conn *c, const struct wire_snapshot_entry *e)
{
    struct err_detail ignored = {""};
    for (int64_t i = 0; i < e->chunks; i++) {
        char key[ID_SIZE + 64];
        key_of(e, i, key);
        if (stream_delete(c, "snapshots", key, &ignored) != 0)
            return; /* the bucket's age limit removes them */
    }
}

int snap_write(struct conn *c, struct wire_snapshot_entry *e, const void *bytes, size_t len, uint64_t expected,
               const struct wire_snapshot_entry *old, struct err_detail *detail)
{
    char sum[17];
    struct buf data, json;
    int err = 0;
    snap_sum(bytes, len, sum);
    e->bytes = (int64_t)len;
    e->checksum = wire_str(sum);
    e->chunks = len <= SNAP_INLINE_MAX ? 0 : (int64_t)((len + SNAP_CHUNK - 1) / SNAP_CHUNK);
    buf_init(&data, &alloc_libc, SCRATCH_BYTES);
    buf_init(&json, &alloc_libc, SCRATCH_BYTES);
    e->data = (struct wire_raw){0};
    if (e->chunks == 0) {
        mp_write_bin(&data, bytes, len);
        e->data = (struct wire_raw){data.data, (uint32_t)data.len};
    }
    for (int64_t i = 0; err == 0 && i < e->chunks; i++) {
        char key[ID_SIZE + 64];
        size_t from = (size_t)i * SNAP_CHUNK, part = len - from < SNAP_CHUNK ? len - from : SNAP_CHUNK;
        key_of(e, i, key);
        err = stream_put(c, "snapshots", key, BUS_ANY_REVISION, (const uint8_t *)bytes + from, part, NULL, detail);
    }
    if (err == 0 && (data.failed || wire_snapshot_entry_to_json(e, &json) != 0))
        err = err_set(detail, ROOM_E_INVALID, "the entry of snapshot '%s' cannot be written", e->room.s);
    if (err == 0)
        err = stream_put(c, "snapshots", e->room.s, expected, json.data, json.len, NULL, detail);
    if (err == ROOM_E_CONFLICT)
        drop_chunks(c, e);
    if (err == 0 && old)
        drop_chunks(c, old);
    e->checksum = (struct wire_str){0};
    e->data = (struct wire_raw){0};
    buf_deinit(&data);
    buf_deinit(&json);
    return err;
}
