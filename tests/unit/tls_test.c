/* TLS sessions, a client's and a server's, which hand one another their bytes in memory. */
#include "net/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#undef lh_error /* an old name of one of OpenSSL's own functions, as a macro */

static char folder[] = "/tmp/tls_test.XXXXXX";
static char certificate[64];
static char key[64];
static struct lh__tls_context *server_context;
static struct lh__tls_context *client_context;

static void write_certificate(EVP_PKEY *pair)
{
    X509 *x509 = X509_new();
    X509_NAME *name = X509_get_subject_name(x509);
    X509V3_CTX context;
    X509_EXTENSION *extension;
    FILE *file = fopen(certificate, "w");
    assert_non_null(file);
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), -60);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"here", -1, -1, 0);
    X509_set_issuer_name(x509, name);
    X509_set_pubkey(x509, pair);
    X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
    extension =
        X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, "DNS:here.test,IP:127.0.0.9");
    assert_non_null(extension);
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(x509, pair, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_X509(file, x509), 1);
    fclose(file);
    X509_free(x509);
}

static int set_up(void **state)
{
    struct lh_error error;
    struct lh__tls_files files = {certificate, "certificate", key, "key"};
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    FILE *file;
    assert_non_null(mkdtemp(folder));
    snprintf(certificate, sizeof certificate, "%s/certificate.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    write_certificate(pair);
    umask(077);
    file = fopen(key, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, pair, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    EVP_PKEY_free(pair);
    setenv("SSL_CERT_FILE", certificate, 1); /* the only authority that the clients know */
    assert_int_equal(lh__tls_context_create_server(&files, &server_context, &error), LH_OK);
    assert_int_equal(lh__tls_context_create_client(&client_context, &error), LH_OK);
    (void)state;
    return 0;
}

static int tear_down(void **state)
{
    lh__tls_context_unref(server_context);
    lh__tls_context_unref(client_context);
    unlink(certificate);
    unlink(key);
    rmdir(folder);
    (void)state;
    return 0;
}

/* Carries what `from` has to send to `to`, `step` bytes at a time, and gathers what `to` reads. */
static enum lh__tls_result carry(struct lh__tls *from, struct lh__tls *to, size_t step,
                                 struct lh_buf *got)
{
    enum lh__tls_result result = LH__TLS_MORE;
    struct lh_buf wire = lh_buf_take(lh__tls_out(from));
    for (size_t at = 0; at < wire.len && result == LH__TLS_MORE; at += step) {
        size_t len = wire.len - at < step ? wire.len - at : step;
        char piece[1000];
        size_t piece_len;
        lh__tls_give(to, (struct lh_str){wire.ptr + at, len});
        while ((result = lh__tls_read(to, piece, sizeof piece, &piece_len)) == LH__TLS_DATA)
            lh_buf_append(got, piece, piece_len);
    }
    lh_buf_deinit(&wire);
    return result;
}

struct pair {
    struct lh__tls *client;
    struct lh__tls *server;
    struct lh_buf at_client;
    struct lh_buf at_server;
};

/* The client's result when nothing is left to carry. */
static enum lh__tls_result shake(struct pair *pair, const char *host, size_t step)
{
    enum lh__tls_result result;
    char nothing[1];
    size_t len;
    *pair = (struct pair){.client = lh__tls_connect(client_context, host, NULL),
                          .server = lh__tls_accept(server_context)};
    assert_non_null(pair->client);
    assert_non_null(pair->server);
    result = lh__tls_read(pair->client, nothing, 1, &len);
    assert_int_equal(result, LH__TLS_MORE);
    while (lh__tls_out(pair->client)->len > 0 && result != LH__TLS_FAILED) {
        carry(pair->client, pair->server, step, &pair->at_server);
        result = carry(pair->server, pair->client, step, &pair->at_client);
    }
    return result;
}

static void drop(struct pair *pair)
{
    lh__tls_destroy(pair->client);
    lh__tls_destroy(pair->server);
    lh_buf_deinit(&pair->at_client);
    lh_buf_deinit(&pair->at_server);
}

static void bytes_arrive_however_they_are_cut(void **state)
{
    static const size_t steps[] = {1, 7, 1000, 100000};
    static char sent[50000];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 31 >> 3);
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct pair pair;
        assert_int_equal(shake(&pair, "here.test", steps[i]), LH__TLS_MORE);
        assert_true(lh__tls_is_open(pair.client));
        assert_true(lh__tls_is_open(pair.server));
        assert_true(lh__tls_write(pair.client, (struct lh_str){sent, sizeof sent}));
        assert_true(lh__tls_write(pair.client, LH_STR("")));
        assert_true(lh__tls_write(pair.server, LH_STR("back")));
        assert_int_equal(carry(pair.client, pair.server, steps[i], &pair.at_server), LH__TLS_MORE);
        assert_int_equal(carry(pair.server, pair.client, steps[i], &pair.at_client), LH__TLS_MORE);
        assert_int_equal(pair.at_server.len, sizeof sent);
        assert_memory_equal(pair.at_server.ptr, sent, sizeof sent);
        assert_int_equal(pair.at_client.len, 4);
        assert_memory_equal(pair.at_client.ptr, "back", 4);
        drop(&pair);
    }
    (void)state;
}

