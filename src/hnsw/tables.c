/* The node tables' memory. The owner of the graph runs it.
 *
 * Each table is one anonymous mapping, grown by mremap: pages move by their table entries, and
 * pages that no node uses yet cost nothing. Growth happens table by table; capacity changes only
 * when all have grown, so a failure leaves the graph as it was (with some room already there).
 *
 * Clearing a huge page takes from a tenth of a millisecond to some, on machines that give their
 * memory piece by piece; and where the count of nodes is a multiple of a power of two, most tables
 * come to the end of a page at once. So pages are touched a little before they are needed, one at a
 * time. */
#include "hnsw/graph_internal.h"

#include <string.h>
#include <sys/mman.h>

/* The places of those that are not node tables. */
#define UPPER           LH__NODE_TABLES
#define UPPER_BACKLINKS (LH__NODE_TABLES + 1)
#define BACKLINKS       (LH__NODE_TABLES + 2)

#define PAGE_BYTES 4096u
#define HUGE_BYTES (2u << 20)
#define HUGE_FROM_BYTES \
    (4u << 20) /* smaller tables fit the TLB, and many small indexes stay small */
#define TOUCH_AHEAD (LH__TOUCH_EVERY * LH__TABLES) /* slots: a page for each table */

/* Bytes a slot (or block, or unit of blocks) in the i-th table, in the order of struct lh__tables;
 * 0 when the graph has none. */
static size_t stride_of(const struct lh_graph *graph, size_t i)
{
    const size_t strides[] = {
        graph->options.dimension * sizeof(float),
        graph->code_bytes,
        graph->filtered ? LH__SIGN_WORDS * sizeof(uint64_t) : 0,
        graph->metric == LH__WEIGHTED ? sizeof(float) : 0,
        sizeof(float),
        graph->links_stride * sizeof(uint32_t),
        sizeof(struct lh__incoming),
        sizeof(uint8_t),
        sizeof(uint8_t),
        sizeof(uint32_t),
        sizeof(uint32_t),
        sizeof(struct lh__hashed),
        sizeof(uint32_t),
        sizeof(uint8_t),
        sizeof(uint8_t),
        sizeof(uint8_t),
        sizeof(uint8_t),
        graph->upper_stride * sizeof(uint32_t),
        sizeof(uint32_t),
        LH__BACKLINK_UNIT_BYTES,
    };
    _Static_assert(sizeof strides / sizeof strides[0] == LH__TABLES, "one stride a table");
    return strides[i];
}

static void *table_get(const struct lh_graph *graph, size_t i)
{
    void *base;
    memcpy(&base, (const char *)&graph->t + i * sizeof base, sizeof base);
    return base;
}

static void table_set(struct lh_graph *graph, size_t i, void *base)
{
    memcpy((char *)&graph->t + i * sizeof base, &base, sizeof base);
}

static void *map(size_t bytes)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

#ifndef __SANITIZE_THREAD__

/* Moves the pages to those of another mapping, which is as large or larger. */
static bool move_to(void *from, size_t bytes, void *to)
{
    return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
}

static void *resize(void *from, size_t old, size_t bytes)
{
    return mremap(from, old, bytes, MREMAP_MAYMOVE);
}

#else

/* The thread sanitizer does not know mremap: what one thread has written at an address would be
 * held against the thread that is given that address next. */
static bool move_to(void *from, size_t bytes, void *to)
{
    memcpy(to, from, bytes);
    return munmap(from, bytes) == 0;
}

static void *resize(void *from, size_t old, size_t bytes)
{
    void *to = map(bytes);
    return to == MAP_FAILED || move_to(from, old, to) ? to : MAP_FAILED;
}

#endif

static void *grow_small(const struct lh_graph *graph, size_t i, size_t bytes)
{
    return graph->mapped[i] > 0 ? resize(table_get(graph, i), graph->mapped[i], bytes) : map(bytes);
}

/* Random reads over a large table miss the TLB on every node: huge pages, which must be aligned,
 * spare most of that. The old pages move to the start of an aligned range. */
