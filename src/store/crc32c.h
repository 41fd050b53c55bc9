/* CRC32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where it has one. Any
 * thread; no state. */
#ifndef LH_STORE_CRC32C_H
#define LH_STORE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lh_crc32c {
    const char *name;
    bool (*usable)(void);
    /* The CRC of what `crc` is the CRC of, followed by these bytes; of nothing it is 0. */
    uint32_t (*extend)(uint32_t crc, const void *bytes, size_t len);
};

/* The fastest that this processor has: ask once, keep the answer. */
const struct lh_crc32c *lh_crc32c_best(void);

/* All that were compiled in, fastest first, NULL behind the last: for tests. */
const struct lh_crc32c *lh_crc32c_at(size_t i);

#endif
