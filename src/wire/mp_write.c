/* See mp_write.h. */
#include "wire/mp_write.h"

#include <msgpack/pack.h>
#include <string.h>

static int into_buf(void *data, const char *bytes, size_t len)
{
    return buf_write(data, bytes, len) ? 0 : -1;
}

static msgpack_packer packer(struct buf *out)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, into_buf);
    return pk;
}

void mp_write_nil(struct buf *out)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_nil(&pk);
}

void mp_write_bool(struct buf *out, bool value)
{
    msgpack_packer pk = packer(out);
    if (value)
        msgpack_pack_true(&pk);
    else
        msgpack_pack_false(&pk);
}

void mp_write_int(struct buf *out, int64_t value)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_int64(&pk, value);
}

void mp_write_uint(struct buf *out, uint64_t value)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_uint64(&pk, value);
}

void mp_write_double(struct buf *out, double value)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_double(&pk, value);
}

void mp_write_str(struct buf *out, const char *s, size_t len)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_str(&pk, len);
    msgpack_pack_str_body(&pk, s, len);
}

void mp_write_text(struct buf *out, const char *s)
{
    mp_write_str(out, s, strlen(s));
}

void mp_write_bin(struct buf *out, const void *data, size_t len)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_bin(&pk, len);
    msgpack_pack_bin_body(&pk, data, len);
}

void mp_write_array(struct buf *out, uint32_t count)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_array(&pk, count);
}

void mp_write_map(struct buf *out, uint32_t count)
{
    msgpack_packer pk = packer(out);
    msgpack_pack_map(&pk, count);
}

void mp_write_raw(struct buf *out, struct wire_raw value)
{
    if (value.len)
        buf_write(out, value.data, value.len);
    else
        mp_write_nil(out);
}
