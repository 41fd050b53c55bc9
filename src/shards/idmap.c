/* The id map of one shard. Runs on the shard's worker thread.
 *
 * Linear probing with backward-shift deletion (Knuth, TAOCP 3, 6.4, algorithm R): no tombstones.
 * Invariants: an id is in one of the two tables; a cluster of `old` is there whole or not at all,
 * so that a probe never stops early; the load stays under four fifths. */
#include "shards/idmap.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MIN 64u
#define SLOTS_A_MIGRATE \
    32u /* at least this many of `old` an operation: done before `now` is full */

static uint32_t home_of(const struct lh_idmap_table *table, uint32_t tag)
{
    /* Placement used the hash modulo the shard count: spread the tag again (Fibonacci hashing). */
    uint64_t spread = (uint64_t)tag * 0x9E3779B97F4A7C15ull;
    return (uint32_t)(spread >> 32) & (table->capacity - 1);
}

static void insert(struct lh_idmap_table *table, struct lh_idmap_slot slot)
{
    uint32_t mask = table->capacity - 1;
    uint32_t at = home_of(table, slot.tag);
    assert(table->count < table->capacity);
    while (table->slots[at].node_plus_1 != 0)
        at = (at + 1) & mask;
    table->slots[at] = slot;
    table->count++;
}

/* Moves whole clusters from the cursor on. */
static void migrate(struct lh_idmap *map, uint32_t slots)
{
    struct lh_idmap_table *old = &map->old;
    if (old->capacity == 0)
        return;
    uint32_t mask = old->capacity - 1;
    uint32_t done = 0;
    while (map->visited < old->capacity) {
        struct lh_idmap_slot *slot = &old->slots[map->cursor];
        if (slot->node_plus_1 == 0 && done >= slots)
            return;
        if (slot->node_plus_1 != 0) {
            insert(&map->now, *slot);
            *slot = (struct lh_idmap_slot){0};
            old->count--;
        }
        map->cursor = (map->cursor + 1) & mask;
        map->visited++;
        done++;
    }
    assert(old->count == 0);
    free(old->slots);
    *old = (struct lh_idmap_table){0};
}

void lh_idmap_init(struct lh_idmap *map, struct lh_str (*id_of)(const void *arg, uint32_t node),
                   const void *arg)
{
    *map = (struct lh_idmap){.id_of = id_of, .arg = arg};
}

void lh_idmap_deinit(struct lh_idmap *map)
{
    free(map->now.slots);
    free(map->old.slots);
}

static uint32_t find_in(const struct lh_idmap *map, const struct lh_idmap_table *table,
                        struct lh_str id, uint32_t tag)
{
    if (table->capacity == 0)
        return LH_IDMAP_NONE;
    uint32_t mask = table->capacity - 1;
    for (uint32_t at = home_of(table, tag); table->slots[at].node_plus_1 != 0;
         at = (at + 1) & mask) {
        const struct lh_idmap_slot *slot = &table->slots[at];
        if (slot->tag == tag && lh_str_eq(map->id_of(map->arg, slot->node_plus_1 - 1), id))
            return slot->node_plus_1 - 1;
    }
    return LH_IDMAP_NONE;
}

uint32_t lh_idmap_find(const struct lh_idmap *map, struct lh_str id, uint64_t hash)
{
    uint32_t node = find_in(map, &map->now, id, (uint32_t)hash);
    return node != LH_IDMAP_NONE ? node : find_in(map, &map->old, id, (uint32_t)hash);
}

void lh_idmap_prefetch(const struct lh_idmap *map, uint64_t hash)
{
    if (map->now.capacity != 0)
        __builtin_prefetch(&map->now.slots[home_of(&map->now, (uint32_t)hash)], 1);
}

static bool has_room(const struct lh_idmap_table *table, uint64_t total)
{
    return total * 5 <= (uint64_t)table->capacity * 4;
}

enum lh_status lh_idmap_reserve(struct lh_idmap *map, uint32_t total)
{
    if (has_room(&map->now, total))
        return LH_OK;
    uint64_t capacity = map->now.capacity ? map->now.capacity : CAPACITY_MIN;
    while (capacity * 4 < (uint64_t)total * 5)
        capacity *= 2;
    if (capacity > UINT32_MAX / 2 + 1ull)
        return LH_OUT_OF_MEMORY;
    struct lh_idmap_slot *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return LH_OUT_OF_MEMORY;
    migrate(map, UINT32_MAX); /* a growth in mid-growth: only after a very large batch */
    map->old = map->now;
    map->now = (struct lh_idmap_table){.slots = slots, .capacity = (uint32_t)capacity};
    map->cursor = 0;
    map->visited = 0;
    while (map->old.capacity != 0 && map->old.slots[map->cursor].node_plus_1 != 0)
        map->cursor++; /* start between two clusters; the load leaves free slots */
    return LH_OK;
}

void lh_idmap_put(struct lh_idmap *map, uint64_t hash, uint32_t node)
{
    migrate(map, SLOTS_A_MIGRATE);
    insert(&map->now, (struct lh_idmap_slot){node + 1, (uint32_t)hash});
}

static bool drop_from(struct lh_idmap_table *table, uint32_t tag, uint32_t node)
{
    if (table->capacity == 0)
        return false;
    uint32_t mask = table->capacity - 1;
    uint32_t hole = home_of(table, tag);
    while (table->slots[hole].node_plus_1 != node + 1) {
        if (table->slots[hole].node_plus_1 == 0)
            return false;
        hole = (hole + 1) & mask;
    }
    for (uint32_t at = (hole + 1) & mask; table->slots[at].node_plus_1 != 0; at = (at + 1) & mask) {
        uint32_t home = home_of(table, table->slots[at].tag);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->slots[hole] = table->slots[at];
            hole = at;
        }
    }
    table->slots[hole] = (struct lh_idmap_slot){0};
    table->count--;
    return true;
}

void lh_idmap_drop(struct lh_idmap *map, uint64_t hash, uint32_t node)
{
    bool found =
        drop_from(&map->now, (uint32_t)hash, node) || drop_from(&map->old, (uint32_t)hash, node);
    assert(found);
    (void)found;
}

uint64_t lh_idmap_bytes(const struct lh_idmap *map)
{
    return ((uint64_t)map->now.capacity + map->old.capacity) * sizeof(struct lh_idmap_slot);
}
