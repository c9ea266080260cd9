/* See lmdb_check.h. Offsets and names are those of LMDB's mdb.c. */
#include "store/lmdb_check.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PAGE_HEADER = 16, /* pgno 8, pad 2, flags 2, lower 2, upper 2 (overflow: pages 4) */
    NODE_HEADER = 8,  /* lo 2, hi 2, flags 2, ksize 2 */
    P_BRANCH = 1,
    P_LEAF = 2,
    P_OVERFLOW = 4,
    P_META = 8,
    F_BIGDATA = 1,
    DB_INTEGERKEY = 8,
    DB_SIZE = 48,
    META_DBS = 24,
    META_LAST = 120,
    META_TXN = 128,
    META_SIZE = 136,
    MIN_PAGE = 512,
    MAX_PAGE = 65536,
    MAX_DEPTH = 30,
    MAX_KEY = 511
};
#define NO_PAGE UINT64_MAX

struct tree {
    bool free_list; /* keys are native 64-bit transaction numbers, values lists of pages */
    uint16_t depth;
    uint64_t branches, leaves, overflows, entries, root; /* as the meta page says */
    uint64_t seen_branches, seen_leaves, seen_overflows, seen_entries;
    uint8_t last_key[MAX_KEY]; /* the greatest so far */
    size_t last_len;
    bool any, last_separator;
};

struct check {
    int fd;
    size_t page_size;
    uint64_t size;  /* of the file */
    uint64_t pages; /* of the database: the free ones at its end may lie behind the end of the file */
    uint64_t txn;
    uint8_t *used;  /* one bit per page */
    uint8_t *level; /* one page per level of a tree */
    struct err_detail *why;
};

/* LMDB writes numbers as the machine has them. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "get() reads little endian numbers");

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t v = 0;
    memcpy(&v, at, (size_t)bytes);
    return v;
}

#define DAMAGED(c, ...) err_set((c)->why, LMDB_CHECK_DAMAGED, __VA_ARGS__)

/* 0, LMDB_CHECK_DAMAGED or LMDB_CHECK_ERROR, as all below. */
static int read_at(struct check *c, void *out, size_t size, uint64_t at)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(c->fd, (uint8_t *)out + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(c->why, LMDB_CHECK_ERROR, "cannot read byte %llu: %s", (unsigned long long)(at + done),
                           strerror(errno));
        if (n == 0)
            return DAMAGED(c, "it ends at byte %llu, in the middle of a page", (unsigned long long)(at + done));
        done += (size_t)n;
    }
    return 0;
}

static int use_pages(struct check *c, uint64_t first, uint64_t count)
{
    if (first < 2 || first >= c->pages || count > c->pages - first)
        return DAMAGED(c, "page %llu (%llu of them) is outside", (unsigned long long)first, (unsigned long long)count);
    for (uint64_t p = first; p < first + count; p++) {
        if (c->used[p / 8] >> (p % 8) & 1)
            return DAMAGED(c, "page %llu has two users", (unsigned long long)p);
        c->used[p / 8] |= (uint8_t)(1 << (p % 8));
    }
    return 0;
}

static int key_cmp(const struct tree *t, const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    if (t->free_list) {
        uint64_t x = get(a, 8), y = get(b, 8);
        return x < y ? -1 : x > y;
    }
    int cmp = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return cmp ? cmp : a_len < b_len ? -1 : a_len > b_len;
}

/* Keys come in order over the whole tree; a branch's separator may equal the first key below it. */
static int next_key(struct check *c, struct tree *t, uint64_t page, const uint8_t *key, size_t len, bool separator)
{
    if (len == 0 || len > MAX_KEY || (t->free_list && len != 8))
        return DAMAGED(c, "page %llu has a key of %zu bytes", (unsigned long long)page, len);
    int cmp = t->any ? key_cmp(t, t->last_key, t->last_len, key, len) : -1;
    if (cmp > 0 || (cmp == 0 && (separator || !t->last_separator)))
        return DAMAGED(c, "page %llu has keys out of order", (unsigned long long)page);
    memcpy(t->last_key, key, len);
    t->last_len = len;
    t->any = true;
    t->last_separator = separator;
    return 0;
}

/* A list of free pages: their number, then each, falling. */
static int free_pages(struct check *c, uint64_t page, const uint8_t *data, size_t size)
{
    uint64_t count = size >= 8 ? get(data, 8) : 0, last = NO_PAGE;
    if (size < 8 || count > size / 8 - 1)
        return DAMAGED(c, "page %llu has a broken free list", (unsigned long long)page);
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t p = get(data + 8 * i, 8);
        if (p >= last)
            return DAMAGED(c, "page %llu has a free list out of order", (unsigned long long)page);
        last = p;
        int err = use_pages(c, p, 1);
        if (err)
            return err;
    }
    return 0;
}

