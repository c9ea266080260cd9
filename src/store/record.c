/* See record.h. */
#include "store/record.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

static const uint8_t magic[4] = {'R', 'M', 'S', 'N'};
static const uint8_t layout_magic[8] = {'r', 'o', 'o', 'm', 'd', 's', 't', 'o'};

/* Offsets in the header. */
enum {
    AT_SUM = 0,
    AT_MAGIC = 16,
    AT_LAYOUT = 20,
    AT_CODEC = 22,
    AT_EPOCH = 24,
    AT_POSITION = 32,
    AT_VERSION = 40,
    AT_SAVED = 48,
    AT_LEN = 56,
    AT_ROOM_LEN = 64,
    AT_TYPE_LEN = 65
};
/* Offsets in the layout. */
enum { AT_NUMBER = 8, AT_COMMIT = 12, AT_LAYOUT_SUM = 20 };
static_assert(AT_TYPE_LEN + 1 <= RECORD_HEADER, "the header holds all of it");

static void put_le(uint8_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *at, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | at[i];
    return v;
}

static void put_be(uint8_t *at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get_be(const uint8_t *at)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | at[i];
    return v;
}

static void bound(struct record_key *out, enum record_kind kind, const char *room, uint8_t end)
{
    size_t len = strlen(room);
    ASSERT(len <= ID_MAX);
    out->bytes[0] = (uint8_t)kind;
    memcpy(out->bytes + 1, room, len);
    out->bytes[1 + len] = end;
    out->len = len + 2;
}

void record_key_before(struct record_key *out, enum record_kind kind, const char *room)
{
    bound(out, kind, room, 0);
}

void record_key_behind(struct record_key *out, enum record_kind kind, const char *room)
{
    bound(out, kind, room, 1);
}

void record_key(struct record_key *out, enum record_kind kind, const char *room, const struct store_mark *mark)
{
    bound(out, kind, room, 0);
    put_be(out->bytes + out->len, mark->epoch);
    put_be(out->bytes + out->len + 8, mark->position);
    put_be(out->bytes + out->len + 16, mark->version);
    out->len += RECORD_MARK;
}

bool record_key_parse(const void *key, size_t len, enum record_kind kind, struct id *room, struct store_mark *mark)
{
    const uint8_t *k = key;
    if (len <= 2 + RECORD_MARK || len > RECORD_KEY_MAX || k[0] != (uint8_t)kind || k[len - RECORD_MARK - 1] != 0 ||
        !id_set_n(room, (const char *)k + 1, len - RECORD_MARK - 2))
        return false;
    const uint8_t *m = k + len - RECORD_MARK;
    *mark = (struct store_mark){get_be(m), get_be(m + 8), get_be(m + 16)};
    return true;
}

size_t record_size(const struct store_snapshot *s)
{
    return RECORD_HEADER + strlen(s->room) + strlen(s->type) + s->len;
}

/* Of all behind the checksum. */
static void checksum(const uint8_t *value, size_t size, uint8_t out[16])
{
    XXH128_hash_t h = XXH3_128bits(value + AT_MAGIC, size - AT_MAGIC);
    put_le(out, h.low64, 8);
    put_le(out + 8, h.high64, 8);
}

void record_write(uint8_t *out, const struct store_snapshot *s)
{
    size_t room = strlen(s->room), type = strlen(s->type);
    memset(out, 0, RECORD_HEADER);
    memcpy(out + AT_MAGIC, magic, sizeof magic);
    put_le(out + AT_LAYOUT, RECORD_LAYOUT, 2);
    put_le(out + AT_CODEC, s->codec, 2);
    put_le(out + AT_EPOCH, s->mark.epoch, 8);
    put_le(out + AT_POSITION, s->mark.position, 8);
    put_le(out + AT_VERSION, s->mark.version, 8);
    put_le(out + AT_SAVED, (uint64_t)s->saved.ms, 8);
    put_le(out + AT_LEN, s->len, 8);
    out[AT_ROOM_LEN] = (uint8_t)room;
    out[AT_TYPE_LEN] = (uint8_t)type;
    memcpy(out + RECORD_HEADER, s->room, room);
    memcpy(out + RECORD_HEADER + room, s->type, type);
    if (s->len)
        memcpy(out + RECORD_HEADER + room + type, s->data, s->len);
    checksum(out, record_size(s), out + AT_SUM);
}

bool record_peek(const uint8_t *value, size_t size, size_t *len, struct wall *saved)
{
    if (size < RECORD_HEADER || memcmp(value + AT_MAGIC, magic, sizeof magic) != 0)
        return false;
    uint64_t data = get_le(value + AT_LEN, 8);
    if (data != size - RECORD_HEADER - value[AT_ROOM_LEN] - value[AT_TYPE_LEN])
        return false;
    *len = data;
    saved->ms = (int64_t)get_le(value + AT_SAVED, 8);
    return true;
}

bool record_read(const uint8_t *value, size_t size, const char *room, const struct store_mark *mark,
                 struct record_names *names, struct store_snapshot *out, struct err_detail *why)
{
    uint8_t sum[16];
    struct store_snapshot s = {0};
    if (!record_peek(value, size, &s.len, &s.saved)) {
        err_set(why, 0, "its header is not one (%zu bytes)", size);
        return false;
    }
    checksum(value, size, sum);
    if (memcmp(sum, value + AT_SUM, sizeof sum) != 0) {
        err_set(why, 0, "checksum mismatch over %zu bytes", size);
        return false;
    }
    const char *at = (const char *)value + RECORD_HEADER;
    size_t room_len = value[AT_ROOM_LEN], type_len = value[AT_TYPE_LEN];
    s.mark = (struct store_mark){get_le(value + AT_EPOCH, 8), get_le(value + AT_POSITION, 8),
                                 get_le(value + AT_VERSION, 8)};
    if (get_le(value + AT_LAYOUT, 2) != RECORD_LAYOUT || !id_set_n(&names->room, at, room_len) ||
        !id_set_n(&names->type, at + room_len, type_len) || strcmp(names->room.s, room) != 0 ||
        store_mark_cmp(&s.mark, mark) != 0) {
        err_set(why, 0, "it is another snapshot than its key says");
        return false;
    }
    s.room = names->room.s;
    s.type = names->type.s;
    s.codec = (uint16_t)get_le(value + AT_CODEC, 2);
    s.data = at + room_len + type_len;
    *out = s;
    return true;
}

void record_layout_write(uint8_t out[RECORD_LAYOUT_SIZE], uint32_t number, uint64_t commit)
{
    memset(out, 0, RECORD_LAYOUT_SIZE);
    memcpy(out, layout_magic, sizeof layout_magic);
    put_le(out + AT_NUMBER, number, 4);
    put_le(out + AT_COMMIT, commit, 8);
    put_le(out + AT_LAYOUT_SUM, XXH3_64bits(out, AT_LAYOUT_SUM), 4);
}

uint32_t record_layout_read(const uint8_t *value, size_t size, uint64_t *commit)
{
    if (size != RECORD_LAYOUT_SIZE || memcmp(value, layout_magic, sizeof layout_magic) != 0 ||
        get_le(value + AT_LAYOUT_SUM, 4) != (uint32_t)XXH3_64bits(value, AT_LAYOUT_SUM))
        return 0;
    *commit = get_le(value + AT_COMMIT, 8);
    return (uint32_t)get_le(value + AT_NUMBER, 4);
}
