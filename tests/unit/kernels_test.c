/* Every kernel set that this processor has against the scalar one. */
#include "graph_testing.h"

#include <float.h>

#define LENGTH_MAX 2048u

typedef void kernel_check(const struct lh__kernels *kernels, uint64_t *random);

static void for_each_set(kernel_check *check, const char *test)
{
    for (size_t i = 0; lh__kernels_at(i) != NULL; i++) {
        const struct lh__kernels *kernels = lh__kernels_at(i);
        uint64_t random = testing_seed(test);
        printf("%s: %s\n", kernels->name, kernels->usable() ? "checked" : "not on this processor");
        if (kernels->usable()) {
            check(kernels, &random);
        }
    }
}

static bool near(float a, float b, float scale)
{
    return fabsf(a - b) <= 1e-5f * scale + 1e-6f;
}

static void check_rows(const struct lh__kernels *kernels, uint64_t *random)
{
    static float a[LENGTH_MAX + 16], b[LENGTH_MAX + 16];
    for (size_t i = 0; i < LENGTH_MAX + 16; i++) {
        a[i] = testing_uniform(random);
        b[i] = testing_uniform(random);
    }
    for (size_t length = 1; length <= LENGTH_MAX; length += length < 140 ? 1 : 101) {
        for (size_t offset = 0; offset < 3; offset++) {
            const float *x = a + offset, *y = b + 2 * offset;
            assert_true(near(kernels->dot(x, y, length), lh__kernels_scalar.dot(x, y, length),
                             sqrtf((float)length)));
            assert_true(near(kernels->l2(x, y, length), lh__kernels_scalar.l2(x, y, length),
                             (float)length));
        }
    }
}

static void float_kernels_agree_at_every_length(void **state)
{
    (void)state;
    for_each_set(check_rows, __func__);
}

static void check_codes(const struct lh__kernels *kernels, uint64_t *random)
{
    static _Alignas(64) int8_t codes[5][LENGTH_MAX];
    const int8_t *x[4] = {codes[1], codes[2], codes[3], codes[4]};
    for (int extreme = 0; extreme < 2; extreme++) {
        for (size_t i = 0; i < 5; i++) {
            for (size_t j = 0; j < LENGTH_MAX; j++) {
                int value = (int)(testing_random(random) % 255) - 127;
                codes[i][j] = (int8_t)(extreme ? (value < 0 ? -127 : 127) : value);
            }
        }
        if (extreme) {
            memset(codes[0], 127, LENGTH_MAX);
            memset(codes[1], 127, LENGTH_MAX); /* sums that 16 bits would not hold */
            memset(codes[2], -127, LENGTH_MAX);
        }
        for (size_t bytes = 64; bytes <= LENGTH_MAX; bytes += 64) {
            float got[4], want[4];
            kernels->code_dot4(codes[0], x, bytes, got);
            lh__kernels_scalar.code_dot4(codes[0], x, bytes, want);
            assert_memory_equal(got, want, sizeof want);
        }
    }
}

static void code_kernels_agree_exactly(void **state)
{
    (void)state;
    for_each_set(check_codes, __func__);
}

static void check_signs(const struct lh__kernels *kernels, uint64_t *random)
{
    static _Alignas(64) uint64_t signs[5][LH__SIGN_WORDS];
    const uint64_t *x[4] = {signs[1], signs[2], signs[3], signs[4]};
    for (uint32_t round = 0; round < 100; round++) {
        int32_t got[4], want[4];
        for (uint32_t i = 0; i < 5 * LH__SIGN_WORDS; i++) {
            signs[i / LH__SIGN_WORDS][i % LH__SIGN_WORDS] = testing_random(random);
        }
        kernels->hamming4(signs[0], x, got);
        lh__kernels_scalar.hamming4(signs[0], x, want);
        assert_memory_equal(got, want, sizeof want);
    }
}

static void hamming_kernels_agree_exactly(void **state)
{
    (void)state;
    for_each_set(check_signs, __func__);
}

/* Also of nothing but zeros, of the largest and the smallest numbers, and of what is not finite. */
static void check_norms(const struct lh__kernels *kernels, uint64_t *random)
{
    static const float odd[] = {0.0f, FLT_MAX, FLT_TRUE_MIN, INFINITY};
    static float row[LENGTH_MAX];
    for (uint32_t dimension = 1; dimension <= LENGTH_MAX; dimension += dimension < 140 ? 1 : 101) {
        for (uint32_t kind = 0; kind < 5; kind++) {
            double squares = 0;
            for (uint32_t i = 0; i < dimension; i++) {
                row[i] = kind < 4 ? odd[kind] : testing_uniform(random);
                squares += (double)row[i] * row[i];
            }
            double norm = kernels->norm(row, dimension);
            double scalar = lh__kernels_scalar.norm(row, dimension);
            assert_memory_equal(&norm, &scalar, sizeof norm);
            assert_true(norm == sqrt(squares) || fabs(norm / sqrt(squares) - 1.0) < 1e-12);
        }
    }
}

static void norms_have_the_same_bits_in_every_set(void **state)
{
    (void)state;
    for_each_set(check_norms, __func__);
}

