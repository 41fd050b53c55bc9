/* The XML that S3 answers with, and the one document that it is sent.
 *
 * What is read may come from anyone who answers on the endpoint's port: sizes are bounded, a
 * document type declaration, and so every entity but XML's own five, is refused. */
#ifndef LH_STORE_S3_XML_H
#define LH_STORE_S3_XML_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum lh_s3_document {
    LH_S3_ERROR,    /* Error */
    LH_S3_LIST,     /* ListBucketResult */
    LH_S3_INITIATE, /* InitiateMultipartUploadResult */
    LH_S3_COMPLETE  /* CompleteMultipartUploadResult */
};

#define LH_S3_ETAG_BYTES_MAX 79u

struct lh_s3_entry {
    struct lh_str key; /* in the document's `keys`, decoded */
    uint64_t size;
    uint64_t modified_ms;                /* since 1970; 0 when it was not given */
    char etag[LH_S3_ETAG_BYTES_MAX + 1]; /* without quotes */
};

struct lh_s3_xml {
    enum lh_s3_document document;
    /* ERROR; each cut to its size, empty when it was not given */
    char code[64];
    char message[128];
    char region[64];
    char request_time[40];
    char server_time[40];
    /* INITIATE */
    struct lh_buf upload_id;
    /* COMPLETE */
    char etag[LH_S3_ETAG_BYTES_MAX + 1];
    /* LIST */
    struct lh_s3_entry *entries;
    uint32_t entry_count;
    bool is_truncated;
    struct lh_buf keys;
};

/* Reads one whole document. LH_BAD_GATEWAY with the line and the reason: it is not one that S3
 * answers with; LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_s3_xml_read(struct lh_str text, struct lh_s3_xml *xml,
                                          struct lh_error *error);
void lh_s3_xml_deinit(struct lh_s3_xml *xml);

/* Appends the body of CompleteMultipartUpload: parts are numbered from 1. */
void lh_s3_xml_complete(struct lh_buf *out, const char (*etags)[LH_S3_ETAG_BYTES_MAX + 1],
                        size_t count);

/* Copies an ETag without its quotes, cut to the array. */
void lh_s3_etag(struct lh_str value, char etag[LH_S3_ETAG_BYTES_MAX + 1]);

#endif
