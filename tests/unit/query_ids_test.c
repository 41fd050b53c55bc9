/* Ids of queries: random UUIDs, none twice. */
#include "actors/query_ids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uuid/uuid.h>

#define IDS 2000u /* a page of random bytes is for 256 */

static int compare(const void *one, const void *other)
{
    return strcmp(one, other);
}

static void ids_are_random_uuids_and_none_comes_twice(void **state)
{
    static char ids[IDS][37];
    struct lh_query_ids source = {0};
    unsigned char seen[16] = {0}; /* bits that were set in some id */
    unsigned char always[16];     /* and in all */
    uuid_t uuid;
    (void)state;
    memset(always, 0xff, sizeof always);
    for (unsigned i = 0; i < IDS; i++) {
        lh_query_ids_next(&source, ids[i]);
        assert_int_equal(uuid_parse(ids[i], uuid), 0);
        assert_int_equal(uuid_type(uuid), UUID_TYPE_DCE_RANDOM);
        assert_int_equal(uuid_variant(uuid), UUID_VARIANT_DCE);
        for (unsigned at = 0; at < sizeof uuid; at++) {
            seen[at] |= uuid[at];
            always[at] &= uuid[at];
        }
    }
    for (unsigned at = 0; at < sizeof uuid; at++) { /* but for version and variant, all bits vary */
        assert_int_equal(seen[at], at == 6 ? 0x4f : at == 8 ? 0xbf : 0xff);
        assert_int_equal(always[at], at == 6 ? 0x40 : at == 8 ? 0x80 : 0);
    }
    qsort(ids, IDS, sizeof *ids, compare);
    for (unsigned i = 1; i < IDS; i++)
        assert_string_not_equal(ids[i - 1], ids[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_random_uuids_and_none_comes_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
