/* The Range header (RFC 9110, section 14.1). */
#ifndef LH_ACTORS_OBJECT_RANGE_H
#define LH_ACTORS_OBJECT_RANGE_H

#include "base/str.h"

struct lh_range {
    bool is_suffix; /* the last `last` bytes */
    uint64_t first;
    uint64_t last; /* included; UINT64_MAX: to the end */
};

/* False for what is answered whole: no range, one of another unit, several, or nonsense, as the RFC
 * allows for all of them. */
bool lh_range_parse(struct lh_str header, struct lh_range *range);

#endif
