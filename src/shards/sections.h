/* A worker's part in checkpoints and loading: sections in slices. Private to this folder. */
#ifndef LH_SHARDS_SECTIONS_H
#define LH_SHARDS_SECTIONS_H

#include "shards/parts.h"

/* What one slice has led to. */
enum lh__slice {
    LH__SLICE_DONE,  /* the part is finished */
    LH__SLICE_MORE,  /* another slice is to come: behind what else waits */
    LH__SLICE_PARKED /* it waits for a block, which brings it back */
};

void lh__section_freeze(struct lh_part *part);
void lh__section_thaw(struct lh_part *part);
enum lh__slice lh__section_stream(struct lh_part *part, struct lh_actor *worker);
enum lh__slice lh__section_load(struct lh_part *part);

/* A block has come back. True: its part is to be put into the queue again. */
bool lh__section_block_back(struct lh_block *block);

#endif
