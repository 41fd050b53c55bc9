/* store/crc32c: published vectors, and every way of computing it against the definition. */
#include "store/crc32c.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* One bit at a time, as the polynomial says. */
static uint32_t by_definition(uint32_t crc, const unsigned char *bytes, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void published_values_come_out(void **state)
{
    unsigned char bytes[32];
    for (size_t i = 0; lh_crc32c_at(i) != NULL; i++) {
        const struct lh_crc32c *crc = lh_crc32c_at(i);
        if (!crc->usable())
            continue;
        assert_int_equal(crc->extend(0, "123456789", 9), 0xe3069283u);
        memset(bytes, 0, sizeof bytes); /* RFC 3720, appendix B.4 */
        assert_int_equal(crc->extend(0, bytes, sizeof bytes), 0x8a9136aau);
        memset(bytes, 0xff, sizeof bytes);
        assert_int_equal(crc->extend(0, bytes, sizeof bytes), 0x62a8ab43u);
        for (unsigned n = 0; n < 32; n++)
            bytes[n] = (unsigned char)n;
        assert_int_equal(crc->extend(0, bytes, sizeof bytes), 0x46dd794eu);
    }
}

static void all_ways_agree_at_every_length_and_place(void **state)
{
    enum { BYTES = 8000 };
    unsigned char *bytes = malloc(BYTES);
    uint64_t rng = lh_test_seed();
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)lh_test_next(&rng);
    for (int round = 0; round < 2000; round++) {
        size_t at = lh_test_below(&rng, 64);
        size_t len = round < 700 ? (size_t)round : lh_test_below(&rng, BYTES - 64);
        uint32_t from = (uint32_t)lh_test_next(&rng);
        uint32_t want = by_definition(from, bytes + at, len);
        for (size_t i = 0; lh_crc32c_at(i) != NULL; i++)
            if (lh_crc32c_at(i)->usable())
                assert_int_equal(lh_crc32c_at(i)->extend(from, bytes + at, len), want);
    }
    free(bytes);
}

static void the_best_one_can_be_used(void **state)
{
    assert_true(lh_crc32c_best()->usable());
    assert_null(lh_crc32c_at(100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_values_come_out),
        cmocka_unit_test(all_ways_agree_at_every_length_and_place),
        cmocka_unit_test(the_best_one_can_be_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
