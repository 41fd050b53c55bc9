/* actors/secrets: what the file says, what is refused and where, and who is found. */
#include "actors/secrets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TOKEN      "0123456789abcdef"
#define TOKEN_HASH "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f"
#define OTHER      "fedcba9876543210"
#define OTHER_HASH "3465f6e6975baa864ca957f0914ecda9bf7eb601ac31ac20a5dc3d329279a843"

/* The path in an error's text is "F". */
static enum lh_status read_text(const char *text, mode_t mode, struct lh_secrets **secrets,
                                char error_text[160])
{
    char path[] = "/tmp/lh_secrets_test_XXXXXX";
    struct lh_error error = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    *secrets = NULL;
    enum lh_status status = lh_secrets_read(path, secrets, &error);
    unlink(path);
    if (strncmp(error.text, path, strlen(path)) == 0)
        snprintf(error_text, 160, "F%s", error.text + strlen(path));
    else
        snprintf(error_text, 160, "%s", error.text);
    return status;
}

static struct lh_secrets *read_well(const char *text)
{
    struct lh_secrets *secrets;
    char error[160];
    if (read_text(text, 0600, &secrets, error) != LH_OK)
        fail_msg("%s", error);
    return secrets;
}

static void assert_refused(const char *text, const char *want)
{
    struct lh_secrets *secrets;
    char error[160];
    assert_int_equal(read_text(text, 0600, &secrets, error), LH_CONFIG);
    assert_string_equal(error, want);
    assert_null(secrets);
}

#define ONE(rest) "[[token]]\nname = \"a\"\ntoken = \"" TOKEN "\"\nscopes = [\"read\"]\n" rest

static void everything_is_read(void **state)
{
    struct lh_secrets *secrets = read_well(ONE("indexes = [\"words\", \"a*\"]\n"
                                               "prefixes = [\"x/\"]\n"
                                               "requests_per_second = 5\n"
                                               "bytes_per_second = \"1MiB\"\n"
                                               "[[token]]\n"
                                               "scopes = [\"admin\"]\n"
                                               "sha256 = \"" OTHER_HASH "\"\n"
                                               "name = \"b\"\n"
                                               "[s3]\n"
                                               "access_key_id = \"id\"\n"
                                               "secret_access_key = \"key\"\n"
                                               "session_token = \"session\"\n"
                                               "[peer]\n"
                                               "token = \"peer-token-1234567\"\n"));
    assert_int_equal(secrets->token_count, 2);
    const struct lh_token *a = &secrets->tokens[0], *b = &secrets->tokens[1];
    assert_string_equal(a->name, "a");
    assert_int_equal(a->scopes, LH_SCOPE_READ);
    assert_int_equal(a->index_count, 2);
    assert_int_equal(a->prefix_count, 1);
    assert_int_equal(a->requests_per_second, 5);
    assert_int_equal(a->bytes_per_second, 1 << 20);
    assert_string_equal(b->name, "b");
    assert_int_equal(b->scopes, LH_SCOPE_READ | LH_SCOPE_WRITE | LH_SCOPE_ADMIN);
    assert_int_equal(b->requests_per_second, LH_LIMIT_UNSET);
    assert_string_equal(secrets->s3_access_key_id, "id");
    assert_string_equal(secrets->s3_secret_access_key, "key");
    assert_string_equal(secrets->s3_session_token, "session");
    assert_string_equal(secrets->peer_token, "peer-token-1234567");
    lh_secrets_destroy(secrets);
    (void)state;
}

static void a_token_is_found_by_its_text_alone(void **state)
{
    struct lh_secrets *secrets = read_well(ONE("[[token]]\nname = \"b\"\nscopes = [\"write\"]\n"
                                               "sha256 = \"" OTHER_HASH "\"\n"));
    assert_ptr_equal(lh_secrets_find(secrets, LH_STR(TOKEN)), &secrets->tokens[0]);
    assert_ptr_equal(lh_secrets_find(secrets, LH_STR(OTHER)), &secrets->tokens[1]);
    assert_null(lh_secrets_find(secrets, LH_STR(TOKEN "0")));
    assert_null(lh_secrets_find(secrets, LH_STR("0123456789abcde")));
    assert_null(lh_secrets_find(secrets, LH_STR(OTHER_HASH))); /* the hash is no key */
    assert_null(lh_secrets_find(secrets, LH_STR("")));
    lh_secrets_destroy(secrets);
    (void)state;
}

