/* Any bytes as what an upstream answers, cut anywhere: the guard, the parser, the trailer section.
 *
 * How the bytes are cut must not change what they say: neither the outcome, nor where the response
 * ends, nor its body. And what the guard lets through has one framing. */
#include "base/limits.h"
#include "net/response.h"

#include <stdlib.h>
#include <string.h>

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* What one reading made of the bytes. */
struct reading {
    struct lh__response response;
    enum lh_status status;
    size_t used;
    unsigned heads;
    unsigned interims;
    uint64_t body_len;
    uint64_t body_hash;
};

static void on_interim(int status, void *arg)
{
    struct reading *reading = arg;

    must(status >= 100 && status < 200 && status != 101 && reading->heads == 0);
    reading->interims++;
}

static void on_head(const struct lh__head *head, void *arg)
{
    struct reading *reading = arg;

    must(head->status >= 200 && head->status <= 599);
    must(!(head->chunked && head->has_content_length));
    must(++reading->heads == 1);
}

static void on_body(struct lh_str piece, void *arg)
{
    struct reading *reading = arg;
    const struct lh__head *head = &reading->response.head;

    must(piece.len > 0 && reading->heads == 1);
    must(!lh__response_is_bodiless(&reading->response));
    for (size_t i = 0; i < piece.len; i++) { /* FNV-1a */
        reading->body_hash = (reading->body_hash ^ (unsigned char)piece.ptr[i]) * 1099511628211ull;
    }
    reading->body_len += piece.len;
    must(!head->has_content_length || reading->body_len <= head->content_length);
}

/* Reads `len` bytes in pieces of `step`, each from memory of its own. */
static void read_all(struct reading *reading, const char *bytes, size_t len, size_t step, bool head)
{
    struct lh_error error;

    *reading = (struct reading){.body_hash = 14695981039346656037ull};
    reading->response.on_interim = on_interim;
    reading->response.on_head = on_head;
    reading->response.on_body = on_body;
    reading->response.arg = reading;
    lh__response_begin(&reading->response, head);
    while (reading->used < len && reading->response.state != LH__RESPONSE_DONE) {
        size_t size = len - reading->used < step ? len - reading->used : step;
        size_t used = 0;
        char *piece = malloc(size);
        must(piece != NULL);
        memcpy(piece, bytes + reading->used, size);
        reading->status = lh__response_read(&reading->response, piece, size, &used, &error);
        free(piece);
        reading->used += used;
        if (reading->status != LH_OK) {
            must(error.text[0] != '\0');
            break;
        }
        must(used == size || reading->response.state == LH__RESPONSE_DONE);
    }
    if (reading->response.state == LH__RESPONSE_DONE && reading->response.head.has_content_length &&
        !lh__response_is_bodiless(&reading->response)) {
        must(reading->body_len == reading->response.head.content_length);
    }
    if (reading->status == LH_OK && reading->response.state != LH__RESPONSE_DONE &&
        lh__response_at_eof(&reading->response, &error) == LH_OK) {
        must(reading->response.until_close);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data + 2;
    struct reading whole;
    struct reading pieces;

    if (size < 3 || size > 4 * LH_HEADER_BYTES_MAX) {
        return 0;
    }
    read_all(&whole, bytes, size - 2, size, data[0] & 1);
    read_all(&pieces, bytes, size - 2, 1 + data[1] % 64, data[0] & 1);
    must(whole.status == pieces.status);
    must(whole.heads == pieces.heads && whole.interims == pieces.interims);
    if (whole.status == LH_OK) {
        must(whole.response.state == pieces.response.state && whole.used == pieces.used);
        must(whole.body_len == pieces.body_len && whole.body_hash == pieces.body_hash);
    }
    lh__response_deinit(&whole.response);
    lh__response_deinit(&pieces.response);
    return 0;
}
