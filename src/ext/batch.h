/* How a batch is filled: by the decoder from JSON, and by the log from its records. */
#ifndef LH_EXT_BATCH_H
#define LH_EXT_BATCH_H

#include "ext/decode.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A batch of nothing, which lh_batch_deinit takes. */
void lh_batch_init(struct lh_batch *batch);

/* Room for `len` bytes that live as long as the batch; NULL: out of memory. */
char *lh_batch_bytes(struct lh_batch *batch, size_t len);

/* Gives back the last `len` bytes of the last lh_batch_bytes. */
void lh_batch_give_back(struct lh_batch *batch, size_t len);

/* Appends an item without a row. */
LH_MUST_USE enum lh_status lh_batch_add(struct lh_batch *batch, const struct lh_batch_item *item);

/* Appends an item with its row of item->dimension > 0 floats. `rows_expected` is a guess of how
 * many the batch will have in all. */
LH_MUST_USE enum lh_status lh_batch_add_row(struct lh_batch *batch,
                                            const struct lh_batch_item *item, const float *row,
                                            size_t rows_expected);

#ifdef __cplusplus
}
#endif

#endif
