/* store/s3_xml: what S3 answers with, read within its bounds. */
#include "store/s3_xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

static struct lh_s3_xml read_well(const char *text)
{
    struct lh_s3_xml xml;
    struct lh_error error = {.text = ""};
    enum lh_status status = lh_s3_xml_read(lh_str_of(text), &xml, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, LH_OK);
    return xml;
}

static void refused(struct lh_str text, const char *why)
{
    struct lh_s3_xml xml;
    struct lh_error error = {.text = ""};
    assert_int_equal(lh_s3_xml_read(text, &xml, &error), LH_BAD_GATEWAY);
    assert_non_null(strstr(error.text, why));
    assert_null(xml.entries);
}

static void a_list_is_read_with_its_keys_decoded(void **state)
{
    struct lh_s3_xml xml =
        read_well(HEAD "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                       "<IsTruncated>true</IsTruncated>"
                       "<Contents><Key>a+b%2Bc%25%C3%A9&amp;</Key>"
                       "<LastModified>2009-10-12T17:50:30.250Z</LastModified>"
                       "<ETag>&quot;abc-2&quot;</ETag><Size>434234</Size>"
                       "<Owner><Key>no key</Key></Owner></Contents>"
                       "<Contents><Key> x\n</Key><Size>0</Size></Contents>"
                       "<EncodingType>url</EncodingType></ListBucketResult>");
    assert_int_equal(xml.document, LH_S3_LIST);
    assert_true(xml.is_truncated);
    assert_int_equal(xml.entry_count, 2);
    assert_true(lh_str_eq(xml.entries[0].key, LH_STR("a b+c%\xc3\xa9&")));
    assert_int_equal(xml.entries[0].size, 434234);
    assert_int_equal(xml.entries[0].modified_ms, 1255369830250);
    assert_string_equal(xml.entries[0].etag, "abc-2");
    assert_true(lh_str_eq(xml.entries[1].key, LH_STR(" x\n")));
    lh_s3_xml_deinit(&xml);
}

static void keys_are_as_they_stand_where_the_store_does_not_encode(void **state)
{
    struct lh_s3_xml xml = read_well("<ListBucketResult><Contents><Key>a+b%41</Key></Contents>"
                                     "</ListBucketResult>");
    assert_true(lh_str_eq(xml.entries[0].key, LH_STR("a+b%41")));
    assert_false(xml.is_truncated);
    lh_s3_xml_deinit(&xml);
}

static void uploads_and_errors_are_read(void **state)
{
    struct lh_s3_xml xml =
        read_well("<InitiateMultipartUploadResult><Bucket>b</Bucket><UploadId>id==</UploadId>"
                  "</InitiateMultipartUploadResult>");
    assert_int_equal(xml.document, LH_S3_INITIATE);
    assert_true(lh_str_eq(lh_buf_str(&xml.upload_id), LH_STR("id==")));
    lh_s3_xml_deinit(&xml);
    xml = read_well(HEAD "\n<CompleteMultipartUploadResult><ETag>\"e-9\"</ETag>"
                         "</CompleteMultipartUploadResult>");
    assert_int_equal(xml.document, LH_S3_COMPLETE);
    assert_string_equal(xml.etag, "e-9");
    lh_s3_xml_deinit(&xml);
    xml = read_well("<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message>"
                    "<RequestTime>r</RequestTime><ServerTime>s</ServerTime><Region>g</Region>"
                    "<Deep><Code>no</Code></Deep></Error>");
    assert_int_equal(xml.document, LH_S3_ERROR);
    assert_string_equal(xml.code, "RequestTimeTooSkewed");
    assert_string_equal(xml.message, "m");
    assert_string_equal(xml.request_time, "r");
    assert_string_equal(xml.server_time, "s");
    assert_string_equal(xml.region, "g");
    lh_s3_xml_deinit(&xml);
}

static void what_s3_never_sends_is_refused_with_its_line(void **state)
{
    refused(LH_STR(""), "line 1");
    refused(LH_STR("<html><body></body></html>"), "not a document of S3");
    refused(LH_STR("<Error>\n<Code>x</Error>"), "line 2");
    refused(LH_STR("<!DOCTYPE Error [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>"),
            "document type");
    refused(LH_STR("<Error><Code>&a;</Code></Error>"), "line 1");
    refused(LH_STR("<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>"),
            "without a key");
    refused(LH_STR("<ListBucketResult><Contents><Key>k</Key><Size>-1</Size></Contents>"
                   "</ListBucketResult>"),
            "cannot be read");
    refused(LH_STR("<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%4</Key>"
                   "</Contents></ListBucketResult>"),
            "not encoded");
}

static void sizes_are_bounded(void **state)
{
    struct lh_buf text = LH_BUF_EMPTY;
    lh_buf_append_str(&text, LH_STR("<Error><Code>"));
    for (unsigned i = 0; i <= LH_S3_TEXT_BYTES_MAX; i++)
        lh_buf_append_char(&text, 'x');
    lh_buf_append_str(&text, LH_STR("</Code></Error>"));
    refused(lh_buf_str(&text), "too long");
    text.len = 0;
    lh_buf_append_str(&text, LH_STR("<ListBucketResult>"));
    for (unsigned i = 0; i <= LH_S3_PAGE_KEYS_MAX; i++)
        lh_buf_printf(&text, "<Contents><Key>%u</Key></Contents>", i);
    lh_buf_append_str(&text, LH_STR("</ListBucketResult>"));
    refused(lh_buf_str(&text), "more keys");
    text.len = 0;
    for (unsigned i = 0; i < 100; i++)
        lh_buf_append_str(&text, LH_STR("<Error>"));
    refused(lh_buf_str(&text), "too deep");
    lh_buf_deinit(&text);
}

static void the_parts_of_an_upload_are_written(void **state)
{
    const char etags[2][LH_S3_ETAG_BYTES_MAX + 1] = {"abc", "<&>"};
    struct lh_buf out = LH_BUF_EMPTY;
    lh_s3_xml_complete(&out, etags, 2);
    lh_buf_append_char(&out, '\0');
    assert_non_null(strstr(out.ptr, "<Part><PartNumber>1</PartNumber><ETag>\"abc\"</ETag></Part>"
                                    "<Part><PartNumber>2</PartNumber>"
                                    "<ETag>\"&lt;&amp;&gt;\"</ETag></Part>"
                                    "</CompleteMultipartUpload>"));
    lh_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_read_with_its_keys_decoded),
        cmocka_unit_test(keys_are_as_they_stand_where_the_store_does_not_encode),
        cmocka_unit_test(uploads_and_errors_are_read),
        cmocka_unit_test(what_s3_never_sends_is_refused_with_its_line),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(the_parts_of_an_upload_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