static void check_rotation(const struct lh__kernels *kernels, uint64_t *random)
{
    static float row[LENGTH_MAX], scalar[LENGTH_MAX], scaled[LENGTH_MAX + 1];
    static uint32_t signs[LENGTH_MAX];
    static int8_t code[LENGTH_MAX + 1], scalar_code[LENGTH_MAX];
    for (uint32_t dimension = LH__FLAT_DIMENSIONS + 1; dimension <= LENGTH_MAX;
         dimension += dimension < 140 ? 1 : 101) {
        double before = 0, after = 0;
        for (uint32_t i = 0; i < dimension; i++) {
            row[i] = scalar[i] = testing_uniform(random);
            signs[i] = (uint32_t)testing_random(random);
            before += (double)row[i] * row[i];
        }
        scaled[dimension] = 99.0f;
        kernels->scale(row, dimension, 0.3f, scaled);
        for (uint32_t i = 0; i < dimension; i++) {
            assert_true(scaled[i] == row[i] * 0.3f);
        }
        assert_true(scaled[dimension] == 99.0f);
        kernels->rotate(row, dimension, signs);
        lh__kernels_scalar.rotate(scalar, dimension, signs);
        assert_memory_equal(row, scalar, dimension * sizeof *row);
        for (uint32_t i = 0; i < dimension; i++) {
            after += (double)row[i] * row[i];
        }
        assert_true(fabs(before - after) <= 1e-4 * before);
        code[dimension] = 99;
        kernels->quantise(row, dimension, 50.0f, code);
        lh__kernels_scalar.quantise(row, dimension, 50.0f, scalar_code);
        assert_memory_equal(code, scalar_code, dimension);
        assert_int_equal(code[dimension], 99);
        for (uint32_t i = 0; i < dimension; i++) {
            float exact = fmaxf(-127.0f, fminf(127.0f, row[i] * 50.0f));
            assert_true(fabsf((float)code[i] - exact) <= 0.501f);
        }
    }
}

/* The transform by its definition: the sum over the signs of common bits. */
static void check_transform(const struct lh__kernels *kernels, uint64_t *random)
{
    static float row[1024];
    static double expected[1024], once[1024];
    static uint32_t signs[1024];
    for (uint32_t length = 32; length <= 1024; length *= 2) {
        for (uint32_t i = 0; i < length; i++) {
            row[i] = testing_uniform(random);
            signs[i] = (uint32_t)testing_random(random);
            expected[i] = row[i];
        }
        for (uint32_t round = 0; round < 2; round++) {
            memcpy(once, expected, sizeof once);
            for (uint32_t i = 0; i < length; i++) {
                expected[i] = 0;
                for (uint32_t j = 0; j < length; j++) {
                    bool minus = ((signs[j] << round) & 0x80000000u) != 0;
                    minus ^= __builtin_parity(i & j);
                    expected[i] += (minus ? -once[j] : once[j]) / sqrt(length);
                }
            }
        }
        kernels->rotate(row, length, signs);
        for (uint32_t i = 0; i < length; i++) {
            assert_true(fabs(row[i] - expected[i]) <= 1e-5);
        }
    }
}

static void rotation_has_the_same_bits_in_every_set(void **state)
{
    (void)state;
    for_each_set(check_rotation, __func__);
}

static void rotation_is_two_rounds_of_signs_and_hadamard(void **state)
{
    (void)state;
    for_each_set(check_transform, __func__);
}

static void check_pool(const struct lh__kernels *kernels, uint64_t *random)
{
    for (uint32_t capacity = 1; capacity <= 130; capacity++) {
        struct lh__pool pool = {0};
        float sorted[400];
        uint32_t count = 0;
        assert_int_equal(lh__pool_reserve(&pool, capacity), LH_OK);
        lh__pool_reset(&pool, capacity);
        for (uint32_t i = 0; i < 400; i++) {
            float distance = (float)(testing_random(random) % 300);
            uint32_t at = count++;
            for (; at > 0 && sorted[at - 1] > distance; at--) {
                sorted[at] = sorted[at - 1];
            }
            sorted[at] = distance;
            kernels->pool_put(&pool, distance, (uint32_t)distance);
            uint32_t expected = count < capacity ? count : capacity;
            assert_int_equal(pool.count, expected);
            for (uint32_t j = 0; j < expected; j++) {
                assert_true(pool.distances[j] == sorted[j]);
                assert_int_equal(pool.nodes[j], (uint32_t)sorted[j]);
            }
            assert_true(isinf(pool.distances[expected]));
        }
        lh__pool_deinit(&pool);
    }
}

static void pools_hold_the_nearest_in_order(void **state)
{
    (void)state;
    for_each_set(check_pool, __func__);
}

static void check_graph(const struct lh__kernels *kernels, uint64_t *random)
{
    const uint32_t dimensions[] = {3, 100, 600};
    for (size_t i = 0; i < 9; i++) {
        uint32_t dimension = dimensions[i % 3];
        struct lh_graph_options options = {.dimension = dimension,
                                           .distance = (enum lh_distance)(i / 3),
                                           .m = 16,
                                           .ef_construction = 100,
                                           .seed = 1};
        struct lh_graph *graph;
        float row[600];
        assert_int_equal(lh__graph_create(&options, kernels, &graph), LH_OK);
        for (uint32_t j = 0; j < 1500; j++) {
            testing_row(random, dimension, row);
            testing_add(graph, row);
        }
        testing_validate(graph);
        assert_true(testing_recall(graph, *random, 20, 100) >= 0.95);
        lh_graph_destroy(graph);
    }
}

static void a_graph_works_on_every_set(void **state)
{
    (void)state;
    for_each_set(check_graph, __func__);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_kernels_agree_at_every_length),
        cmocka_unit_test(code_kernels_agree_exactly),
        cmocka_unit_test(hamming_kernels_agree_exactly),
        cmocka_unit_test(norms_have_the_same_bits_in_every_set),
        cmocka_unit_test(rotation_has_the_same_bits_in_every_set),
        cmocka_unit_test(rotation_is_two_rounds_of_signs_and_hadamard),
        cmocka_unit_test(pools_hold_the_nearest_in_order),
        cmocka_unit_test(a_graph_works_on_every_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
