/* Bodies of searches, of lists of ids and of new indexes. */
#include "unit/decode_help.h"

struct refusal {
    const char *body;
    enum lh_status status;
    const char *text;
};

static enum lh_status decode_search(void **state, const char *text,
                                    struct lh_search_request *request, struct lh_error *error)
{
    struct lh_buf body = tight_buf(lh_str_of(text));
    enum lh_status status = lh_decode_search(*state, &body, request, error);
    lh_buf_deinit(&body);
    return status;
}

static enum lh_status decode_index(void **state, const char *text, struct lh_index_request *request,
                                   struct lh_error *error)
{
    struct lh_buf body = tight_buf(lh_str_of(text));
    enum lh_status status = lh_decode_index(*state, &body, request, error);
    lh_buf_deinit(&body);
    return status;
}

static void a_search_has_defaults(void **state)
{
    struct lh_search_request request;
    struct lh_error error;
    assert_int_equal(decode_search(state, "{\"vector\":[1,2]}", &request, &error), LH_OK);
    assert_int_equal(request.queries.count, 1);
    assert_int_equal(request.queries.dimension, 2);
    assert_int_equal(request.queries.items[0].id.len, 0);
    assert_false(request.is_batch);
    assert_int_equal(request.k, 10);
    assert_int_equal(request.ef, 0);
    assert_true(request.with_metadata);
    assert_false(request.with_vector);
    lh_batch_deinit(&request.queries);
}

static void a_search_takes_its_options(void **state)
{
    struct lh_search_request request;
    struct lh_error error;
    assert_int_equal(decode_search(state,
                                   "{\"k\":10000,\"ef\":4096,\"with_metadata\":false,"
                                   "\"with_vector\":true,\"vector\":\"AACAPw==\"}",
                                   &request, &error),
                     LH_OK);
    assert_int_equal(request.k, 10000);
    assert_int_equal(request.ef, 4096);
    assert_false(request.with_metadata);
    assert_true(request.with_vector);
    assert_true(request.queries.rows[0] == 1);
    lh_batch_deinit(&request.queries);
}

static void a_batch_search_has_a_row_a_query(void **state)
{
    struct lh_search_request request;
    struct lh_error error;
    assert_int_equal(
        decode_search(state, "{\"vectors\":[[1,2],\"AACAPwAAAEA=\",[0,0],[3]]}", &request, &error),
        LH_OK);
    assert_true(request.is_batch);
    assert_int_equal(request.queries.count, 4);
    assert_true(request.queries.rows[2] == 1 && request.queries.rows[3] == 2);
    assert_int_equal(request.queries.zero_item, 2);
    assert_int_equal(request.queries.odd_item, 3);
    lh_batch_deinit(&request.queries);
}

