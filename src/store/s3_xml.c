/* Reading S3's XML with expat. Any thread; one document at a time, from memory.
 *
 * Invariant: nothing of the text is kept that has not passed its bound, and no part of a document
 * that was refused is handed on. */
#include "store/s3_xml.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DEPTH_MAX 16u

struct reading {
    XML_Parser parser;
    struct lh_s3_xml *xml;
    struct lh_error *error;
    enum lh_status status;
    unsigned depth; /* of open elements */
    bool has_document;
    bool in_entry;    /* inside Contents of a list */
    bool has_key;     /* of this entry */
    bool is_url;      /* keys are percent-encoded */
    size_t key_start; /* of this entry's key in `keys` */
    struct lh_buf text;
};

static void refuse(struct reading *reading, enum lh_status status, const char *why)
{
    if (reading->status == LH_OK)
        reading->status =
            lh_error_set(reading->error, status, "s3: line %lu of the answer: %s",
                         (unsigned long)XML_GetCurrentLineNumber(reading->parser), why);
    XML_StopParser(reading->parser, XML_FALSE);
}

static void copy(char *to, size_t size, struct lh_str text)
{
    snprintf(to, size, "%.*s", (int)(text.len < size ? text.len : size - 1), text.ptr);
}

void lh_s3_etag(struct lh_str value, char etag[LH_S3_ETAG_BYTES_MAX + 1])
{
    value = lh_str_trim(value);
    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
        value = (struct lh_str){value.ptr + 1, value.len - 2};
    copy(etag, LH_S3_ETAG_BYTES_MAX + 1, value);
}

/* ---- one element's text ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* As S3 encodes for encoding-type=url: a form's way, with a plus for a space. */
static bool append_decoded(struct lh_buf *out, struct lh_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        lh_buf_append_char(out, c);
    }
    return true;
}

/* "2009-10-12T17:50:30.000Z". */
static bool read_time(struct lh_str text, uint64_t *ms)
{
    char z[40];
    struct tm utc = {0};
    uint64_t fraction = 0;
    if (text.len >= sizeof z)
        return false;
    copy(z, sizeof z, text);
    const char *rest = strptime(z, "%Y-%m-%dT%H:%M:%S", &utc);
    if (rest == NULL || utc.tm_year < 70)
        return false;
    if (*rest == '.') {
        unsigned scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
            fraction += (uint64_t)(*rest - '0') * scale;
    }
    if (strcmp(rest, "Z") != 0)
        return false;
    *ms = (uint64_t)timegm(&utc) * 1000 + fraction;
    return true;
}

/* ---- a list ---- */

static void open_entry(struct reading *reading)
{
    struct lh_s3_xml *xml = reading->xml;
    if (xml->entry_count == LH_S3_PAGE_KEYS_MAX) {
        refuse(reading, LH_BAD_GATEWAY, "more keys than S3 lists at once");
        return;
    }
    if (xml->entries == NULL)
        xml->entries = calloc(LH_S3_PAGE_KEYS_MAX, sizeof *xml->entries);
    if (xml->entries == NULL) {
        refuse(reading, LH_OUT_OF_MEMORY, "not enough memory");
        return;
    }
    reading->in_entry = true;
    reading->has_key = false;
    reading->key_start = xml->keys.len;
}

static void close_entry(struct reading *reading)
{
    struct lh_s3_xml *xml = reading->xml;
    reading->in_entry = false;
    if (!reading->has_key) {
        refuse(reading, LH_BAD_GATEWAY, "an object without a key");
        return;
    }
    xml->entries[xml->entry_count++].key.len = xml->keys.len - reading->key_start;
}

static void read_entry(struct reading *reading, struct lh_str name, struct lh_str text)
{
    struct lh_s3_xml *xml = reading->xml;
    struct lh_s3_entry *entry = &xml->entries[xml->entry_count];
    bool is_right = true;
    if (lh_str_eq(name, LH_STR("Key"))) {
        is_right = !reading->has_key && text.len > 0;
        reading->has_key = true;
        lh_buf_append_str(&xml->keys, text);
    } else if (lh_str_eq(name, LH_STR("Size"))) {
        is_right = lh_str_to_u64(text, &entry->size);
    } else if (lh_str_eq(name, LH_STR("LastModified"))) {
        is_right = read_time(text, &entry->modified_ms);
    } else if (lh_str_eq(name, LH_STR("ETag"))) {
        lh_s3_etag(text, entry->etag);
    }
    if (!is_right)
        refuse(reading, LH_BAD_GATEWAY, "an object's key, size or time cannot be read");
}

