/* Rows as codes, and exact distances of rows. The owner of the graph runs it.
 *
 * A row is normalised, rotated (a randomised Hadamard transform evens out the outlier dimensions of
 * real embeddings) and quantised to int8 with one scale for all; euclidean and dot keep the norm
 * beside the code. Up to LH__FLAT_DIMENSIONS dimensions the code is the row itself in float32:
 * it is no longer than an int8 code's cache line, and directions in a few int8 would not do.
 *
 * Finite rows of any norm give finite codes and weights. Norms are scaled so that the largest that
 * came stays below WEIGHT_MAX, whose square times four is finite in float32; a larger one changes
 * the scale, and all weights with it. The scale is a power of two, so distances keep their order,
 * and it moves by enough that there are no more than a dozen changes between the smallest float32
 * and the largest. Squares vanish for norms a factor 2^100 (10^30) below the largest: those nodes
 * are compared as if they were zero. Exact distances leave float32 for double where squares would
 * overflow or vanish. */
#include "hnsw/graph_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define CLIP_DEVIATIONS 5.0f /* of a unit vector's coordinate; beyond, a code saturates */
#define FILTER_MARGIN   0.5f /* standard deviations of a Hamming distance */
#define WEIGHT_MAX      0x1p60f
#define WEIGHT_EXPONENT 40  /* of the norm that a scale is chosen for: 10^6 times it still fits */
#define SCALE_EXPONENT  126 /* the largest, for the smallest norms */
#define PLAIN_NORM_MIN  1e-12f
#define PLAIN_NORM_MAX  1e12f

/* Hamming limits by distance: the expected number of differing signs at that angle and a margin. */
void lh__codes_init(struct lh_graph *graph)
{
    const struct lh_graph_options *options = &graph->options;
    float clip = fminf(1.0f, CLIP_DEVIATIONS / sqrtf((float)options->dimension));
    graph->code_scale = 127.0f / clip;
    graph->slope = graph->metric == LH__FLAT_DOT || graph->metric == LH__FLAT_L2
                       ? 1.0f
                       : 1.0f / (graph->code_scale * graph->code_scale);
    graph->square = options->distance == LH_DISTANCE_EUCLIDEAN ? 1.0f : 0.0f;
    for (uint32_t i = 0; i <= LH__SIGN_LIMITS; i++) {
        double cosine = 1.0 - 2.0 * i / LH__SIGN_LIMITS;
        double p = acos(cosine) / M_PI;
        double limit = LH__SIGN_BITS * p + FILTER_MARGIN * sqrt(LH__SIGN_BITS * p * (1.0 - p));
        graph->sign_limits[i] = (uint16_t)limit;
    }
}

static void encode_flat(const struct lh_graph *graph, const float *row, double norm, float *code)
{
    double scale = graph->options.distance == LH_DISTANCE_COSINE
                       ? (norm > 0 ? 1.0 / norm : 0.0)
                       : (graph->norm_scale > 0 ? graph->norm_scale : 1.0);
    memset(code, 0, LH__FLAT_DIMENSIONS * sizeof *code);
    for (uint32_t i = 0; i < graph->options.dimension; i++) {
        code[i] = (float)fmax(-WEIGHT_MAX, fmin(WEIGHT_MAX, row[i] * scale));
    }
}

static float weight_of(const struct lh_graph *graph, float norm)
{
    return fminf(norm * graph->norm_scale, WEIGHT_MAX);
}

static void signs_of(const int8_t *code, uint64_t *signs)
{
    for (uint32_t i = 0; i < LH__SIGN_WORDS; i++) {
        uint64_t word = 0;
        for (uint32_t j = 0; j < 64; j++) {
            word |= (uint64_t)(code[i * 64 + j] < 0) << j;
        }
        signs[i] = word;
    }
}

void lh__encode(const struct lh_graph *graph, const float *row, struct lh__encoded *encoded)
{
    uint32_t dimension = graph->options.dimension;
    double norm = graph->kernels->norm(row, dimension);
    encoded->norm = (float)fmin(norm, FLT_MAX);
    encoded->weight = weight_of(graph, encoded->norm);
    if (graph->metric == LH__FLAT_DOT || graph->metric == LH__FLAT_L2) {
        encode_flat(graph, row, norm, (float *)(void *)encoded->code);
        return;
    }
    double inverse = norm > 0 ? 1.0 / norm : 0.0;
    if (norm > PLAIN_NORM_MIN && norm < PLAIN_NORM_MAX) {
        graph->kernels->scale(row, dimension, (float)inverse, graph->work);
    } else {
        for (uint32_t i = 0; i < dimension; i++) {
            graph->work[i] = (float)(row[i] * inverse);
        }
    }
    graph->kernels->rotate(graph->work, dimension, graph->rotation);
    graph->kernels->quantise(graph->work, dimension, graph->code_scale, encoded->code);
    memset(encoded->code + dimension, 0, graph->code_bytes - dimension);
    if (graph->filtered) {
        signs_of(encoded->code, encoded->signs);
    }
}