static void a_wrong_search_is_refused_with_its_place(void **state)
{
    static const struct refusal list[] = {
        {"{}", LH_INVALID_ARGUMENT, "vector: \"vector\" or \"vectors\" is missing"},
        {"{\"vector\":[1],\"vectors\":[[1]]}", LH_INVALID_ARGUMENT,
         "vectors: \"vector\" and \"vectors\" exclude one another"},
        {"{\"vectors\":[],\"vector\":[1]}", LH_INVALID_ARGUMENT,
         "vector: \"vector\" and \"vectors\" exclude one another"},
        {"{\"vectors\":[]}", LH_INVALID_ARGUMENT, "vectors: an empty list"},
        {"{\"vectors\":[1]}", LH_INVALID_ARGUMENT,
         "vectors[0]: must be an array of numbers or a base64 string, found a number"},
        {"{\"vectors\":[[1],[2,NaN]]}", LH_INVALID_ARGUMENT,
         "vectors[1][1]: NaN is not a finite number"},
        {"{\"vector\":[1,1e39]}", LH_INVALID_ARGUMENT,
         "vector[1]: 1e39 is beyond the range of float32"},
        {"{\"vector\":[1],\"k\":0}", LH_LIMIT_EXCEEDED, "k: 0 is not within 1 to 10000"},
        {"{\"vector\":[1],\"k\":10001}", LH_LIMIT_EXCEEDED, "k: 10001 is not within 1 to 10000"},
        {"{\"vector\":[1],\"k\":-1}", LH_LIMIT_EXCEEDED, "k: -1 is not within 1 to 10000"},
        {"{\"vector\":[1],\"k\":99999999999999999999999}", LH_LIMIT_EXCEEDED,
         "k: 99999999999999999999999 is not within 1 to 10000"},
        {"{\"vector\":[1],\"k\":1.5}", LH_INVALID_ARGUMENT,
         "k: must be an integer from 1 to 10000, found 1.5"},
        {"{\"vector\":[1],\"k\":\"1\"}", LH_INVALID_ARGUMENT,
         "k: must be an integer from 1 to 10000, found a string"},
        {"{\"vector\":[1],\"k\":null}", LH_INVALID_ARGUMENT,
         "k: must be an integer from 1 to 10000, found null"},
        {"{\"vector\":[1],\"ef\":4097}", LH_LIMIT_EXCEEDED, "ef: 4097 is not within 1 to 4096"},
        {"{\"vector\":[1],\"with_vector\":1}", LH_INVALID_ARGUMENT,
         "with_vector: must be true or false, found a number"},
        {"{\"vector\":[1],\"with_vector\":truee}", LH_INVALID_JSON,
         "byte 32: a comma or } was expected"},
        {"{\"vector\":[1],\"top_k\":1}", LH_INVALID_ARGUMENT, "unknown member \"top_k\""},
        {"{\"vector\":[1]}}", LH_INVALID_JSON, "byte 14: nothing may follow the JSON value"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct lh_search_request request;
        struct lh_error error;
        enum lh_status status = decode_search(state, list[i].body, &request, &error);
        expect_error(list[i].body, status, &error, list[i].status, list[i].text);
        assert_int_equal(request.queries.count, 0);
    }
}

static void a_batch_search_ends_at_its_limits(void **state)
{
    struct lh_search_request request;
    struct lh_error error;
    for (unsigned count = LH_BATCH_SEARCH_MAX; count <= LH_BATCH_SEARCH_MAX + 1; count++) {
        struct lh_buf body = LH_BUF_EMPTY;
        enum lh_status status;
        lh_buf_printf(&body, "{\"vectors\":[[1]");
        for (unsigned i = 1; i < count; i++) {
            lh_buf_printf(&body, ",[1]");
        }
        lh_buf_printf(&body, "]}");
        status = lh_decode_search(*state, &body, &request, &error);
        if (count == LH_BATCH_SEARCH_MAX) {
            assert_int_equal(status, LH_OK);
            lh_batch_deinit(&request.queries);
            body.len--;
            lh_buf_printf(&body, ",\"k\":977}");
            status = lh_decode_search(*state, &body, &request, &error);
            expect_error("", status, &error, LH_LIMIT_EXCEEDED,
                         "vectors: 1024 vectors with k = 977 are more than the limit of 1000000 "
                         "results");
        } else {
            expect_error("", status, &error, LH_LIMIT_EXCEEDED,
                         "vectors: more than the limit of 1024 vectors");
        }
        lh_buf_deinit(&body);
    }
}

static void ids_are_a_batch_without_rows(void **state)
{
    static const struct refusal list[] = {
        {"{\"ids\":[\"a\",\"b\\u0041\"]}", LH_OK, ""},
        {"{\"ids\":[]}", LH_OK, ""},
        {"{}", LH_INVALID_ARGUMENT, "ids: is missing"},
        {"{\"ids\":\"a\"}", LH_INVALID_ARGUMENT, "ids: must be an array, found a string"},
        {"{\"ids\":[\"a\",1]}", LH_INVALID_ARGUMENT, "ids[1]: must be a string, found a number"},
        {"{\"ids\":[\"\"]}", LH_INVALID_ARGUMENT, "ids[0]: an empty id"},
        {"{\"ids\":[\"a\",]}", LH_INVALID_JSON, "byte 12: a JSON value was expected"},
        {"{\"ids\":[\"a\"\"b\"]}", LH_INVALID_JSON, "byte 11: a comma or ] was expected"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct lh_buf body = tight_buf(lh_str_of(list[i].body));
        struct lh_batch batch;
        struct lh_error error = {0};
        enum lh_status status = lh_decode_ids(*state, &body, &batch, &error);
        expect_error(list[i].body, status, &error, list[i].status, list[i].text);
        if (i == 0) {
            assert_int_equal(batch.count, 2);
            expect_str(batch.items[1].id, "bA");
            assert_null(batch.rows);
        }
        lh_batch_deinit(&batch);
        lh_buf_deinit(&body);
    }
}

static void an_index_has_defaults_and_takes_its_options(void **state)
{
    struct lh_index_request request;
    struct lh_error error;
    assert_int_equal(decode_index(state, "{\"name\":\"w\",\"dimension\":100}", &request, &error),
                     LH_OK);
    assert_string_equal(request.name, "w");
    assert_int_equal(request.dimension, 100);
    assert_int_equal(request.distance, 0);
    assert_int_equal(request.m, 16);
    assert_int_equal(request.ef_construction, 200);
    assert_int_equal(request.ef_search, 128);
    assert_int_equal(request.shards, 0);
    assert_int_equal(
        decode_index(state,
                     "{\"name\":\"A.b_c-9\",\"dimension\":65535,\"distance\":\"dot\","
                     "\"m\":64,\"ef_construction\":4096,\"ef_search\":1,\"shards\":256}",
                     &request, &error),
        LH_OK);
    assert_string_equal(request.name, "A.b_c-9");
    assert_int_equal(request.distance, 2);
    assert_int_equal(request.m, 64);
    assert_int_equal(request.ef_construction, 4096);
    assert_int_equal(request.ef_search, 1);
    assert_int_equal(request.shards, 256);
}

static void a_wrong_index_is_refused_with_its_place(void **state)
{
    static const struct refusal list[] = {
        {"{}", LH_INVALID_ARGUMENT, "name: is missing"},
        {"{\"name\":\"w\"}", LH_INVALID_ARGUMENT, "dimension: is missing"},
        {"{\"name\":7}", LH_INVALID_ARGUMENT, "name: must be a string, found a number"},
        {"{\"name\":\"\"}", LH_INVALID_ARGUMENT,
         "name: \"\" is not a letter or digit and then letters, digits, . _ -"},
        {"{\"name\":\".w\"}", LH_INVALID_ARGUMENT,
         "name: \".w\" is not a letter or digit and then letters, digits, . _ -"},
        {"{\"name\":\"a/b\"}", LH_INVALID_ARGUMENT,
         "name: \"a/b\" is not a letter or digit and then letters, digits, . _ -"},
        {"{\"name\":\"a\\u0000\"}", LH_INVALID_ARGUMENT,
         "name: \"a?\" is not a letter or digit and then letters, digits, . _ -"},
        {"{\"dimension\":0}", LH_LIMIT_EXCEEDED, "dimension: 0 is not within 1 to 65535"},
        {"{\"dimension\":65536}", LH_LIMIT_EXCEEDED, "dimension: 65536 is not within 1 to 65535"},
        {"{\"dimension\":010}", LH_INVALID_ARGUMENT,
         "dimension: must be an integer from 1 to 65535, found 010"},
        {"{\"distance\":\"l2\"}", LH_INVALID_ARGUMENT,
         "distance: \"l2\" is not cosine, euclidean or dot"},
        {"{\"m\":1}", LH_LIMIT_EXCEEDED, "m: 1 is not within 2 to 64"},
        {"{\"m\":65}", LH_LIMIT_EXCEEDED, "m: 65 is not within 2 to 64"},
        {"{\"shards\":0}", LH_LIMIT_EXCEEDED, "shards: 0 is not within 1 to 256"},
        {"{\"shards\":257}", LH_LIMIT_EXCEEDED, "shards: 257 is not within 1 to 256"},
        {"{\"ef_search\":4097}", LH_LIMIT_EXCEEDED, "ef_search: 4097 is not within 1 to 4096"},
        {"{\"metric\":\"dot\"}", LH_INVALID_ARGUMENT, "unknown member \"metric\""},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct lh_index_request request;
        struct lh_error error;
        enum lh_status status = decode_index(state, list[i].body, &request, &error);
        expect_error(list[i].body, status, &error, list[i].status, list[i].text);
    }
}

static void a_name_ends_at_its_limit(void **state)
{
    char name[LH_NAME_BYTES_MAX + 2];
    char body[300];
    struct lh_index_request request;
    struct lh_error error;
    memset(name, 'n', sizeof name);
    assert_true(lh_index_name_is_valid((struct lh_str){name, LH_NAME_BYTES_MAX}));
    assert_false(lh_index_name_is_valid((struct lh_str){name, LH_NAME_BYTES_MAX + 1}));
    assert_false(lh_index_name_is_valid(LH_STR("")));
    assert_false(lh_index_name_is_valid(LH_STR("-a")));
    snprintf(body, sizeof body, "{\"dimension\":1,\"name\":\"%.128s\"}", name);
    assert_int_equal(decode_index(state, body, &request, &error), LH_OK);
    assert_int_equal(strlen(request.name), 128);
    snprintf(body, sizeof body, "{\"dimension\":1,\"name\":\"%.129s\"}", name);
    expect_error(body, decode_index(state, body, &request, &error), &error, LH_LIMIT_EXCEEDED,
                 "name: 129 bytes, the limit is 128");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_has_defaults),
        cmocka_unit_test(a_search_takes_its_options),
        cmocka_unit_test(a_batch_search_has_a_row_a_query),
        cmocka_unit_test(a_wrong_search_is_refused_with_its_place),
        cmocka_unit_test(a_batch_search_ends_at_its_limits),
        cmocka_unit_test(ids_are_a_batch_without_rows),
        cmocka_unit_test(an_index_has_defaults_and_takes_its_options),
        cmocka_unit_test(a_wrong_index_is_refused_with_its_place),
        cmocka_unit_test(a_name_ends_at_its_limit),
    };
    return cmocka_run_group_tests(tests, decode_setup, decode_teardown);
}
