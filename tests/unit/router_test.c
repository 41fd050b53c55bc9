/* The route table as a tree: which row a path leads to, on which port, with which parameters. */
#include "net/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define VECTORS (LH_HTTP_GATEWAY | LH_HTTP_VECTORD)

static const struct lh_route rows[] = {
    {.method = LH_HTTP_GET, .pattern = "/health", .services = LH_HTTP_EVERYWHERE},
    {.method = LH_HTTP_GET, .pattern = "/index", .services = VECTORS},
    {.method = LH_HTTP_POST, .pattern = "/index", .services = VECTORS},
    {.method = LH_HTTP_GET, .pattern = "/index/{name}", .services = VECTORS},
    {.method = LH_HTTP_POST, .pattern = "/index/{name}/add", .services = VECTORS},
    {.method = LH_HTTP_GET, .pattern = "/index/all/{id}", .services = VECTORS},
    {.method = LH_HTTP_GET, .pattern = "/index/{name}/items/{id}", .services = VECTORS},
    {.method = LH_HTTP_GET, .pattern = "/get/{key...}", .services = LH_HTTP_GATEWAY},
};

static char scratch[4096];

static struct lh__match match(const struct lh__router *router, enum lh_http_service service,
                              const char *path)
{
    struct lh__target target;
    struct lh__match found;
    struct lh_error error;

    assert_int_equal(lh__target_parse(lh_str_of(path), scratch, &target, &error), LH_OK);
    lh__router_match(router, service, &target, &found);
    return found;
}

static int set_up(void **state)
{
    struct lh_error error;

    return lh__router_create(rows, sizeof rows / sizeof *rows, (struct lh__router **)state,
                             &error) == LH_OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    lh__router_destroy(*state);
    return 0;
}

static void ports_decide_about_v1(void **state)
{
    assert_ptr_equal(match(*state, LH_HTTP_GATEWAY, "/health").routes[LH_HTTP_GET], &rows[0]);
    assert_false(match(*state, LH_HTTP_GATEWAY, "/v1/health").found);
    assert_true(match(*state, LH_HTTP_GATEWAY, "/v1/index").found);
    assert_false(match(*state, LH_HTTP_GATEWAY, "/index").found);
    assert_true(match(*state, LH_HTTP_VECTORD, "/v1/index").found);
    assert_true(match(*state, LH_HTTP_VECTORD, "/index").found);
    assert_true(match(*state, LH_HTTP_GATEWAY, "/v1/get/a").found);
    assert_false(match(*state, LH_HTTP_VECTORD, "/v1/get/a").found);
}

static void methods_of_one_path_are_one_match(void **state)
{
    struct lh__match found = match(*state, LH_HTTP_VECTORD, "/index");
    char allow[64];

    assert_ptr_equal(found.routes[LH_HTTP_GET], &rows[1]);
    assert_ptr_equal(found.routes[LH_HTTP_POST], &rows[2]);
    assert_null(found.routes[LH_HTTP_DELETE]);
    lh__router_allow(&found, allow);
    assert_string_equal(allow, "GET, HEAD, POST, OPTIONS");
}

static void parameters_come_in_the_order_of_the_pattern(void **state)
{
    struct lh__match found = match(*state, LH_HTTP_VECTORD, "/index/a%2fb/items/c%20d");

    assert_ptr_equal(found.routes[LH_HTTP_GET], &rows[6]);
    assert_true(lh_str_eq(found.params[0], LH_STR("a/b")));
    assert_true(lh_str_eq(found.params[1], LH_STR("c d")));
}

static void a_literal_is_tried_before_a_name(void **state)
{
    struct lh__match found = match(*state, LH_HTTP_VECTORD, "/index/all/x");

    assert_ptr_equal(found.routes[LH_HTTP_GET], &rows[5]);
    assert_true(lh_str_eq(found.params[0], LH_STR("x")));
    found = match(*state, LH_HTTP_VECTORD, "/index/all"); /* back from the literal */
    assert_ptr_equal(found.routes[LH_HTTP_GET], &rows[3]);
    assert_true(lh_str_eq(found.params[0], LH_STR("all")));
}

static void a_tail_takes_the_rest_of_the_path(void **state)
{
    struct lh__match found = match(*state, LH_HTTP_GATEWAY, "/v1/get/a/b%2fc//d");

    assert_true(found.found);
    assert_true(lh_str_eq(found.params[0], LH_STR("a/b/c//d")));
    assert_false(match(*state, LH_HTTP_GATEWAY, "/v1/get").found);
}

static void an_empty_segment_is_no_name(void **state)
{
    assert_false(match(*state, LH_HTTP_VECTORD, "/index/").found);
    assert_false(match(*state, LH_HTTP_VECTORD, "/index//add").found);
    assert_false(match(*state, LH_HTTP_VECTORD, "//index").found);
}

static void a_bad_table_is_refused(void **state)
{
    const struct lh_route twice[] = {{.pattern = "/a/{b}"}, {.pattern = "/a/{c}"}};
    const char *const bad[] = {"", "a", "/", "/a/", "/{a", "/{a...}/b", "/{a}/{b}/{c}/{d}/{e}"};
    struct lh__router *router = NULL;
    struct lh_error error;

    assert_int_equal(lh__router_create(twice, 2, &router, &error), LH_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct lh_route row = {.pattern = bad[i]};
        assert_int_equal(lh__router_create(&row, 1, &router, &error), LH_INVALID_ARGUMENT);
    }
    assert_null(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_decide_about_v1),
        cmocka_unit_test(methods_of_one_path_are_one_match),
        cmocka_unit_test(parameters_come_in_the_order_of_the_pattern),
        cmocka_unit_test(a_literal_is_tried_before_a_name),
        cmocka_unit_test(a_tail_takes_the_rest_of_the_path),
        cmocka_unit_test(an_empty_segment_is_no_name),
        cmocka_unit_test(a_bad_table_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
