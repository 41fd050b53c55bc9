/* Handles of libcurl before a call, and what it says behind one. The thread of the handle. */
#include "net/curl.h"

#include <stdlib.h>
#include <string.h>

/* libcurl itself does not look there. */
static void trust(CURL *curl)
{
    const char *file = getenv("SSL_CERT_FILE");
    const char *folder = getenv("SSL_CERT_DIR");

    if (file != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, file);
    }
    if (folder != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAPATH, folder);
    }
}

void lh_curl_begin(CURL *curl, const struct lh_curl_call *call)
{
    curl_easy_reset(curl);
    call->detail[0] = '\0';
    curl_easy_setopt(curl, CURLOPT_URL, call->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, call->connect_timeout_s);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, call->user_agent);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, call->detail);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, call->headers);
    if (call->token != NULL) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, call->token);
    }
    trust(curl);
}

const char *lh_curl_reason(CURL *curl, CURLcode code, const char *detail)
{
    long sys_errno = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &sys_errno);
    if (code == CURLE_COULDNT_CONNECT && sys_errno != 0) {
        return strerror((int)sys_errno);
    }
    if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR) {
        return "the connection broke before the answer";
    }
    return detail[0] != '\0' ? detail : curl_easy_strerror(code);
}