static void limits_name_what_a_token_reaches(void **state)
{
    struct lh_secrets *secrets = read_well(ONE("indexes = [\"words\", \"a*\"]\n"));
    const struct lh_token *token = &secrets->tokens[0];
    assert_true(lh_token_is_limited(token));
    assert_true(lh_token_allows_index(token, LH_STR("words")));
    assert_false(lh_token_allows_index(token, LH_STR("words2")));
    assert_false(lh_token_allows_index(token, LH_STR("word")));
    assert_true(lh_token_allows_index(token, LH_STR("a")));
    assert_true(lh_token_allows_index(token, LH_STR("abc")));
    assert_false(lh_token_allows_prefix(token, LH_STR("a")));
    lh_secrets_destroy(secrets);
    secrets = read_well(ONE("prefixes = [\"x/\", \"y\"]\n"));
    token = &secrets->tokens[0];
    assert_true(lh_token_allows_prefix(token, LH_STR("x/")));
    assert_true(lh_token_allows_prefix(token, LH_STR("x/1")));
    assert_true(lh_token_allows_prefix(token, LH_STR("yz")));
    assert_false(lh_token_allows_prefix(token, LH_STR("x")));
    assert_false(lh_token_allows_prefix(token, LH_STR("")));
    assert_false(lh_token_allows_index(token, LH_STR("x")));
    lh_secrets_destroy(secrets);
    secrets = read_well(ONE(""));
    token = &secrets->tokens[0];
    assert_false(lh_token_is_limited(token));
    assert_true(lh_token_allows_index(token, LH_STR("anything")));
    assert_true(lh_token_allows_prefix(token, LH_STR("")));
    lh_secrets_destroy(secrets);
    (void)state;
}

static void mistakes_name_their_place(void **state)
{
    assert_refused(ONE("more = \"x\"\n"), "F:5: token[0].more: unknown key");
    assert_refused("[tokens]\na = \"b\"\n", "F:2: tokens.a: unknown key");
    assert_refused("[token]\nname = \"b\"\n",
                   "F:2: token.name: tokens stand under [[token]], in two brackets");
    assert_refused("[[token]]\nname = \"a b\"\n",
                   "F:2: token[0].name: a name has 1 to 64 letters, digits and ._-");
    assert_refused("[[token]]\ntoken = \"short\"\n",
                   "F:2: token[0].token: is shorter than 16 characters");
    assert_refused("[[token]]\ntoken = \"with a space in it\"\n",
                   "F:2: token[0].token: a token has letters, digits and -._~+/ only, and = at "
                   "its end");
    assert_refused("[[token]]\nsha256 = \"00\"\n",
                   "F:2: token[0].sha256: is not 64 hexadecimal digits");
    assert_refused(ONE("sha256 = \"" OTHER_HASH "\"\n"),
                   "F:5: token[0].sha256: stands beside token: one of the two");
    assert_refused("[[token]]\nscopes = [\"read\", \"all\"]\n",
                   "F:2: token[0].scopes[1]: is none of read, write and admin");
    assert_refused("[[token]]\nscopes = \"read\"\n", "F:2: token[0].scopes: is not a list");
    assert_refused("[[token]]\nscopes = []\n", "F:2: token[0].scopes: is empty");
    assert_refused("[[token]]\nname = [\"a\"]\n", "F:2: token[0].name[0]: is a list");
    assert_refused("[[token]]\nname = 5\n", "F:2: token[0].name: is not a string in quotes");
    assert_refused(ONE("indexes = []\n"), "F:5: token[0].indexes: is empty");
    assert_refused(ONE("indexes = [\"*a\"]\n"),
                   "F:5: token[0].indexes[0]: is neither an index's name nor the beginning of one "
                   "and a *");
    assert_refused(ONE("prefixes = [\"\"]\n"), "F:5: token[0].prefixes[0]: is empty");
    assert_refused(ONE("requests_per_second = -1\n"),
                   "F:5: token[0].requests_per_second: is not a size: a whole number, or one with "
                   "KiB, MiB, GiB or TiB");
    assert_refused("[[token]]\ntoken = \"" TOKEN "\"\nscopes = [\"read\"]\n",
                   "F: token[0]: has no name");
    assert_refused("[[token]]\nname = \"a\"\ntoken = \"" TOKEN "\"\n",
                   "F: token[0]: has no scopes");
    assert_refused("[[token]]\nname = \"a\"\nscopes = [\"read\"]\n",
                   "F: token[0]: has no token or sha256");
    assert_refused(
        ONE("[[token]]\nname = \"b\"\nscopes = [\"read\"]\nsha256 = \"" TOKEN_HASH "\"\n"),
        "F: token[1]: is the same token as token[0]");
    assert_refused(ONE("[[token]]\nname = \"a\"\nscopes = [\"read\"]\ntoken = \"" OTHER "\"\n"),
                   "F: token[1]: is the same name as token[0]");
    assert_refused("[s3]\naccess_key_id = \"a\"\n",
                   "F: s3: access_key_id and secret_access_key need one another");
    assert_refused("[peer]\ntoken = \"x\"\n", "F:2: peer.token: is shorter than 16 characters");
    (void)state;
}

