/* TLS sessions over OpenSSL. The loop's thread, or whoever owns context and sessions: a context's
 * count is not atomic.
 *
 * OpenSSL reads and writes through a BIO of ours, which takes the ciphertext from where it lies and
 * leaves what is to be sent in one growable buffer: one copy each way, and no second queue. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#undef lh_error /* an old name of one of OpenSSL's own functions, as a macro */

#define LH__TLS_RECORD_BYTES    16384u /* of plain text, at most */
#define LH__TLS_RECORD_OVERHEAD 64u    /* header, nonce and tag need less than half of it */

/* What TLS 1.2 may use: forward secrecy and authenticated encryption. */
#define LH__TLS_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

struct lh__tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *method;
    unsigned refs;
};

struct lh__tls {
    struct lh__tls_context *context;
    SSL *ssl;
    struct lh_str in;
    struct lh_buf out;
    bool failed;
    bool ended; /* close_notify has been made */
    char reason[128];
};

/* ---- the BIO ---- */

static int lh__bio_write(BIO *bio, const char *bytes, int len)
{
    struct lh__tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    lh_buf_append(&tls->out, bytes, (size_t)len);
    return lh_buf_failed(&tls->out) ? -1 : len;
}

static int lh__bio_read(BIO *bio, char *to, int cap)
{
    struct lh__tls *tls = BIO_get_data(bio);
    size_t len = tls->in.len < (size_t)cap ? tls->in.len : (size_t)cap;

    BIO_clear_retry_flags(bio);
    if (len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, tls->in.ptr, len);
    tls->in.ptr += len;
    tls->in.len -= len;
    return (int)len;
}

static long lh__bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int lh__bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* ---- contexts ---- */

/* The library's last complaint, without its codes. */
static const char *lh__tls_library_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason ? reason : "unknown reason";
}

static struct lh__tls_context *lh__tls_context_create(const SSL_METHOD *method)
{
    struct lh__tls_context *context = calloc(1, sizeof *context);

    if (context == NULL) {
        return NULL;
    }
    context->refs = 1;
    context->ssl = SSL_CTX_new(method);
    context->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "span and buffer");
    if (context->ssl == NULL || context->method == NULL ||
        !BIO_meth_set_write(context->method, lh__bio_write) ||
        !BIO_meth_set_read(context->method, lh__bio_read) ||
        !BIO_meth_set_ctrl(context->method, lh__bio_ctrl) ||
        !BIO_meth_set_create(context->method, lh__bio_create) ||
        !SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) ||
        !SSL_CTX_set_cipher_list(context->ssl, LH__TLS_CIPHERS)) {
        lh__tls_context_unref(context);
        return NULL;
    }
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS); /* most connections are idle */
    return context;
}

void lh__tls_context_unref(struct lh__tls_context *context)
{
    if (context != NULL && --context->refs == 0) {
        SSL_CTX_free(context->ssl);
        BIO_meth_free(context->method);
        free(context);
    }
}

/* "http/1.1", or the alert of RFC 7301 section 3.2 to a client that offers only others. */
static int lh__tls_select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                               const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    return SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof ours - 1, in,
                                 in_len) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Nobody is there to ask: an encrypted key is an error. */
static int lh__tls_no_password(char *to, int cap, int is_write, void *arg)
{
    (void)to;
    (void)cap;
    (void)is_write;
    *(bool *)arg = true;
    return -1;
}

/* Opens a PEM file, as plain a file as its reader expects. */
static enum lh_status lh__tls_open(const char *path, const char *name, mode_t forbidden,
                                   FILE **file, struct lh_error *error)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would hang */

    if (fd < 0) {
        return lh_error_sys(error, LH_CONFIG, errno, "%s: cannot open %s", name, path);
    }
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        close(fd);
        return lh_error_set(error, LH_CONFIG, "%s: %s is not a file", name, path);
    }
    if ((stat.st_mode & forbidden) != 0) {
        close(fd);
        return lh_error_set(error, LH_CONFIG,
                            "%s: %s has mode %04o: group and others must not have access (0600)",
                            name, path, (unsigned)(stat.st_mode & 07777));
    }
    *file = fdopen(fd, "r");
    if (*file == NULL) {
        close(fd);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "%s: no memory to read %s", name, path);
    }
    return LH_OK;
}

static enum lh_status lh__tls_use_key(SSL_CTX *ssl, const struct lh__tls_files *files,
                                      struct lh_error *error)
{
    bool is_encrypted = false;
    FILE *file;
    EVP_PKEY *key;
    enum lh_status status =
        lh__tls_open(files->key, files->key_name, S_IRWXG | S_IRWXO, &file, error);

