/* What a call asks of ingest: its query, its headers, and what a form says of its file. Loop
 * thread.
 */
#include "actors/ingestd.h"

#include <stdlib.h>
#include <string.h>

/* ---- choices ---- */

struct choice {
    const char *name;
    int value;
};

static bool find_choice(const struct choice *choices, size_t count, struct lh_str text, int *value)
{
    for (size_t i = 0; i < count; i++) {
        if (!lh_str_eq_nocase(text, lh_str_of(choices[i].name)))
            continue;
        *value = choices[i].value;
        return true;
    }
    return false;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct choice formats[] = {
    {"csv", LH_INGEST_CSV},      {"tsv", LH_INGEST_CSV},   {"ndjson", LH_INGEST_NDJSON},
    {"jsonl", LH_INGEST_NDJSON}, {"json", LH_INGEST_JSON}, {"parquet", LH_INGEST_PARQUET},
};
static const struct choice types[] = {
    {"text/csv", LH_INGEST_CSV},
    {"text/tab-separated-values", LH_INGEST_CSV},
    {"application/csv", LH_INGEST_CSV},
    {"application/x-ndjson", LH_INGEST_NDJSON},
    {"application/ndjson", LH_INGEST_NDJSON},
    {"application/jsonl", LH_INGEST_NDJSON},
    {"application/json", LH_INGEST_JSON},
    {"application/vnd.apache.parquet", LH_INGEST_PARQUET},
    {"application/x-parquet", LH_INGEST_PARQUET},
};
static const struct choice modes[] = {{"create", LH_REGISTER_CREATE},
                                      {"replace", LH_REGISTER_REPLACE},
                                      {"append", LH_REGISTER_APPEND}};
static const struct choice headers[] = {
    {"true", LH_INGEST_HEADER_YES}, {"yes", LH_INGEST_HEADER_YES}, {"1", LH_INGEST_HEADER_YES},
    {"false", LH_INGEST_HEADER_NO}, {"no", LH_INGEST_HEADER_NO},   {"0", LH_INGEST_HEADER_NO}};
static const struct choice on_errors[] = {{"fail", false}, {"quarantine", true}};
static const struct choice encodings[] = {{"identity", LH_INGEST_PLAIN},
                                          {"gzip", LH_INGEST_GZIP},
                                          {"x-gzip", LH_INGEST_GZIP},
                                          {"zstd", LH_INGEST_ZSTD}};

/* `value` stays as it is when the query does not say. */
static enum lh_status read_choice(const struct lh_http_call *call, const char *name,
                                  const struct choice *choices, size_t count, int *value,
                                  struct lh_error *error)
{
    struct lh_str text;
    struct lh_buf names = LH_BUF_EMPTY;
    if (!lh_http_call_query(call, name, &text) || find_choice(choices, count, text, value))
        return LH_OK;
    for (size_t i = 0; i < count; i++)
        lh_buf_printf(&names, "%s%s", i > 0 ? ", " : "", choices[i].name);
    enum lh_status status = lh_error_set(error, LH_INVALID_ARGUMENT, "%s: \"%.*s\" is none of %.*s",
                                         name, (int)(text.len < 40 ? text.len : 40), text.ptr,
                                         LH_STR_FMT(lh_buf_str(&names)));
    lh_buf_deinit(&names);
    return status;
}

/* ---- texts ---- */

static enum lh_status read_text(const struct lh_http_call *call, const char *name, size_t len_max,
                                char **text, struct lh_error *error)
{
    struct lh_str value;
    if (!lh_http_call_query(call, name, &value))
        return LH_OK;
    if (value.len > len_max) /* none has a NUL: targets have none */
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: up to %zu bytes", name, len_max);
    *text = strndup(value.ptr, value.len);
    return *text != NULL ? LH_OK : lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
}

static enum lh_status read_texts(const struct lh_http_call *call, struct lh_ingest_texts *texts,
                                 struct lh_error *error)
{
    enum lh_status status = read_text(call, "delim", 4, &texts->delim, error);
    if (status == LH_OK && texts->delim != NULL && *texts->delim == '\0')
        status = lh_error_set(error, LH_INVALID_ARGUMENT, "delim: 1 to 4 bytes");
    if (status == LH_OK && texts->delim != NULL && strcmp(texts->delim, "\\t") == 0)
        strcpy(texts->delim, "\t"); /* as everyone writes it */
    if (status == LH_OK)
        status = read_text(call, "quote", 1, &texts->quote, error);
    if (status == LH_OK)
        status = read_text(call, "escape", 1, &texts->escape, error);
    if (status == LH_OK)
        status = read_text(call, "nullstr", 64, &texts->nullstr, error);
    if (status == LH_OK)
        status = read_text(call, "types", LH_TARGET_BYTES_MAX, &texts->types, error);
    return status;
}

/* ---- the format ---- */

static struct lh_str without_parameters(struct lh_str type)
{
    const char *semicolon = type.len > 0 ? memchr(type.ptr, ';', type.len) : NULL;
    if (semicolon != NULL)
        type.len = (size_t)(semicolon - type.ptr);
    return lh_str_trim(type);
}

/* "people.csv.gz". */
static bool format_of_name(struct lh_str name, int *format)
{
    while (name.len > 0) {
        const char *dot = memrchr(name.ptr, '.', name.len);
        if (dot == NULL)
            return false;
        struct lh_str ending = {dot + 1, name.len - (size_t)(dot + 1 - name.ptr)};
        if (find_choice(formats, COUNT(formats), ending, format))
            return true;
        if (!lh_str_eq_nocase(ending, LH_STR("gz")) && !lh_str_eq_nocase(ending, LH_STR("zst")))
            return false;
        name.len = (size_t)(dot - name.ptr);
    }
    return false;
}

void lh__ingest_read_form(struct lh_ingest_job *job)
{
    int format = LH_INGEST_ANY;
    if (!job->is_form || job->format != LH_INGEST_ANY)
        return;
    if (format_of_name(lh_str_of(job->form.file_name), &format) ||
        find_choice(types, COUNT(types), without_parameters(lh_str_of(job->form.content_type)),
                    &format))
        job->format = (enum lh_ingest_format)format;
}

static enum lh_status read_encoding(const struct lh_http_call *call, struct lh_ingest_job *job,
                                    struct lh_error *error)
{
    struct lh_str encoding = lh_http_call_header(call, "content-encoding");
    int value = LH_INGEST_COMPRESSION_ANY;
    if (encoding.len > 0 && !find_choice(encodings, COUNT(encodings), encoding, &value))
        return lh_error_set(error, LH_UNSUPPORTED_MEDIA_TYPE,
                            "Content-Encoding: gzip and zstd are read");
    if (value != LH_INGEST_PLAIN) /* a compressed file may be sent as it is */
        job->compression = (enum lh_ingest_compression)value;
    return LH_OK;
}

static enum lh_status read_format(const struct lh_http_call *call, struct lh_ingest_job *job,
                                  struct lh_error *error)
{
    struct lh_str type = lh_http_call_header(call, "content-type");
    int format = LH_INGEST_ANY;
    enum lh_status status = read_choice(call, "format", formats, COUNT(formats), &format, error);
    job->is_form = lh_multipart_is(type);
    if (status == LH_OK && job->is_form)
        status = lh_multipart_init(&job->form, type, error);
    else if (format == LH_INGEST_ANY)
        find_choice(types, COUNT(types), without_parameters(type), &format);
    job->format = (enum lh_ingest_format)format;
    return status == LH_OK ? read_encoding(call, job, error) : status;
}

/* ---- all of it ---- */

static enum lh_status read_name(const struct lh_http_call *call, bool puts_aside,
                                struct lh_ingest_job *job, struct lh_error *error)
{
    struct lh_str name = {"", 0};
    if (!lh_http_call_query(call, "name", &name) || !lh_dataset_name_is_valid(name))
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "name: 1 to %u letters, digits, '.', '_' and '-', the first a letter "
                            "or a digit",
                            LH_NAME_BYTES_MAX);
    memcpy(job->name, name.ptr, name.len);
    if (!puts_aside)
        return LH_OK;
    if (name.len + sizeof LH_REJECTED_SUFFIX > sizeof job->rejected_name)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "name: with " LH_REJECTED_SUFFIX " longer than %u bytes",
                            LH_NAME_BYTES_MAX);
    memcpy(job->rejected_name, name.ptr, name.len);
    memcpy(job->rejected_name + name.len, LH_REJECTED_SUFFIX, sizeof LH_REJECTED_SUFFIX);
    return LH_OK;
}

