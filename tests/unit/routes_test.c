/* actors/routes: each row says who may call it, and for what. */
#include "actors/gateway.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void every_route_says_its_scope(void **state)
{
    for (size_t i = 0; i < lh_route_count; i++) {
        const struct lh_route *route = &lh_routes[i];
        if (route->scope == LH_HTTP_SCOPE_UNSET)
            fail_msg("%s has no scope", route->operation);
        if (route->method != LH_HTTP_GET && route->scope >= LH_HTTP_SCOPE_STATUS)
            fail_msg("%s changes something, and needs no token", route->operation);
    }
    (void)state;
}

/* A token that is limited is let in by what the path names: the row must not say otherwise. */
static void every_route_is_limited_by_what_its_path_names(void **state)
{
    static const char index[] = "/vectors/index/{name}";
    static const char dataset[] = "/catalog/manifest/{name}";
    for (size_t i = 0; i < lh_route_count; i++) {
        const struct lh_route *route = &lh_routes[i];
        bool names_index = strncmp(route->pattern, index, sizeof index - 1) == 0;
        bool names_key = strstr(route->pattern, "{key...}") != NULL;
        bool names_dataset = strncmp(route->pattern, dataset, sizeof dataset - 1) == 0;
        if (names_index != (route->reach == LH_HTTP_REACH_INDEX) ||
            names_key != (route->reach == LH_HTTP_REACH_KEY) ||
            names_dataset != (route->reach == LH_HTTP_REACH_DATASET))
            fail_msg("%s: its reach is not what %s names", route->operation, route->pattern);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_says_its_scope),
        cmocka_unit_test(every_route_is_limited_by_what_its_path_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
