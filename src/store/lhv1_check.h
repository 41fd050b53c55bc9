/* Whether an index file is whole: its envelope and the checksum of every section, or, of version 1,
 * which has none, every item. What is inside a section is checked when it is loaded. */
#ifndef LH_STORE_LHV1_CHECK_H
#define LH_STORE_LHV1_CHECK_H

#include "store/lhv1.h"

/* Reads the file to its end. LH_CORRUPT names the place; the envelope is the caller's on LH_OK. */
LH_MUST_USE enum lh_status lh_lhv1_check(struct lh_disk *disk, int file,
                                         struct lh_lhv1_envelope *envelope, struct lh_error *error);

#endif
