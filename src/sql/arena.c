/* DuckDB's memory within an allowance. A session's thread.
 *
 * DuckDB's memory_limit counts what its buffer manager hands out. Texts, lists and what functions
 * work in are not counted, though 2,048 rows of them come about between two looks at whether the
 * query should end: "SELECT replace(t, 'a', t)" took any memory there was. All of that is operator
 * new's (ext/allowance.h) or jemalloc's, which DuckDB brings along with its names prefixed. Each
 * thread that runs statements therefore has an arena of its own, whose extents are counted as they
 * come from the system (jemalloc(3), "arena.<i>.extent_hooks"). They never go back as addresses,
 * since jemalloc would take what others then map there for its own: their pages do.
 *
 * Where the library was built without jemalloc, operator new alone is counted. */
#include "sql/arena.h"

#include "ext/allowance.h"
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define MUCH_BYTES (64u << 20) /* in an arena: less is soon used again */

/* jemalloc's extent_hooks_t. */
struct extent_hooks {
    void *(*alloc)(struct extent_hooks *, void *, size_t, size_t, bool *, bool *, unsigned);
    bool (*dalloc)(struct extent_hooks *, void *, size_t, bool, unsigned);
    void (*destroy)(struct extent_hooks *, void *, size_t, bool, unsigned);
    bool (*commit)(struct extent_hooks *, void *, size_t, size_t, size_t, unsigned);
    bool (*decommit)(struct extent_hooks *, void *, size_t, size_t, size_t, unsigned);
    bool (*purge_lazy)(struct extent_hooks *, void *, size_t, size_t, size_t, unsigned);
    bool (*purge_forced)(struct extent_hooks *, void *, size_t, size_t, size_t, unsigned);
    bool (*split)(struct extent_hooks *, void *, size_t, size_t, size_t, bool, unsigned);
    bool (*merge)(struct extent_hooks *, void *, size_t, void *, size_t, bool, unsigned);
};

extern int duckdb_je_mallctl(const char *name, void *old, size_t *old_len, void *new,
                             size_t new_len) __attribute__((weak));

/* ---- extents; true is failure to jemalloc ---- */

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static void *map_aligned(size_t bytes, size_t alignment)
{
    char *memory = map(bytes);
    if (memory == NULL || (uintptr_t)memory % alignment == 0)
        return memory;
    munmap(memory, bytes);
    memory = map(bytes + alignment);
    if (memory == NULL)
        return NULL;
    size_t before = alignment - (uintptr_t)memory % alignment;
    munmap(memory, before);
    if (before < alignment)
        munmap(memory + before + bytes, alignment - before);
    return memory + before;
}

static void *alloc(struct extent_hooks *hooks, void *wanted, size_t bytes, size_t alignment,
                   bool *zero, bool *commit, unsigned arena)
{
    (void)hooks, (void)arena;
    void *memory = wanted == NULL ? map_aligned(bytes, alignment) : NULL;
    if (memory != NULL && !lh_allowance_map(bytes)) {
        munmap(memory, bytes);
        memory = NULL;
    }
    *zero = *commit = true;
    return memory;
}

static bool purge(struct extent_hooks *hooks, void *memory, size_t bytes, size_t offset, size_t len,
                  unsigned arena)
{
    (void)hooks, (void)bytes, (void)arena;
    return madvise((char *)memory + offset, len, MADV_DONTNEED) != 0;
}

static bool split(struct extent_hooks *hooks, void *memory, size_t bytes, size_t first,
                  size_t second, bool committed, unsigned arena)
{
    (void)hooks, (void)memory, (void)bytes, (void)first, (void)second, (void)committed, (void)arena;
    return false;
}

static bool merge(struct extent_hooks *hooks, void *first, size_t first_bytes, void *second,
                  size_t second_bytes, bool committed, unsigned arena)
{
    (void)hooks, (void)first, (void)first_bytes, (void)second, (void)second_bytes;
    (void)committed, (void)arena;
    return false;
}

static const struct extent_hooks counted = {
    .alloc = alloc, .purge_forced = purge, .split = split, .merge = merge};

/* ---- the thread's arena ---- */

/* The number of the arena that the thread uses. False: it is not counted. */
static bool find_arena(unsigned *arena)
{
    const struct extent_hooks *hooks = NULL;
    size_t arena_len = sizeof *arena, len = sizeof hooks;
    char name[48];
    if (duckdb_je_mallctl("thread.arena", arena, &arena_len, NULL, 0) != 0)
        return false;
    snprintf(name, sizeof name, "arena.%u.extent_hooks", *arena);
    return duckdb_je_mallctl(name, (void *)&hooks, &len, NULL, 0) == 0 && hooks == &counted;
}

static void make_arena(void)
{
    const struct extent_hooks *hooks = &counted;
    unsigned arena;
    size_t len = sizeof arena;
    if (duckdb_je_mallctl("arenas.create", &arena, &len, (void *)&hooks, sizeof hooks) == 0)
        (void)duckdb_je_mallctl("thread.arena", NULL, NULL, &arena, sizeof arena);
}

static void purge_arena(unsigned arena)
{
    char name[32];
    (void)duckdb_je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    snprintf(name, sizeof name, "arena.%u.purge", arena);
    (void)duckdb_je_mallctl(name, NULL, NULL, NULL, 0);
}

void lh__sql_arena_begin(uint64_t bytes_max, const struct lh_counter *is_over)
{
    unsigned arena;
    uint64_t mapped = lh_allowance_mapped(); /* an arena has something from the start on */
    if (duckdb_je_mallctl == NULL || (mapped > 0 && mapped <= MUCH_BYTES))
        (void)0;
    else if (!find_arena(&arena))
        make_arena();
    else if (mapped > MUCH_BYTES)
        purge_arena(arena);
    /* Blocks are kept for the next statement (ext/new.cc), and one is enough to hold all that is
     * below it in malloc's heap. */
    if (lh_allowance_made() > MUCH_BYTES)
        (void)malloc_trim(0);
    lh_allowance_begin(bytes_max, is_over);
}

void lh__sql_arena_end(void)
{
    lh_allowance_begin(0, NULL);
}
