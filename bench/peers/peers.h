/* hnswlib and faiss behind C: built, searched and read link by link. */
#ifndef LH_BENCH_PEERS_H
#define LH_BENCH_PEERS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lh_peer_options {
    uint32_t dimension;
    uint32_t capacity;
    uint32_t m;
    uint32_t ef_construction;
    uint32_t seed;
};

/* One library's graph. Rows are unit vectors compared by inner product; a row's number is the
 * order in which it was added. */
struct lh_peer;

/* One library. */
struct lh_peer_kind {
    const char *name;
    struct lh_peer *(*create)(const struct lh_peer_options *options);
    void (*destroy)(struct lh_peer *peer);
    void (*add)(struct lh_peer *peer, const float *rows, uint32_t count);
    uint32_t (*search)(struct lh_peer *peer, const float *query, uint32_t k, uint32_t ef,
                       uint32_t *rows);
    uint32_t (*entry)(const struct lh_peer *peer);
    uint32_t (*level)(const void *peer, uint32_t row);
    uint32_t (*links)(const void *peer, uint32_t row, uint32_t level, uint32_t *linked);
};

/* Both at one thread. faiss takes no seed: its levels come from a fixed one. */
extern const struct lh_peer_kind lh_peer_hnswlib;
extern const struct lh_peer_kind lh_peer_faiss;

#ifdef __cplusplus
}
#endif

#endif
