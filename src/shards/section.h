/* A shard as a section of an LHV1 file, out and in. docs/FORMAT.md has the bytes.
 *
 * Out: begin freezes the shard's state as of now, at once and without copying it; the shard goes on
 * being changed while the frozen state is read in slices. What a change would overwrite before it
 * was read is put aside first (one image a node, made at its first change), so reading is
 * sequential and no slice is longer than the caller asks for.
 *
 * In: bytes go straight to where they belong, in any slices; the end checks and indexes them in
 * slices too. The worker that owns the shard calls everything. */
#ifndef LH_SHARDS_SECTION_H
#define LH_SHARDS_SECTION_H

#include "shards/shard.h"

/* ---- out ---- */

struct lh_section_writer;

/* One at a time a shard. LH_OUT_OF_MEMORY: nothing has begun. */
LH_MUST_USE enum lh_status lh_section_begin(struct lh_shard *shard,
                                            struct lh_section_writer **writer);

uint64_t lh_section_length(const struct lh_section_writer *writer); /* known from the begin */
uint32_t lh_section_count(const struct lh_section_writer *writer);  /* items in it */

/* Memory that images have taken so far. */
uint64_t lh_section_bytes(const struct lh_section_writer *writer);

/* The next bytes of the section, up to `len` and half a millisecond's worth; `*got` 0 at its end.
 * LH_OUT_OF_MEMORY: an image could not be put aside since the last call; the section cannot be
 * finished, the shard is unharmed. */
LH_MUST_USE enum lh_status lh_section_read(struct lh_section_writer *writer, void *bytes,
                                           size_t len, size_t *got);

/* Ends it, finished or not, and frees the images. */
void lh_section_end(struct lh_section_writer *writer);

/* ---- in ---- */

struct lh_section_loader;

/* A loader for a section of `length` bytes of an index with these options. LH_CORRUPT: too short.
 */
LH_MUST_USE enum lh_status lh_section_load(const struct lh_graph_options *options, uint64_t length,
                                           struct lh_section_loader **loader);

/* Where the section's next bytes go: the caller reads up to `*len` bytes there (at least one), then
 * says how many with lh_section_filled. NULL: all of it has come. */
void *lh_section_next(struct lh_section_loader *loader, size_t *len);
/* Checks what can be checked so far: the header's counts, before memory is taken for them, and ids
 * and metadata lengths as they come. That metadata is JSON rests on the file's checksum. */
LH_MUST_USE enum lh_status lh_section_filled(struct lh_section_loader *loader, size_t len,
                                             struct lh_error *error);

/* Behind the last byte: checks and indexes up to `nodes` nodes. LH_OK with `*is_done`; LH_CORRUPT
 * names what is wrong; no bytes, whatever they are, make this do anything but that. */
LH_MUST_USE enum lh_status lh_section_finish(struct lh_section_loader *loader, uint32_t nodes,
                                             bool *is_done, struct lh_error *error);

/* XXH3 (64 bits) of all bytes so far. */
uint64_t lh_section_xxh3(const struct lh_section_loader *loader);

/* Gives the finished shard away and frees the loader. Its ids may be any: whether they belong to
 * this shard of the index is the caller's business. */
struct lh_shard *lh_section_take(struct lh_section_loader *loader);
/* Frees a loader and what it holds. */
void lh_section_abandon(struct lh_section_loader *loader);

#endif