static void *grow_huge(const struct lh_graph *graph, size_t i, size_t *bytes)
{
    size_t size = (*bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    char *range = mmap(NULL, size + HUGE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        return MAP_FAILED;
    }
    size_t before = (HUGE_BYTES - (uintptr_t)range % HUGE_BYTES) % HUGE_BYTES;
    char *base = range + before;
    if (before > 0) {
        munmap(range, before);
    }
    if (before < HUGE_BYTES) {
        munmap(base + size, HUGE_BYTES - before);
    }
    madvise(base, size, MADV_HUGEPAGE); /* a hint: without, it is only slower */
    if (graph->mapped[i] > 0) {
        if (!move_to(table_get(graph, i), graph->mapped[i], base)) {
            munmap(base, size);
            return MAP_FAILED;
        }
        madvise(base, size, MADV_HUGEPAGE);
    }
    *bytes = size;
    return base;
}

static enum lh_status table_grow(struct lh_graph *graph, size_t i, uint32_t slots)
{
    size_t stride = stride_of(graph, i);
    size_t bytes = stride * slots;
    if (bytes <= graph->mapped[i]) {
        return LH_OK;
    }
    bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    void *base =
        bytes < HUGE_FROM_BYTES ? grow_small(graph, i, bytes) : grow_huge(graph, i, &bytes);
    if (base == MAP_FAILED) {
        return LH_OUT_OF_MEMORY;
    }
    table_set(graph, i, base);
    graph->mapped[i] = bytes;
    return LH_OK;
}

/* How many slots (blocks, units) of a table are in use. */
static uint32_t used_of(const struct lh_graph *graph, size_t i)
{
    return i < LH__NODE_TABLES ? graph->slots
           : i == BACKLINKS    ? graph->backlinks_used
                               : graph->upper_used;
}

/* The page that will be needed first, if that is soon. */
void lh__tables_touch(struct lh_graph *graph)
{
    uint64_t soonest = TOUCH_AHEAD;
    size_t table = LH__TABLES;
    for (size_t i = 0; i < LH__TABLES; i++) {
        if (graph->mapped[i] < HUGE_FROM_BYTES) {
            continue;
        }
        uint64_t stride = stride_of(graph, i), used = stride * used_of(graph, i);
        if (graph->touched[i] < used) {
            graph->touched[i] = (used + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
        }
        uint64_t left = (graph->touched[i] - used) / stride;
        if (graph->touched[i] < graph->mapped[i] && left < soonest) {
            soonest = left;
            table = i;
        }
    }
    if (table < LH__TABLES) {
        volatile char *page = (char *)table_get(graph, table) + graph->touched[table];
        *page = 0; /* as it is; reading would only map the page of zeros */
        graph->touched[table] += HUGE_BYTES;
    }
}

static enum lh_status tables_grow(struct lh_graph *graph, uint32_t slots)
{
    for (size_t i = 0; i < LH__NODE_TABLES; i++) {
        if (table_grow(graph, i, slots) != LH_OK) {
            return LH_OUT_OF_MEMORY;
        }
    }
    graph->capacity = slots;
    return LH_OK;
}

static enum lh_status upper_grow(struct lh_graph *graph, uint32_t blocks)
{
    enum lh_status status = table_grow(graph, UPPER, blocks);
    status = status == LH_OK ? table_grow(graph, UPPER_BACKLINKS, blocks) : status;
    if (status == LH_OK) {
        graph->upper_capacity = blocks;
    }
    return status;
}

/* A quarter more than asked, so that growth by single adds costs little. */
static uint32_t with_slack(uint32_t wanted)
{
    uint64_t roomy = (uint64_t)wanted + wanted / 4 + 1024;
    return roomy > LH_NODES_MAX ? LH_NODES_MAX : (uint32_t)roomy;
}

enum lh_status lh__tables_reserve(struct lh_graph *graph, uint32_t slots, uint32_t upper_blocks)
{
    if (slots > graph->capacity && tables_grow(graph, with_slack(slots)) != LH_OK &&
        tables_grow(graph, slots) != LH_OK) {
        return LH_OUT_OF_MEMORY;
    }
    if (upper_blocks > graph->upper_capacity &&
        upper_grow(graph, with_slack(upper_blocks)) != LH_OK &&
        upper_grow(graph, upper_blocks) != LH_OK) {
        return LH_OUT_OF_MEMORY;
    }
    return LH_OK;
}

/* In the middle of a change, which goes on without when there is no memory. */
enum lh_status lh__tables_reserve_backlinks(struct lh_graph *graph, uint32_t units)
{
    if (units <= graph->backlinks_capacity) {
        return LH_OK;
    }
    uint32_t roomy = with_slack(units);
    enum lh_status status = table_grow(graph, BACKLINKS, roomy);
    if (status == LH_OK) {
        graph->backlinks_capacity = roomy;
    }
    return status;
}

void lh__tables_release(struct lh_graph *graph)
{
    for (size_t i = 0; i < LH__TABLES; i++) {
        if (graph->mapped[i] != 0) {
            munmap(table_get(graph, i), graph->mapped[i]);
        }
    }
}

uint64_t lh__tables_bytes(const struct lh_graph *graph)
{
    uint64_t blocks = stride_of(graph, UPPER) + stride_of(graph, UPPER_BACKLINKS);
    uint64_t bytes =
        blocks * graph->upper_used + (uint64_t)stride_of(graph, BACKLINKS) * graph->backlinks_used;
    for (size_t i = 0; i < LH__NODE_TABLES; i++) {
        bytes += (uint64_t)stride_of(graph, i) * graph->slots;
    }
    return bytes;
}
