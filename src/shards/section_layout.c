/* A section's header. Any thread; pure functions.
 *
 * Every number but a few counts follows from the others, so a header is checked by making it again
 * from those: what differs is wrong. */
#include "shards/section_layout.h"

#include "base/limits.h"
#include <inttypes.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they are");

/* The header's bytes, little-endian; the rest of it is zero. */
struct header {
    char magic[8];
    uint32_t version;
    uint32_t dimension;
    uint32_t distance;
    uint32_t m;
    uint64_t seed;
    uint32_t slots;
    uint32_t live;
    uint32_t upper_blocks;
    uint32_t entry;
    float norm_scale;
    uint32_t header_bytes;
    uint64_t length;
    uint64_t at[LH__SECTION_TABLES];
    uint64_t bytes[LH__SECTION_TABLES];
};
_Static_assert(sizeof(struct header) == 64 + 2 * 8 * LH__SECTION_TABLES, "no padding");
_Static_assert(sizeof(struct header) <= LH__SECTION_HEADER_BYTES, "it fits");

static const char magic[8] = "LHSHARD";

void lh__section_layout(const struct lh_graph *graph, const struct lh_graph_shape *shape,
                        uint64_t items_bytes, struct lh__section_layout *layout)
{
    uint64_t at = LH__SECTION_HEADER_BYTES;
    layout->shape = *shape;
    for (int table = 0; table < LH__SECTION_TABLES; table++) {
        layout->at[table] = at;
        layout->bytes[table] = table == LH__SECTION_ITEMS
                                   ? items_bytes
                                   : lh_graph_table_bytes(graph, shape, (enum lh_graph_table)table);
        layout->length = at + layout->bytes[table];
        at = (layout->length + LH__SECTION_ALIGN_BYTES - 1) / LH__SECTION_ALIGN_BYTES *
             LH__SECTION_ALIGN_BYTES;
    }
}

void lh__section_header_encode(const struct lh_graph_options *options,
                               const struct lh__section_layout *layout, char *out)
{
    struct header header = {.version = LH__SECTION_VERSION,
                            .dimension = options->dimension,
                            .distance = options->distance,
                            .m = options->m,
                            .seed = options->seed,
                            .slots = layout->shape.slots,
                            .live = layout->shape.live,
                            .upper_blocks = layout->shape.upper_blocks,
                            .entry = layout->shape.entry,
                            .norm_scale = layout->shape.norm_scale,
                            .header_bytes = LH__SECTION_HEADER_BYTES,
                            .length = layout->length};
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.at, layout->at, sizeof header.at);
    memcpy(header.bytes, layout->bytes, sizeof header.bytes);
    memset(out, 0, LH__SECTION_HEADER_BYTES);
    memcpy(out, &header, sizeof header);
}

static enum lh_status check_options(const struct header *header,
                                    const struct lh_graph_options *options, struct lh_error *error)
{
    if (memcmp(header->magic, magic, sizeof magic) != 0)
        return lh_error_set(error, LH_CORRUPT, "section header: not that of a shard");
    if (header->version != LH__SECTION_VERSION)
        return lh_error_set(error, LH_NOT_IMPLEMENTED,
                            "section header: version %u, this server reads version %u",
                            header->version, LH__SECTION_VERSION);
    if (header->dimension != options->dimension || header->distance != options->distance ||
        header->m != options->m || header->seed != options->seed)
        return lh_error_set(error, LH_CORRUPT,
                            "section header: dimension %u, distance %u, m %u, seed %" PRIu64
                            "; the index has %u, %u, %u, %" PRIu64,
                            header->dimension, header->distance, header->m, header->seed,
                            options->dimension, options->distance, options->m, options->seed);
    return LH_OK;
}

enum lh_status lh__section_header_decode(const char *in, uint64_t length,
                                         const struct lh_graph *graph,
                                         const struct lh_graph_options *options,
                                         struct lh__section_layout *layout, struct lh_error *error)
{
    struct header header;
    char again[LH__SECTION_HEADER_BYTES];
    memcpy(&header, in, sizeof header);
    enum lh_status status = check_options(&header, options, error);
    if (status != LH_OK)
        return status;
    struct lh_graph_shape shape = {.slots = header.slots,
                                   .live = header.live,
                                   .upper_blocks = header.upper_blocks,
                                   .entry = header.entry,
                                   .norm_scale = header.norm_scale};
    uint64_t items_bytes = header.bytes[LH__SECTION_ITEMS];
    if (items_bytes > length)
        return lh_error_set(error, LH_CORRUPT,
                            "section header: %" PRIu64 " bytes of items in %" PRIu64 " bytes",
                            items_bytes, length);
    lh__section_layout(graph, &shape, items_bytes, layout);
    if (layout->length != length)
        return lh_error_set(error, LH_CORRUPT,
                            "section header: %u slots, %u blocks of upper links and %" PRIu64
                            " bytes of items take %" PRIu64 " bytes, the section has %" PRIu64,
                            shape.slots, shape.upper_blocks, items_bytes, layout->length, length);
    lh__section_header_encode(options, layout, again);
    for (uint32_t i = 0; i < LH__SECTION_HEADER_BYTES; i++) {
        if (again[i] != in[i])
            return lh_error_set(error, LH_CORRUPT, "section header: byte %u", i);
    }
    return LH_OK;
}