static int overflow(struct check *c, struct tree *t, uint64_t first, size_t size)
{
    uint8_t head[PAGE_HEADER];
    uint64_t need = (PAGE_HEADER - 1 + (uint64_t)size) / c->page_size + 1;
    if (first < 2 || first >= c->pages)
        return DAMAGED(c, "large value at page %llu, which is outside", (unsigned long long)first);
    int err = read_at(c, head, sizeof head, first * c->page_size);
    if (err)
        return err;
    uint64_t count = get(head + 12, 4);
    if (get(head, 8) != first || get(head + 10, 2) != P_OVERFLOW || count < need)
        return DAMAGED(c, "page %llu is not the start of a large value", (unsigned long long)first);
    if (count > c->size / c->page_size - first)
        return DAMAGED(c, "it ends in the large value of page %llu", (unsigned long long)first);
    t->seen_overflows += count;
    err = use_pages(c, first, count);
    if (err || !t->free_list)
        return err;
    uint8_t *data = malloc(size);
    err = data ? read_at(c, data, size, first * c->page_size + PAGE_HEADER)
               : err_set(c->why, LMDB_CHECK_ERROR, "no memory for a free list");
    if (!err)
        err = free_pages(c, first, data, size);
    free(data);
    return err;
}

static int leaf_node(struct check *c, struct tree *t, uint64_t page, const uint8_t *node)
{
    size_t size = get(node, 2) | get(node + 2, 2) << 16, key_len = get(node + 6, 2);
    uint16_t flags = (uint16_t)get(node + 4, 2);
    const uint8_t *key = node + NODE_HEADER, *data = key + key_len;
    t->seen_entries++;
    int err = next_key(c, t, page, key, key_len, false);
    if (err)
        return err;
    if (flags & ~F_BIGDATA)
        return DAMAGED(c, "page %llu has a node of an unknown kind", (unsigned long long)page);
    if (t->free_list && get(key, 8) > c->txn)
        return DAMAGED(c, "page %llu has a free list from the future", (unsigned long long)page);
    if (flags & F_BIGDATA)
        return overflow(c, t, get(data, 8), size);
    return t->free_list ? free_pages(c, page, data, size) : 0;
}

/* The bytes that node `i` takes, or 0: it does not fit the page. */
static size_t node_size(const struct check *c, const uint8_t *p, bool leaf, size_t i)
{
    size_t upper = get(p + 14, 2), at = get(p + PAGE_HEADER + 2 * i, 2);
    if (at < upper || at + NODE_HEADER > c->page_size || at % 2)
        return 0;
    const uint8_t *node = p + at;
    size_t size = NODE_HEADER + get(node + 6, 2);
    if (leaf)
        size += get(node + 4, 2) & F_BIGDATA ? 8 : get(node, 2) | get(node + 2, 2) << 16;
    size += size % 2;
    return at + size > c->page_size ? 0 : size;
}

static int page_shape(struct check *c, const uint8_t *p, uint64_t page, bool leaf, size_t least, size_t *count)
{
    size_t lower = get(p + 12, 2), upper = get(p + 14, 2), taken = 0;
    if (get(p, 8) != page || get(p + 10, 2) != (leaf ? P_LEAF : P_BRANCH))
        return DAMAGED(c, "page %llu is of another kind or number", (unsigned long long)page);
    if (lower < PAGE_HEADER || lower % 2 || lower > upper || upper > c->page_size)
        return DAMAGED(c, "page %llu has impossible bounds", (unsigned long long)page);
    *count = (lower - PAGE_HEADER) / 2;
    for (size_t i = 0; i < *count; i++) {
        size_t size = node_size(c, p, leaf, i);
        if (size == 0)
            return DAMAGED(c, "page %llu has a node outside", (unsigned long long)page);
        taken += size;
    }
    if (*count < least || taken != c->page_size - upper)
        return DAMAGED(c, "page %llu has %zu nodes in %zu bytes", (unsigned long long)page, *count, taken);
    return 0;
}

static int walk(struct check *c, struct tree *t, uint64_t page, unsigned depth)
{
    bool leaf = depth == t->depth;
    uint8_t *p = c->level + (depth - 1) * c->page_size;
    size_t count = 0;
    int err = use_pages(c, page, 1);
    if (!err)
        err = read_at(c, p, c->page_size, page * c->page_size);
    if (!err)
        /* LMDB leaves branches of one in the free list only. */
        err = page_shape(c, p, page, leaf, leaf || t->free_list ? 1 : 2, &count);
    *(leaf ? &t->seen_leaves : &t->seen_branches) += 1;
    for (size_t i = 0; !err && i < count; i++) {
        const uint8_t *node = p + get(p + PAGE_HEADER + 2 * i, 2);
        if (leaf) {
            err = leaf_node(c, t, page, node);
            continue;
        }
        /* The first separator of a branch is never looked at. */
        if (i > 0)
            err = next_key(c, t, page, node + NODE_HEADER, get(node + 6, 2), true);
        if (!err)
            err = walk(c, t, get(node, 2) | get(node + 2, 2) << 16 | get(node + 4, 2) << 32, depth + 1);
    }
    return err;
}

