/* What every outgoing call over libcurl has in common, the server's and the command line's. */
#ifndef LH_NET_CURL_H
#define LH_NET_CURL_H

#include <curl/curl.h>

struct lh_curl_call {
    const char *url;
    const char *user_agent;
    const struct curl_slist *headers;
    long connect_timeout_s;
    const char *token; /* sent as a bearer token; NULL: none */
    char *detail;      /* CURL_ERROR_SIZE bytes: why it failed */
};

/* Resets the handle's options; its connections stay. HTTP/1.1, no redirects, no proxy, no signals;
 * a server's certificate must be trusted by the system's store or, as for OpenSSL's own programs,
 * by what SSL_CERT_FILE and SSL_CERT_DIR name. The strings of `call` outlive the transfer. */
void lh_curl_begin(CURL *curl, const struct lh_curl_call *call);

/* Why a transfer failed, in the system's words where it has some. */
const char *lh_curl_reason(CURL *curl, CURLcode code, const char *detail);

#endif