/* EncodingType may stand behind the keys, so they are decoded at the end. */
static void finish_list(struct reading *reading)
{
    struct lh_s3_xml *xml = reading->xml;
    struct lh_buf decoded = LH_BUF_EMPTY;
    bool is_right = true;
    for (size_t i = 0, start = 0; i < xml->entry_count && is_right; i++) {
        struct lh_s3_entry *entry = &xml->entries[i];
        struct lh_str raw = {xml->keys.ptr + start, entry->key.len};
        size_t from = decoded.len;
        start += raw.len;
        if (reading->is_url)
            is_right = append_decoded(&decoded, raw);
        else
            lh_buf_append_str(&decoded, raw);
        entry->key.len = decoded.len - from;
    }
    lh_buf_deinit(&xml->keys);
    xml->keys = decoded;
    if (!is_right) {
        reading->status = lh_error_set(reading->error, LH_BAD_GATEWAY,
                                       "s3: the answer: a key is not encoded as it says");
        return;
    }
    for (size_t i = 0, start = 0; i < xml->entry_count; i++) {
        xml->entries[i].key.ptr = decoded.ptr + start;
        start += xml->entries[i].key.len;
    }
}

/* ---- what expat calls ---- */

static struct lh_str local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return lh_str_of(colon != NULL ? colon + 1 : name);
}

static void on_open(void *arg, const char *raw, const char **attributes)
{
    static const struct {
        struct lh_str name;
        enum lh_s3_document document;
    } documents[] = {
        {{"Error", 5}, LH_S3_ERROR},
        {{"ListBucketResult", 16}, LH_S3_LIST},
        {{"InitiateMultipartUploadResult", 29}, LH_S3_INITIATE},
        {{"CompleteMultipartUploadResult", 29}, LH_S3_COMPLETE},
    };
    struct reading *reading = arg;
    struct lh_str name = local_name(raw);
    reading->text.len = 0;
    reading->depth++;
    if (reading->depth > DEPTH_MAX) {
        refuse(reading, LH_BAD_GATEWAY, "too deep");
    } else if (reading->depth == 1) {
        for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++)
            if (lh_str_eq(name, documents[i].name)) {
                reading->xml->document = documents[i].document;
                reading->has_document = true;
            }
        if (!reading->has_document)
            refuse(reading, LH_BAD_GATEWAY, "not a document of S3");
    } else if (reading->depth == 2 && reading->xml->document == LH_S3_LIST &&
               lh_str_eq(name, LH_STR("Contents"))) {
        open_entry(reading);
    }
}

static void read_error(struct lh_s3_xml *xml, struct lh_str name, struct lh_str text)
{
    if (lh_str_eq(name, LH_STR("Code")))
        copy(xml->code, sizeof xml->code, text);
    else if (lh_str_eq(name, LH_STR("Message")))
        copy(xml->message, sizeof xml->message, text);
    else if (lh_str_eq(name, LH_STR("Region")))
        copy(xml->region, sizeof xml->region, text);
    else if (lh_str_eq(name, LH_STR("RequestTime")))
        copy(xml->request_time, sizeof xml->request_time, text);
    else if (lh_str_eq(name, LH_STR("ServerTime")))
        copy(xml->server_time, sizeof xml->server_time, text);
}

/* An element that stands directly in the document. */
static void read_field(struct reading *reading, struct lh_str name, struct lh_str text)
{
    struct lh_s3_xml *xml = reading->xml;
    switch (xml->document) {
    case LH_S3_ERROR:
        read_error(xml, name, text);
        break;
    case LH_S3_LIST:
        if (lh_str_eq(name, LH_STR("IsTruncated")))
            xml->is_truncated = lh_str_eq(text, LH_STR("true"));
        else if (lh_str_eq(name, LH_STR("EncodingType")))
            reading->is_url = lh_str_eq(text, LH_STR("url"));
        break;
    case LH_S3_INITIATE:
        if (lh_str_eq(name, LH_STR("UploadId"))) {
            xml->upload_id.len = 0;
            lh_buf_append_str(&xml->upload_id, text);
        }
        break;
    case LH_S3_COMPLETE:
        if (lh_str_eq(name, LH_STR("ETag")))
            lh_s3_etag(text, xml->etag);
        break;
    }
}