static enum lh_status check_options(const struct lh_ingest_job *job, struct lh_error *error)
{
    const struct lh_ingest_texts *texts = &job->texts;
    const char *given = texts->delim != NULL                  ? "delim"
                        : texts->quote != NULL                ? "quote"
                        : texts->escape != NULL               ? "escape"
                        : texts->nullstr != NULL              ? "nullstr"
                        : texts->types != NULL                ? "types"
                        : job->header != LH_INGEST_HEADER_ANY ? "header"
                        : *job->rejected_name != '\0'         ? "on_error"
                                                              : NULL;
    if (given == NULL || job->format == LH_INGEST_ANY || job->format == LH_INGEST_CSV)
        return LH_OK;
    return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: an option of CSV", given);
}

enum lh_status lh__ingest_read_call(const struct lh_http_call *call, struct lh_ingest_job *job,
                                    struct lh_error *error)
{
    int mode = LH_REGISTER_CREATE, header = LH_INGEST_HEADER_ANY, puts_aside = false;
    enum lh_status status = read_choice(call, "mode", modes, COUNT(modes), &mode, error);
    if (status == LH_OK)
        status = read_choice(call, "header", headers, COUNT(headers), &header, error);
    if (status == LH_OK)
        status = read_choice(call, "on_error", on_errors, COUNT(on_errors), &puts_aside, error);
    job->mode = (enum lh_register_mode)mode;
    job->header = (enum lh_ingest_header)header;
    if (status == LH_OK)
        status = read_name(call, puts_aside, job, error);
    if (status == LH_OK)
        status = read_texts(call, &job->texts, error);
    if (status == LH_OK)
        status = read_format(call, job, error);
    return status == LH_OK ? check_options(job, error) : status;
}