    if (status != LH_OK) {
        return status;
    }
    key = PEM_read_PrivateKey(file, NULL, lh__tls_no_password, &is_encrypted);
    fclose(file);
    if (key == NULL && is_encrypted) {
        return lh_error_set(error, LH_CONFIG, "%s: the key in %s is encrypted", files->key_name,
                            files->key);
    }
    if (key == NULL) {
        return lh_error_set(error, LH_CONFIG, "%s: %s has no private key in PEM: %s",
                            files->key_name, files->key, lh__tls_library_reason());
    }
    if (SSL_CTX_use_PrivateKey(ssl, key) != 1 || SSL_CTX_check_private_key(ssl) != 1) {
        status = lh_error_set(error, LH_CONFIG, "%s: %s does not fit the certificate: %s",
                              files->key_name, files->key, lh__tls_library_reason());
    }
    EVP_PKEY_free(key);
    return status;
}

static enum lh_status lh__tls_use_certificate(SSL_CTX *ssl, const struct lh__tls_files *files,
                                              struct lh_error *error)
{
    FILE *file;
    enum lh_status status =
        lh__tls_open(files->certificate, files->certificate_name, 0, &file, error);

    if (status != LH_OK) {
        return status;
    }
    fclose(file);
    if (SSL_CTX_use_certificate_chain_file(ssl, files->certificate) != 1) {
        return lh_error_set(error, LH_CONFIG, "%s: %s has no certificate in PEM: %s",
                            files->certificate_name, files->certificate, lh__tls_library_reason());
    }
    return LH_OK;
}

enum lh_status lh__tls_context_create_server(const struct lh__tls_files *files,
                                             struct lh__tls_context **context,
                                             struct lh_error *error)
{
    struct lh__tls_context *made = lh__tls_context_create(TLS_server_method());
    enum lh_status status;

    if (made == NULL) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for TLS");
    }
    ERR_clear_error();
    status = lh__tls_use_certificate(made->ssl, files, error);
    if (status == LH_OK) {
        status = lh__tls_use_key(made->ssl, files, error);
    }
    ERR_clear_error();
    if (status != LH_OK) {
        lh__tls_context_unref(made);
        return status;
    }
    SSL_CTX_set_alpn_select_cb(made->ssl, lh__tls_select_alpn, NULL);
    *context = made;
    return LH_OK;
}

static void lh__tls_ticket_clear(struct lh__tls_ticket *ticket)
{
    SSL_SESSION_free(ticket->session);
    ticket->session = NULL;
}

void lh__tls_ticket_deinit(struct lh__tls_ticket *ticket)
{
    lh__tls_ticket_clear(ticket);
    lh__tls_context_unref(ticket->context);
    ticket->context = NULL;
}

/* The server gives a session, which may be during a later read. Nonzero: it is kept. */
static int lh__tls_on_session(SSL *ssl, SSL_SESSION *session)
{
    struct lh__tls_ticket *ticket = SSL_get_app_data(ssl);

    if (ticket == NULL || ticket->context->ssl != SSL_get_SSL_CTX(ssl)) {
        return 0;
    }
    lh__tls_ticket_clear(ticket);
    ticket->session = session;
    return 1;
}

/* A session that is resumed shows no certificate, so it must be of the same context. */
static void lh__tls_use_ticket(struct lh__tls *tls, struct lh__tls_ticket *ticket)
{
    if (ticket->context != tls->context) {
        lh__tls_ticket_deinit(ticket);
        ticket->context = tls->context;
        ticket->context->refs++;
    }
    SSL_set_app_data(tls->ssl, ticket);
    if (ticket->session == NULL) {
        return;
    }
    (void)SSL_set_session(tls->ssl, ticket->session); /* else the handshake is a whole one */
    /* Used twice it would show that two connections are one client's (RFC 8446 appendix C.4). In
     * TLS 1.2 it would anyway, and there may be no second. */
    if (SSL_SESSION_get_protocol_version(ticket->session) >= TLS1_3_VERSION) {
        lh__tls_ticket_clear(ticket);
    }
}

enum lh_status lh__tls_context_create_client(struct lh__tls_context **context,
                                             struct lh_error *error)
{
    struct lh__tls_context *made = lh__tls_context_create(TLS_client_method());