static void an_end_is_told_and_what_came_before_it_is_read(void **state)
{
    struct pair pair;
    assert_int_equal(shake(&pair, "here.test", 100), LH__TLS_MORE);
    assert_true(lh__tls_write(pair.client, LH_STR("last")));
    lh__tls_end(pair.client);
    lh__tls_end(pair.client);
    assert_int_equal(carry(pair.client, pair.server, 100000, &pair.at_server), LH__TLS_END);
    assert_int_equal(pair.at_server.len, 4);
    assert_true(lh__tls_write(pair.server, LH_STR("still"))); /* the other way is open */
    drop(&pair);
    (void)state;
}

static void an_address_is_checked_as_an_address(void **state)
{
    struct pair pair;
    assert_int_equal(shake(&pair, "127.0.0.9", 1000), LH__TLS_MORE);
    drop(&pair);
    assert_int_equal(shake(&pair, "127.0.0.1", 1000), LH__TLS_FAILED);
    assert_non_null(strstr(lh__tls_reason(pair.client), "IP address mismatch"));
    drop(&pair);
    (void)state;
}

static void a_certificate_for_another_name_is_refused(void **state)
{
    struct pair pair;
    assert_int_equal(shake(&pair, "there.test", 1000), LH__TLS_FAILED);
    assert_non_null(strstr(lh__tls_reason(pair.client), "hostname mismatch"));
    assert_false(lh__tls_is_open(pair.client));
    assert_false(lh__tls_write(pair.client, LH_STR("secret")));
    /* The server is told by an alert, and not by silence. */
    assert_int_equal(carry(pair.client, pair.server, 1000, &pair.at_server), LH__TLS_FAILED);
    drop(&pair);
    (void)state;
}

static void a_certificate_of_an_unknown_authority_is_refused(void **state)
{
    struct lh__tls_context *trusting = client_context;
    struct lh_error error;
    struct pair pair;
    setenv("SSL_CERT_FILE", "/dev/null", 1);
    setenv("SSL_CERT_DIR", folder, 1);
    assert_int_equal(lh__tls_context_create_client(&client_context, &error), LH_OK);
    assert_int_equal(shake(&pair, "here.test", 1000), LH__TLS_FAILED);
    assert_non_null(strstr(lh__tls_reason(pair.client), "certificate"));
    drop(&pair);
    lh__tls_context_unref(client_context);
    client_context = trusting;
    (void)state;
}

static void a_changed_byte_is_noticed(void **state)
{
    struct pair pair;
    assert_int_equal(shake(&pair, "here.test", 1000), LH__TLS_MORE);
    assert_true(lh__tls_write(pair.client, LH_STR("some text")));
    lh__tls_out(pair.client)->ptr[lh__tls_out(pair.client)->len - 3] ^= 1;
    assert_int_equal(carry(pair.client, pair.server, 1000, &pair.at_server), LH__TLS_FAILED);
    assert_int_equal(pair.at_server.len, 0);
    assert_true(lh__tls_out(pair.server)->len > 0); /* its alert */
    drop(&pair);
    (void)state;
}

static void a_session_outlives_the_context_it_was_made_of(void **state)
{
    struct lh__tls_files files = {certificate, "certificate", key, "key"};
    struct lh__tls_context *before = server_context;
    struct lh_error error;
    struct pair pair;
    assert_int_equal(shake(&pair, "here.test", 1000), LH__TLS_MORE);
    assert_int_equal(lh__tls_context_create_server(&files, &server_context, &error), LH_OK);
    lh__tls_context_unref(before);
    assert_true(lh__tls_write(pair.server, LH_STR("goes on")));
    assert_int_equal(carry(pair.server, pair.client, 1000, &pair.at_client), LH__TLS_MORE);
    assert_int_equal(pair.at_client.len, 7);
    drop(&pair);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_however_they_are_cut),
        cmocka_unit_test(an_end_is_told_and_what_came_before_it_is_read),
        cmocka_unit_test(an_address_is_checked_as_an_address),
        cmocka_unit_test(a_certificate_for_another_name_is_refused),
        cmocka_unit_test(a_certificate_of_an_unknown_authority_is_refused),
        cmocka_unit_test(a_changed_byte_is_noticed),
        cmocka_unit_test(a_session_outlives_the_context_it_was_made_of),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
