/* What the tests of bodies share. */
#ifndef LH_TESTS_UNIT_DECODE_HELP_H
#define LH_TESTS_UNIT_DECODE_HELP_H

#include "ext/decode.h"
#include "ext/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A body and what became of it. */
struct decoded {
    struct lh_buf body;
    struct lh_batch batch;
    struct lh_error error;
    enum lh_status status;
};

static inline int decode_setup(void **state)
{
    struct lh_decoder *decoder;
    if (lh_decoder_create(&decoder) != LH_OK) {
        return -1;
    }
    *state = decoder;
    return 0;
}

static inline int decode_teardown(void **state)
{
    lh_decoder_destroy(*state);
    return 0;
}

/* The buffer is as small as its contents, so that a sanitizer sees each byte read behind them. */
static inline struct lh_buf tight_buf(struct lh_str text)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    buf.ptr = malloc(text.len + 1);
    assert_non_null(buf.ptr);
    memcpy(buf.ptr, text.ptr, text.len);
    buf.len = text.len;
    buf.cap = text.len + 1;
    return buf;
}

static inline void decoded_deinit(struct decoded *d)
{
    lh_batch_deinit(&d->batch);
    lh_buf_deinit(&d->body);
}

static inline struct decoded decode_items(void **state, struct lh_str text)
{
    struct decoded d = {.body = tight_buf(text)};
    d.status = lh_decode_items(*state, &d.body, &d.batch, &d.error);
    if (d.status != LH_OK) {
        assert_int_equal(d.error.status, d.status);
        assert_int_equal(d.batch.count, 0);
    }
    return d;
}

static inline void expect_str(struct lh_str got, const char *want)
{
    if (!lh_str_eq(got, lh_str_of(want))) {
        fail_msg("got \"%.*s\", want \"%s\"", LH_STR_FMT(got), want);
    }
}

static inline void expect_error(const char *body, enum lh_status status,
                                const struct lh_error *error, enum lh_status want, const char *text)
{
    if (status != want || strcmp(error->text, text) != 0) {
        fail_msg("%s\n got: %s: %s\nwant: %s: %s", body, lh_status_code(status),
                 status == LH_OK ? "" : error->text, lh_status_code(want), text);
    }
}

/* LH_TEST_SEED replays a failure. */
static inline long test_seed(void)
{
    const char *text = getenv("LH_TEST_SEED");
    long seed = text == NULL ? 20 : atol(text);
    print_message("seed %ld\n", seed);
    srand48(seed);
    return seed;
}

#endif