    if (made == NULL) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for TLS");
    }
    if (SSL_CTX_set_default_verify_paths(made->ssl) != 1) {
        lh__tls_context_unref(made);
        return lh_error_set(error, LH_CONFIG, "cannot find the system's certificate authorities");
    }
    SSL_CTX_set_verify(made->ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(made->ssl, (const unsigned char *)"\x08http/1.1", 9);
    SSL_CTX_set_session_cache_mode(made->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(made->ssl, lh__tls_on_session);
    *context = made;
    return LH_OK;
}

int64_t lh__tls_context_not_after(const struct lh__tls_context *context)
{
    const X509 *certificate = SSL_CTX_get0_certificate(context->ssl);
    struct tm tm;

    if (certificate == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1) {
        return 0;
    }
    return timegm(&tm);
}

/* ---- sessions ---- */

static struct lh__tls *lh__tls_create(struct lh__tls_context *context)
{
    struct lh__tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(context->method);

    if (tls != NULL) {
        tls->ssl = SSL_new(context->ssl);
    }
    if (tls == NULL || bio == NULL || tls->ssl == NULL) {
        BIO_free(bio);
        SSL_free(tls ? tls->ssl : NULL);
        free(tls);
        return NULL;
    }
    tls->context = context;
    context->refs++;
    tls->in = LH_STR("");
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    return tls;
}

struct lh__tls *lh__tls_accept(struct lh__tls_context *context)
{
    struct lh__tls *tls = lh__tls_create(context);

    if (tls != NULL) {
        SSL_set_accept_state(tls->ssl);
    }
    return tls;
}

struct lh__tls *lh__tls_connect(struct lh__tls_context *context, const char *host,
                                struct lh__tls_ticket *ticket)
{
    struct lh__tls *tls = lh__tls_create(context);
    unsigned char address[16];
    bool is_address =
        inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;

    if (tls == NULL) {
        return NULL;
    }
    /* RFC 6066 section 3: an address is no server name. */
    if (is_address
            ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), host) != 1
            : SSL_set1_host(tls->ssl, host) != 1 || SSL_set_tlsext_host_name(tls->ssl, host) != 1) {
        lh__tls_destroy(tls);
        return NULL;
    }
    if (ticket != NULL) {
        lh__tls_use_ticket(tls, ticket);
    }
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void lh__tls_destroy(struct lh__tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        lh_buf_deinit(&tls->out);
        lh__tls_context_unref(tls->context);
        free(tls);
    }
}

void lh__tls_give(struct lh__tls *tls, struct lh_str bytes)
{
    assert(tls->in.len == 0);
    tls->in = bytes;
}

static void lh__tls_fail(struct lh__tls *tls)
{
    long verified = SSL_get_verify_result(tls->ssl);

    tls->failed = true;
    if (verified != X509_V_OK) {
        snprintf(tls->reason, sizeof tls->reason, "its certificate is refused: %s",
                 X509_verify_cert_error_string(verified));
    } else {
        snprintf(tls->reason, sizeof tls->reason, "%s", lh__tls_library_reason());
    }
    ERR_clear_error();
}

enum lh__tls_result lh__tls_read(struct lh__tls *tls, char *to, size_t cap, size_t *len)
{
    enum lh__tls_result result = LH__TLS_FAILED;

    *len = 0;
    ERR_clear_error();
    if (!tls->failed && SSL_read_ex(tls->ssl, to, cap, len) == 1) {
        return LH__TLS_DATA;
    }
    if (!tls->failed) {
        switch (SSL_get_error(tls->ssl, 0)) {
        case SSL_ERROR_WANT_READ:
            return LH__TLS_MORE;
        case SSL_ERROR_ZERO_RETURN:
            result = LH__TLS_END;
            break;
        default:
            lh__tls_fail(tls);
        }
    }
    tls->in = LH_STR("");
    return result;
}

bool lh__tls_write(struct lh__tls *tls, struct lh_str bytes)
{
    size_t records = bytes.len / LH__TLS_RECORD_BYTES + 1;
    size_t written = 0;

    assert(!tls->ended);
    if (tls->failed || bytes.len == 0) {
        return !tls->failed;
    }
    ERR_clear_error();
    if (lh_buf_reserve(&tls->out, bytes.len + records * LH__TLS_RECORD_OVERHEAD) != LH_OK ||
        SSL_write_ex(tls->ssl, bytes.ptr, bytes.len, &written) != 1) {
        lh__tls_fail(tls);
        return false;
    }
    assert(written == bytes.len); /* our BIO takes all */
    return true;
}

bool lh__tls_is_open(const struct lh__tls *tls)
{
    return !tls->failed && SSL_is_init_finished(tls->ssl);
}

bool lh__tls_is_of(const struct lh__tls *tls, const struct lh__tls_context *context)
{
    return tls->context == context;
}

void lh__tls_end(struct lh__tls *tls)
{
    if (!tls->ended && lh__tls_is_open(tls)) {
        ERR_clear_error();
        SSL_shutdown(tls->ssl);
        ERR_clear_error();
    }
    tls->ended = true;
}

struct lh_buf *lh__tls_out(struct lh__tls *tls)
{
    return &tls->out;
}

const char *lh__tls_reason(const struct lh__tls *tls)
{
    return tls->reason;
}