static int check_tree(struct check *c, const uint8_t *db, bool free_list)
{
    struct tree t = {.free_list = free_list, .depth = (uint16_t)get(db + 6, 2), .branches = get(db + 8, 8),
                     .leaves = get(db + 16, 8), .overflows = get(db + 24, 8), .entries = get(db + 32, 8),
                     .root = get(db + 40, 8)};
    const char *name = free_list ? "the free list" : "the main tree";
    if (get(db + 4, 2) != (free_list ? DB_INTEGERKEY : 0))
        return DAMAGED(c, "%s has unknown flags", name);
    if (t.depth > MAX_DEPTH || (t.depth == 0) != (t.root == NO_PAGE))
        return DAMAGED(c, "%s has depth %u and root %llu", name, t.depth, (unsigned long long)t.root);
    int err = t.depth ? walk(c, &t, t.root, 1) : 0;
    if (!err && (t.seen_branches != t.branches || t.seen_leaves != t.leaves || t.seen_overflows != t.overflows ||
                 t.seen_entries != t.entries))
        return DAMAGED(c, "%s has %llu entries on %llu pages, not %llu on %llu as it should", name,
                       (unsigned long long)t.seen_entries, (unsigned long long)t.seen_leaves,
                       (unsigned long long)t.entries, (unsigned long long)t.leaves);
    return err;
}

/* Both meta pages must make sense; the one with the higher transaction number counts. */
static int check_metas(struct check *c, uint8_t meta[META_SIZE])
{
    uint8_t page[PAGE_HEADER + META_SIZE];
    uint64_t txns[2];
    for (unsigned i = 0; i < 2; i++) {
        int err = read_at(c, page, sizeof page, i * c->page_size);
        if (err)
            return err;
        const uint8_t *m = page + PAGE_HEADER;
        size_t page_size = get(m + META_DBS, 4);
        if (get(page, 8) != i || get(page + 10, 2) != P_META || get(m, 4) != 0xBEEFC0DE || get(m + 4, 4) != 1 ||
            page_size < MIN_PAGE || page_size > MAX_PAGE || page_size & (page_size - 1) ||
            (i == 1 && page_size != c->page_size))
            return DAMAGED(c, "meta page %u is not one of LMDB 0.9", i);
        c->page_size = page_size;
        txns[i] = get(m + META_TXN, 8);
        if (i == 0 || txns[i] > c->txn) {
            memcpy(meta, m, META_SIZE);
            c->txn = txns[i];
        }
    }
    /* LMDB writes transaction n to meta page n mod 2, so the other one is n - 1; a new file has two of 0. */
    if (c->txn && txns[1 - c->txn % 2] != c->txn - 1)
        return DAMAGED(c, "the meta pages bear transactions %llu and %llu", (unsigned long long)txns[0],
                       (unsigned long long)txns[1]);
    return 0;
}

static int check_file(struct check *c)
{
    uint8_t meta[META_SIZE];
    int err = check_metas(c, meta);
    if (err)
        return err;
    uint64_t last = get(meta + META_LAST, 8);
    /* What one transaction takes and frees again need never have been written; it cannot take more than 2^17 pages. */
    if (last < 1 || last > c->size / c->page_size + (1 << 18))
        return DAMAGED(c, "its last page cannot be %llu", (unsigned long long)last);
    c->pages = last + 1;
    c->used = calloc(1, (size_t)(c->pages / 8 + 1));
    c->level = malloc(c->page_size * MAX_DEPTH);
    if (!c->used || !c->level)
        err = err_set(c->why, LMDB_CHECK_ERROR, "no memory to check %llu pages", (unsigned long long)c->pages);
    if (!err)
        err = check_tree(c, meta + META_DBS, true);
    if (!err)
        err = check_tree(c, meta + META_DBS + DB_SIZE, false);
    free(c->used);
    free(c->level);
    return err;
}

enum lmdb_check lmdb_check(const char *path, struct err_detail *why)
{
    struct stat st;
    struct check c = {.fd = open(path, O_RDONLY | O_CLOEXEC), .why = why};
    if (c.fd < 0 && errno == ENOENT)
        return LMDB_CHECK_NEW;
    if (c.fd < 0 || fstat(c.fd, &st) != 0) {
        err_set(why, 0, "cannot open '%s': %s", path, strerror(errno));
        if (c.fd >= 0)
            close(c.fd);
        return LMDB_CHECK_ERROR;
    }
    c.size = (uint64_t)st.st_size;
    int err = c.size ? check_file(&c) : DAMAGED(&c, "it is empty");
    close(c.fd);
    return err ? (enum lmdb_check)err : LMDB_CHECK_WHOLE;
}