void lh__encode_stored(struct lh_graph *graph, uint32_t node)
{
    struct lh__encoded encoded = {
        .code = graph->t.codes + (size_t)node * graph->code_bytes,
        .signs = graph->filtered ? graph->t.signs + (size_t)node * LH__SIGN_WORDS : NULL,
    };
    lh__encode(graph, lh__row(graph, node), &encoded);
    graph->t.norms[node] = encoded.norm;
    if (graph->metric == LH__WEIGHTED) {
        graph->t.weights[node] = encoded.weight;
    }
}

/* Chooses the scale for a norm, and scales what was there: no row is quantised anew. */
static void rescale(struct lh_graph *graph, float norm)
{
    int exponent = WEIGHT_EXPONENT - ilogbf(norm);
    graph->norm_scale = ldexpf(1.0f, exponent > SCALE_EXPONENT ? SCALE_EXPONENT : exponent);
    for (uint32_t node = 0; node < graph->slots && graph->metric == LH__WEIGHTED; node++) {
        graph->t.weights[node] = weight_of(graph, graph->t.norms[node]);
    }
    bool flat = graph->metric == LH__FLAT_DOT || graph->metric == LH__FLAT_L2;
    for (uint32_t node = 0; flat && node < graph->slots; node++) {
        int8_t *code = graph->t.codes + (size_t)node * graph->code_bytes;
        encode_flat(graph, lh__row(graph, node), graph->t.norms[node], (float *)(void *)code);
    }
}

void lh__encode_node(struct lh_graph *graph, uint32_t node, const float *row)
{
    uint32_t dimension = graph->options.dimension;
    lh__touch_row(graph, node);
    memcpy(graph->t.rows + (size_t)node * dimension, row, dimension * sizeof *row);
    lh__encode_stored(graph, node);
    float norm = graph->options.distance == LH_DISTANCE_COSINE ? 0.0f : graph->t.norms[node];
    if (norm > 0 && (graph->norm_scale == 0.0f || norm * graph->norm_scale > WEIGHT_MAX)) {
        rescale(graph, norm);
    }
}

static bool is_plain(float norm)
{
    return norm > PLAIN_NORM_MIN && norm < PLAIN_NORM_MAX;
}

static double exact_double(const struct lh_graph *graph, const float *a, const float *b)
{
    uint32_t dimension = graph->options.dimension;
    double sum = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        double difference = (double)a[i] - b[i];
        sum += graph->options.distance == LH_DISTANCE_EUCLIDEAN ? difference * difference
                                                                : (double)a[i] * b[i];
    }
    if (graph->options.distance == LH_DISTANCE_COSINE) {
        double norms = graph->kernels->norm(a, dimension) * graph->kernels->norm(b, dimension);
        return norms > 0 ? fmax(0.0, 1.0 - sum / norms) : 1.0;
    }
    return graph->options.distance == LH_DISTANCE_EUCLIDEAN ? sqrt(sum) : -sum;
}

#define DOT_BLOCK 512u /* longer float32 sums drift past the promised 1e-6 */

/* Blocks in float32, their sum in double. */
static double dot_of_rows(const struct lh_graph *graph, const float *a, const float *b)
{
    uint32_t dimension = graph->options.dimension;
    double sum = 0;
    for (uint32_t i = 0; i < dimension; i += DOT_BLOCK) {
        uint32_t left = dimension - i;
        sum += graph->kernels->dot(a + i, b + i, left < DOT_BLOCK ? left : DOT_BLOCK);
    }
    return sum;
}

float lh__exact_distance(const struct lh_graph *graph, const float *query, float query_norm,
                         uint32_t node)
{
    const float *row = lh__row(graph, node);
    float norm = graph->t.norms[node];
    if (!is_plain(norm) || !is_plain(query_norm)) {
        double distance = exact_double(graph, query, row);
        return (float)fmax(-FLT_MAX, fmin(FLT_MAX, distance));
    }
    uint32_t dimension = graph->options.dimension;
    switch (graph->options.distance) {
    case LH_DISTANCE_COSINE:
        return (float)fmax(0.0, 1.0 - dot_of_rows(graph, query, row) / query_norm / norm);
    case LH_DISTANCE_EUCLIDEAN:
        return sqrtf(graph->kernels->l2(query, row, dimension));
    case LH_DISTANCE_DOT:
        break;
    }
    return (float)-dot_of_rows(graph, query, row);
}
