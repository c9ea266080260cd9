/*
 * See snapfile.h.
 *
 * Must not know JSON: whoever reads the header checks it, and the bytes against it.
 */
#include "roomctl/snapfile.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const char MAGIC[] = "roomd-snapshot ";
enum { VERSION = 1, HEAD_MAX = 64 };

int snapfile_write(struct buf *out, const char *header, size_t header_len, const void *bytes, size_t len)
{
    size_t rest = header_len + 1 + len;
    if (header_len > SNAPFILE_HEADER_MAX || rest > SNAPFILE_MAX - HEAD_MAX)
        return ROOM_E_TOO_BIG;
    XXH3_state_t *sum = XXH3_createState();
    if (!sum)
        return ROOM_E_NO_MEMORY;
    XXH3_64bits_reset(sum);
    XXH3_64bits_update(sum, header, header_len);
    XXH3_64bits_update(sum, "\n", 1);
    XXH3_64bits_update(sum, bytes, len);
    buf_printf(out, "%s%d %016llx %zu\n", MAGIC, VERSION, (unsigned long long)XXH3_64bits_digest(sum), header_len);
    XXH3_freeState(sum);
    buf_write(out, header, header_len);
    buf_byte(out, '\n');
    buf_write(out, bytes, len);
    return out->failed ? ROOM_E_NO_MEMORY : 0;
}

/* Numbers of the first line; false: they are not written as snapfile_write() does. */
static bool head(const char *line, int *version, unsigned long long *sum, size_t *header_len)
{
    char same[HEAD_MAX];
    unsigned long long length = 0;
    bool ok = sscanf(line, "%9d %16llx %9llu", version, sum, &length) == 3;
    *header_len = (size_t)length;
    snprintf(same, sizeof same, "%d %016llx %llu", *version, *sum, length);
    return ok && strcmp(line, same) == 0;
}

int snapfile_read(const void *data, size_t len, struct snapfile *out, struct err_detail *detail)
{
    const char *text = data, *end = len ? memchr(text, '\n', len < HEAD_MAX ? len : HEAD_MAX) : NULL;
    char line[HEAD_MAX] = "";
    int version = 0;
    unsigned long long sum = 0;
    size_t header_len = 0, magic = sizeof MAGIC - 1;
    if (!end || (size_t)(end - text) < magic || memcmp(text, MAGIC, magic) != 0)
        return err_set(detail, ROOM_E_BAD_FRAME, "it is no snapshot of roomd: it does not begin with 'roomd-snapshot'");
    memcpy(line, text + magic, (size_t)(end - text) - magic);
    if (!head(line, &version, &sum, &header_len))
        return err_set(detail, ROOM_E_BAD_FRAME, "its first line is damaged");
    if (version != VERSION)
        return err_set(detail, ROOM_E_BAD_FRAME, "it is of format %d, this roomctl reads format %d: use the one that wrote it", version,
                       VERSION);
    const char *rest = end + 1;
    size_t rest_len = len - (size_t)(rest - text);
    if (header_len > SNAPFILE_HEADER_MAX || header_len + 1 > rest_len)
        return err_set(detail, ROOM_E_BAD_FRAME, "it is cut off within its header (%zu bytes of %zu)", rest_len, header_len);
    if (XXH3_64bits(rest, rest_len) != sum)
        return err_set(detail, ROOM_E_BAD_FRAME, "it is damaged or cut off: checksum %016llx instead of %016llx",
                       (unsigned long long)XXH3_64bits(rest, rest_len), sum);
    if (rest[header_len] != '\n')
        return err_set(detail, ROOM_E_BAD_FRAME, "its header does not end where it should");
    *out = (struct snapfile){rest, header_len, (const uint8_t *)rest + header_len + 1, rest_len - header_len - 1};
    return 0;
}
