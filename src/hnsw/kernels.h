/* What the graph asks of a processor: everything on the hot path, compiled once for each
 * instruction set and chosen at start. Each set is one file that defines a few primitives and
 * includes traverse.inc. */
#ifndef LH_HNSW_KERNELS_H
#define LH_HNSW_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lh_graph;
struct lh__pool;
struct lh__walk;

/* How codes of two vectors become a distance that orders like the true one. */
enum lh__metric {
    LH__UNIT,     /* int8 directions: base - slope * dot */
    LH__WEIGHTED, /* int8 directions and norms: base + w * (square * w - slope * dot) */
    LH__FLAT_DOT, /* float32, few dimensions: base - slope * dot */
    LH__FLAT_L2   /* float32, few dimensions: sum of squared differences */
};

/* One vector to compare others with: a search's, or a node of the graph. */
struct lh__query {
    const int8_t *code; /* code_bytes, 64-byte aligned */
    const uint64_t *signs;
    float base;
    float slope;
};

/* Candidates of the selection heuristic, nearest first. */
struct lh__candidates {
    const float *distances;
    const uint32_t *nodes;
    const bool *checked; /* NULL: none was compared with another before */
    uint32_t count;
};

struct lh__selection {
    float *distances;
    uint32_t *nodes;
    uint32_t keep;  /* at most this many by the heuristic */
    uint32_t fill;  /* then up to this many with the nearest that it pruned */
    float alpha;    /* above 1 keeps fewer near-duplicates of a direction */
    uint32_t kept;  /* out: by the heuristic; these stand first */
    uint32_t count; /* out */
};

struct lh__kernels {
    const char *name;
    bool (*usable)(void);

    /* Distances of `count` nodes from `query`. */
    void (*distances)(struct lh_graph *graph, const struct lh__query *query, const uint32_t *nodes,
                      uint32_t count, float *distances);

    /* Beam searches of one level, in step. Each pool holds the entry points, and afterwards the
     * nearest found. Called again with other limits, it goes on from where it ended: a candidate
     * that was expanded and fell behind is read once more, and has nothing new. */
    void (*beam)(struct lh_graph *graph, struct lh__walk *walks, uint32_t count, uint32_t level);

    /* Puts a candidate in its place, unless it is not below the bound. */
    void (*pool_put)(struct lh__pool *pool, float distance, uint32_t node);

    /* Malkov and Yashunin's neighbour selection (algorithm 4), with alpha. */
    void (*select)(struct lh_graph *graph, const struct lh__candidates *candidates,
                   struct lh__selection *selection);

    /* Encoding: these four have the same bits in every set. */

    /* Euclidean norm. */
    double (*norm)(const float *row, uint32_t dimension);

    /* Another array; stored as widely as rotate loads it, so that it need not wait. */
    void (*scale)(const float *row, uint32_t dimension, float scale, float *scaled);

    /* Orthogonal rotation in place: random signs, then Hadamard transforms. */
    void (*rotate)(float *row, uint32_t dimension, const uint32_t *signs);

    /* Scale, round to nearest, clamp to -127..127. */
    void (*quantise)(const float *row, uint32_t dimension, float scale, int8_t *code);

    /* Float32 rows of any length and alignment. */
    float (*dot)(const float *a, const float *b, size_t length);
    float (*l2)(const float *a, const float *b, size_t length);

    /* Four int8 dot products; `bytes` is a multiple of 64, everything 64-byte aligned. */
    void (*code_dot4)(const int8_t *query, const int8_t *const codes[4], size_t bytes,
                      float dots[4]);

    /* Differing bits of four times LH__SIGN_WORDS words, 64-byte aligned. */
    void (*hamming4)(const uint64_t *signs, const uint64_t *const x[4], int32_t bits[4]);
};

/* The i-th set compiled in, best first; NULL past the end. Not all need be usable here. */
const struct lh__kernels *lh__kernels_at(size_t i);

/* The best set that this processor has. */
const struct lh__kernels *lh__kernels_best(void);

extern const struct lh__kernels lh__kernels_scalar;
extern const struct lh__kernels lh__kernels_avx2;
extern const struct lh__kernels lh__kernels_avx512;
extern const struct lh__kernels lh__kernels_avx512_vnni;
extern const struct lh__kernels lh__kernels_neon;

#endif
