/* Where things stand in a section: the header's numbers and the places that follow from them.
 * docs/FORMAT.md has the bytes. Pure functions. */
#ifndef LH_SHARDS_SECTION_LAYOUT_H
#define LH_SHARDS_SECTION_LAYOUT_H

#include "hnsw/snapshot.h"

#define LH__SECTION_HEADER_BYTES 4096u
#define LH__SECTION_VERSION      1u
#define LH__SECTION_ALIGN_BYTES  64u

/* An item: length of its id (2 bytes), of its metadata (4 bytes), then both. */
#define LH__ITEM_HEAD_BYTES  6u
#define LH__ITEM_NO_METADATA 0xffffffffu

/* The graph's tables, then the items. */
#define LH__SECTION_ITEMS  LH_GRAPH_TABLES
#define LH__SECTION_TABLES (LH_GRAPH_TABLES + 1)

struct lh__section_layout {
    struct lh_graph_shape shape;
    uint64_t at[LH__SECTION_TABLES]; /* from the section's begin */
    uint64_t bytes[LH__SECTION_TABLES];
    uint64_t length;
};

/* The layout of a shape, with `items_bytes` bytes of items, in a graph of `graph`'s options. */
void lh__section_layout(const struct lh_graph *graph, const struct lh_graph_shape *shape,
                        uint64_t items_bytes, struct lh__section_layout *layout);

/* Writes LH__SECTION_HEADER_BYTES. */
void lh__section_header_encode(const struct lh_graph_options *options,
                               const struct lh__section_layout *layout, char *header);

/* Reads the header of a section of `length` bytes of an index with these options. Counts are
 * believed only as far as the length bears them out. */
LH_MUST_USE enum lh_status lh__section_header_decode(const char *header, uint64_t length,
                                                     const struct lh_graph *graph,
                                                     const struct lh_graph_options *options,
                                                     struct lh__section_layout *layout,
                                                     struct lh_error *error);

#endif
