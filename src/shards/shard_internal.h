/* What shard.c and the sections share: a shard's state. */
#ifndef LH_SHARDS_SHARD_INTERNAL_H
#define LH_SHARDS_SHARD_INTERNAL_H

#include "shards/heap.h"
#include "shards/idmap.h"
#include "shards/section.h"
#include "shards/shard.h"

#define LH__METADATA_BIT 0x80000000u /* in a heap record's word: metadata, not an id */

struct lh_shard {
    struct lh_graph *graph;
    uint32_t dimension;
    struct lh_idmap ids;
    struct lh_heap heap;
    uint32_t *id_at;       /* node -> heap offset, or LH_HEAP_NONE */
    uint32_t *metadata_at; /* node -> heap offset, or LH_HEAP_NONE */
    uint32_t node_capacity;
    uint64_t promised_nodes;
    float *group_rows; /* rows on their way into the graph */
    struct lh_hit *hits;
    uint32_t hit_capacity;
    struct lh_section_writer *section; /* NULL when none is being written */
};

/* Room for the heap offsets of `nodes` nodes. */
LH_MUST_USE enum lh_status lh__shard_reserve_tables(struct lh_shard *shard, uint64_t nodes);

/* section.c: puts the item of a node aside if it is part of the section and has not been read. */
void lh__section_put_item(struct lh_section_writer *writer, uint32_t node);

/* Comes before every change of a node's id or metadata. */
static inline void lh__touch_item(struct lh_shard *shard, uint32_t node)
{
    if (__builtin_expect(shard->section != NULL, 0))
        lh__section_put_item(shard->section, node);
}

#endif
