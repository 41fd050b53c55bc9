/* store/s3_sign: AWS's published test vectors, and the examples of the S3 documentation. */
#include "store/s3_sign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
/* clang-format off */
#define S3(text) {(text), sizeof(text) - 1}
#define NO_PAIRS {{{NULL, 0}, {NULL, 0}}}
/* clang-format on */

struct vector {
    const char *name;
    const char *method;
    const char *path;
    struct lh_s3_pair query[4];
    struct lh_s3_pair headers[6]; /* beside host and x-amz-date */
    const char *payload_hash;
    const char *signed_headers;
    const char *signature;
};

/* aws-sig-v4-test-suite, for a service that is called "service". Left out are the cases whose path
 * is normalised, which S3 does not do, and those about parsing raw requests. */
static const struct vector suite[] = {
    {"get-vanilla", "GET", "/", NO_PAIRS, NO_PAIRS, EMPTY_HASH, "host;x-amz-date",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
     NO_PAIRS, NO_PAIRS, EMPTY_HASH, "host;x-amz-date",
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
    {"get-vanilla-query-order-key-case",
     "GET",
     "/",
     {{S3("Param2"), S3("value2")}, {S3("Param1"), S3("value1")}},
     NO_PAIRS,
     EMPTY_HASH,
     "host;x-amz-date",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-query-order-value",
     "GET",
     "/",
     {{S3("Param1"), S3("value2")}, {S3("Param1"), S3("value1")}},
     NO_PAIRS,
     EMPTY_HASH,
     "host;x-amz-date",
     "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
    {"get-vanilla-utf8-query",
     "GET",
     "/",
     {{S3("\xe1\x88\xb4"), S3("bar")}},
     NO_PAIRS,
     EMPTY_HASH,
     "host;x-amz-date",
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
    {"get-header-value-order",
     "GET",
     "/",
     NO_PAIRS,
     {{S3("my-header1"), S3("value4")},
      {S3("my-header1"), S3("value1")},
      {S3("my-header1"), S3("value3")},
      {S3("my-header1"), S3("value2")}},
     EMPTY_HASH,
     "host;my-header1;x-amz-date",
     "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
    {"get-header-key-duplicate",
     "GET",
     "/",
     NO_PAIRS,
     {{S3("my-header1"), S3("value2")},
      {S3("my-header1"), S3("value2")},
      {S3("my-header1"), S3("value1")}},
     EMPTY_HASH,
     "host;my-header1;x-amz-date",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
    {"get-header-value-trim",
     "GET",
     "/",
     NO_PAIRS,
     {{S3("my-header1"), S3(" value1")}, {S3("my-header2"), S3(" \"a   b   c\"")}},
     EMPTY_HASH,
     "host;my-header1;my-header2;x-amz-date",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"post-x-www-form-urlencoded",
     "POST",
     "/",
     NO_PAIRS,
     {{S3("content-type"), S3("application/x-www-form-urlencoded")}},
     "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
     "content-type;host;x-amz-date",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
    {"get-vanilla-with-session-token",
     "GET",
     "/",
     NO_PAIRS,
     {{S3("x-amz-security-token"),
       S3("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267")}},
     EMPTY_HASH,
     "host;x-amz-date;x-amz-security-token",
     "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
};

/* "Examples: Signature Calculations", Amazon S3 API Reference. */
static const struct vector s3_examples[] = {
    {"GET an object's first bytes",
     "GET",
     "/test.txt",
     NO_PAIRS,
     {{S3("range"), S3("bytes=0-9")}, {S3("x-amz-content-sha256"), S3(EMPTY_HASH)}},
     EMPTY_HASH,
     "host;range;x-amz-content-sha256;x-amz-date",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {"PUT an object",
     "PUT",
     "/test$file.text",
     NO_PAIRS,
     {{S3("date"), S3("Fri, 24 May 2013 00:00:00 GMT")},
      {S3("x-amz-content-sha256"),
       S3("44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")},
      {S3("x-amz-storage-class"), S3("REDUCED_REDUNDANCY")}},
     "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {"GET a bucket's lifecycle",
     "GET",
     "/",
     {{S3("lifecycle"), S3("")}},
     {{S3("x-amz-content-sha256"), S3(EMPTY_HASH)}},
     EMPTY_HASH,
     "host;x-amz-content-sha256;x-amz-date",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {"GET a list of objects",
     "GET",
     "/",
     {{S3("prefix"), S3("J")}, {S3("max-keys"), S3("2")}},
     {{S3("x-amz-content-sha256"), S3(EMPTY_HASH)}},
     EMPTY_HASH,
     "host;x-amz-content-sha256;x-amz-date",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static size_t count_of(const struct lh_s3_pair *pairs, size_t max)
{
    size_t count = 0;
    while (count < max && pairs[count].name.ptr != NULL)
        count++;
    return count;
}

/* Signs `vector` in the surroundings that `base` has, and compares the whole header. */
static void check(const struct vector *vector, const struct lh_s3_signing *base, struct lh_str host)
{
    struct lh_s3_pair headers[LH_S3_PAIRS_MAX];
    size_t count = count_of(vector->headers, 6);
    struct lh_buf got = LH_BUF_EMPTY, want = LH_BUF_EMPTY;
    struct lh_s3_signing signing = *base;
    memcpy(headers, vector->headers, count * sizeof headers[0]);
    headers[count++] = (struct lh_s3_pair){LH_STR("x-amz-date"), lh_str_of(base->date)};
    headers[count++] = (struct lh_s3_pair){LH_STR("host"), host};
    signing.method = lh_str_of(vector->method);
    signing.path = lh_str_of(vector->path);
    signing.query = vector->query;
    signing.query_count = count_of(vector->query, 4);
    signing.headers = headers;
    signing.header_count = count;
    signing.payload_hash = lh_str_of(vector->payload_hash);
    assert_int_equal(lh_s3_sign(&signing, &got), LH_OK);
    lh_buf_printf(&want,
                  "AWS4-HMAC-SHA256 Credential=%.*s/%.8s/us-east-1/%.*s/aws4_request, "
                  "SignedHeaders=%s, Signature=%s",
                  LH_STR_FMT(base->credentials->access_key_id), base->date,
                  LH_STR_FMT(base->service), vector->signed_headers, vector->signature);
    lh_buf_append_char(&want, '\0');
    lh_buf_append_char(&got, '\0');
    print_message("%s\n", vector->name);
    assert_string_equal(got.ptr, want.ptr);
    lh_buf_deinit(&got);
    lh_buf_deinit(&want);
}

static void the_published_test_suite_is_signed_as_published(void **state)
{
    const struct lh_s3_credentials credentials = {
        LH_STR("AKIDEXAMPLE"), LH_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), {0}};
    const struct lh_s3_signing base = {.date = "20150830T123600Z",
                                       .region = LH_STR("us-east-1"),
                                       .service = LH_STR("service"),
                                       .credentials = &credentials};
    for (size_t i = 0; i < sizeof suite / sizeof suite[0]; i++)
        check(&suite[i], &base, LH_STR("example.amazonaws.com"));
}

static void the_examples_of_the_s3_documentation_are_signed_as_documented(void **state)
{
    const struct lh_s3_credentials credentials = {
        LH_STR("AKIAIOSFODNN7EXAMPLE"), LH_STR("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), {0}};
    const struct lh_s3_signing base = {.date = "20130524T000000Z",
                                       .region = LH_STR("us-east-1"),
                                       .service = LH_STR("s3"),
                                       .credentials = &credentials};
    for (size_t i = 0; i < sizeof s3_examples / sizeof s3_examples[0]; i++)
        check(&s3_examples[i], &base, LH_STR("examplebucket.s3.amazonaws.com"));
}

static void a_path_is_escaped_once_and_stays_as_it_is(void **state)
{
    struct lh_buf out = LH_BUF_EMPTY;
    lh_s3_escape(&out, LH_STR("/b/a//b/../c d+e%2F~=&?*()\xc3\xa9"), true);
    lh_buf_append_char(&out, '\0');
    assert_string_equal(out.ptr, "/b/a//b/../c%20d%2Be%252F~%3D%26%3F%2A%28%29%C3%A9");
    lh_buf_deinit(&out);
}

static void a_query_is_sorted_by_its_escaped_bytes(void **state)
{
    const struct lh_s3_pair query[] = {{LH_STR("x"), LH_STR("a.b")},
                                       {LH_STR("x"), LH_STR("a/b")},
                                       {LH_STR("a-"), LH_STR("1")},
                                       {LH_STR("a"), LH_STR("2")},
                                       {LH_STR("uploads"), {0}}};
    struct lh_buf out = LH_BUF_EMPTY;
    lh_s3_query(&out, query, 5);
    lh_buf_append_char(&out, '\0');
    assert_string_equal(out.ptr, "a=2&a-=1&uploads=&x=a%2Fb&x=a.b");
    lh_buf_deinit(&out);
}

static void a_date_is_in_utc(void **state)
{
    char date[LH_S3_DATE_BYTES];
    lh_s3_date(1369353600999u, date);
    assert_string_equal(date, "20130524T000000Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_test_suite_is_signed_as_published),
        cmocka_unit_test(the_examples_of_the_s3_documentation_are_signed_as_documented),
        cmocka_unit_test(a_path_is_escaped_once_and_stays_as_it_is),
        cmocka_unit_test(a_query_is_sorted_by_its_escaped_bytes),
        cmocka_unit_test(a_date_is_in_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