/* However the file is broken, what stands in it does not come out. */
static void no_error_has_a_secret(void **state)
{
    static const char *const broken[] = {
        "[[token]]\ntoken = " OTHER "\n",
        "[[token]]\ntoken = \"" OTHER "\n",
        "[[token]]\ntoken = '" OTHER "\n",
        "[[token]]\ntoken = \"" OTHER " \"\n",
        OTHER "\n",
        OTHER " = 1\n" OTHER " = 1\n",
        "[[token]]\ntoken \"" OTHER "\"\n",
        "[[token]]\ntoken = [[\"" OTHER "\"]]\n",
        "[s3]\nsecret_access_key = {a = \"" OTHER "\"}\n",
        "[s3]\nsecret_access_key = \"" OTHER "\" \"\n",
        "[s3]\nsecret_access_key = \"\\q" OTHER "\"\n",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct lh_secrets *secrets;
        char error[160];
        assert_int_equal(read_text(broken[i], 0600, &secrets, error), LH_CONFIG);
        if (strstr(error, "fedcba98") != NULL)
            fail_msg("%zu: %s", i, error);
    }
    (void)state;
}

static void a_file_that_others_can_read_is_refused(void **state)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0602, 0644, 0610};
    struct lh_secrets *secrets;
    char error[160], want[160];
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(read_text(ONE(""), modes[i], &secrets, error), LH_CONFIG);
        snprintf(want, sizeof want,
                 "F: has mode %04o: others than its owner can get at it; chmod 600 closes it",
                 (unsigned)modes[i]);
        assert_string_equal(error, want);
    }
    assert_int_equal(read_text(ONE(""), 0400, &secrets, error), LH_OK);
    lh_secrets_destroy(secrets);
    (void)state;
}

static void what_is_no_file_is_refused(void **state)
{
    struct lh_secrets *secrets = NULL;
    struct lh_error error;
    assert_int_equal(lh_secrets_read("/nonexistent/secrets", &secrets, &error), LH_CONFIG);
    assert_non_null(strstr(error.text, "No such file"));
    assert_int_equal(lh_secrets_read("/tmp", &secrets, &error), LH_CONFIG);
    assert_string_equal(error.text, "/tmp: is not a file");
    assert_int_equal(lh_secrets_read("/dev/zero", &secrets, &error), LH_CONFIG);
    assert_null(secrets);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_read),
        cmocka_unit_test(a_token_is_found_by_its_text_alone),
        cmocka_unit_test(limits_name_what_a_token_reaches),
        cmocka_unit_test(mistakes_name_their_place),
        cmocka_unit_test(no_error_has_a_secret),
        cmocka_unit_test(a_file_that_others_can_read_is_refused),
        cmocka_unit_test(what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