static void on_close(void *arg, const char *raw)
{
    struct reading *reading = arg;
    struct lh_str name = local_name(raw);
    struct lh_str text = lh_str_trim(lh_buf_str(&reading->text));
    if (reading->in_entry && reading->depth == 2)
        close_entry(reading);
    else if (reading->in_entry && reading->depth == 3)
        read_entry(reading, name,
                   lh_str_eq(name, LH_STR("Key")) ? lh_buf_str(&reading->text) : text);
    else if (reading->depth == 2)
        read_field(reading, name, text);
    reading->text.len = 0;
    reading->depth--;
}

static void on_text(void *arg, const char *bytes, int len)
{
    struct reading *reading = arg;
    if (reading->text.len + (size_t)len > LH_S3_TEXT_BYTES_MAX)
        refuse(reading, LH_BAD_GATEWAY, "an element is too long");
    else
        lh_buf_append(&reading->text, bytes, (size_t)len);
}

static void on_doctype(void *arg, const char *name, const char *system_id, const char *public_id,
                       int has_internal_subset)
{
    refuse(arg, LH_BAD_GATEWAY, "a document type declaration, which S3 never sends");
}

/* ---- a document ---- */

static void parse(struct reading *reading, struct lh_str text)
{
    XML_Parser parser = reading->parser;
    XML_SetUserData(parser, reading);
    XML_SetElementHandler(parser, on_open, on_close);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_SetStartDoctypeDeclHandler(parser, on_doctype);
    enum XML_Status status = XML_Parse(parser, text.ptr, (int)text.len, XML_TRUE);
    if (status != XML_STATUS_OK)
        refuse(reading,
               XML_GetErrorCode(parser) == XML_ERROR_NO_MEMORY ? LH_OUT_OF_MEMORY : LH_BAD_GATEWAY,
               XML_ErrorString(XML_GetErrorCode(parser)));
}

enum lh_status lh_s3_xml_read(struct lh_str text, struct lh_s3_xml *xml, struct lh_error *error)
{
    struct reading reading = {.xml = xml, .error = error};
    *xml = (struct lh_s3_xml){.document = LH_S3_ERROR};
    if (text.len > LH_S3_ANSWER_BYTES_MAX)
        return lh_error_set(error, LH_BAD_GATEWAY, "s3: an answer of more than %u bytes",
                            LH_S3_ANSWER_BYTES_MAX);
    reading.parser = XML_ParserCreate(NULL);
    if (reading.parser == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "s3: not enough memory for an answer");
    parse(&reading, text);
    if (reading.status == LH_OK && xml->document == LH_S3_LIST && !lh_buf_failed(&xml->keys))
        finish_list(&reading);
    if (reading.status == LH_OK && (lh_buf_failed(&reading.text) || lh_buf_failed(&xml->keys) ||
                                    lh_buf_failed(&xml->upload_id)))
        reading.status =
            lh_error_set(error, LH_OUT_OF_MEMORY, "s3: not enough memory for an answer");
    XML_ParserFree(reading.parser);
    lh_buf_deinit(&reading.text);
    if (reading.status != LH_OK)
        lh_s3_xml_deinit(xml);
    return reading.status;
}

void lh_s3_xml_deinit(struct lh_s3_xml *xml)
{
    free(xml->entries);
    lh_buf_deinit(&xml->keys);
    lh_buf_deinit(&xml->upload_id);
    *xml = (struct lh_s3_xml){.document = LH_S3_ERROR};
}

static void append_escaped(struct lh_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '&')
            lh_buf_append_str(out, LH_STR("&amp;"));
        else if (*text == '<')
            lh_buf_append_str(out, LH_STR("&lt;"));
        else if (*text == '>')
            lh_buf_append_str(out, LH_STR("&gt;"));
        else
            lh_buf_append_char(out, *text);
    }
}

void lh_s3_xml_complete(struct lh_buf *out, const char (*etags)[LH_S3_ETAG_BYTES_MAX + 1],
                        size_t count)
{
    lh_buf_append_str(
        out, LH_STR("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"));
    for (size_t i = 0; i < count; i++) {
        lh_buf_printf(out, "<Part><PartNumber>%zu</PartNumber><ETag>\"", i + 1);
        append_escaped(out, etags[i]);
        lh_buf_append_str(out, LH_STR("\"</ETag></Part>"));
    }
    lh_buf_append_str(out, LH_STR("</CompleteMultipartUpload>"));
}
