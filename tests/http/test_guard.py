"""What the parser alone lets through, and what a request's header must be. Section numbers are
those of RFC 9112 unless another document is named."""
import pytest

from raw_http import get


def refused(server, raw, status, code):
    """The answer on every port, with the connection closed behind it."""
    for service in server.ports:
        client = server.connect(service)
        client.send(raw)
        answer = client.answer()
        assert (answer.status, answer.code) == (status, code), (service, answer.body)
        assert answer.closes
        assert client.at_eof()
        client.close()


HEAD = "GET /healthz HTTP/1.1\r\nHost: a\r\n"

BAD_REQUESTS = {
    "s2_2_a_bare_cr_inside_a_value": HEAD + "X-Abc:\rxTransfer-Encoding: chunked\r\n\r\n",
    "s2_2_a_bare_cr_between_words": HEAD + "X-Abc: a\rb\r\n\r\n",
    "s2_2_a_bare_cr_in_the_request_line": "GET /healthz\r HTTP/1.1\r\nHost: a\r\n\r\n",
    "s2_2_a_bare_lf_behind_the_request_line": "GET /healthz HTTP/1.1\nHost: a\r\n\r\n",
    "s2_2_a_bare_lf_behind_a_field": HEAD + "X-Abc: a\n\r\n\r\n",
    "s2_2_a_space_before_the_first_field": "GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n",
    "s2_3_no_version": "GET /healthz\r\nHost: a\r\n\r\n",
    "s2_3_a_version_in_lower_case": "GET /healthz http/1.1\r\nHost: a\r\n\r\n",
    "s2_3_a_version_with_three_digits": "GET /healthz HTTP/1.10\r\nHost: a\r\n\r\n",
    "s3_two_spaces_in_the_request_line": "GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "s3_a_tab_in_the_request_line": "GET\t/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "s3_a_space_behind_the_version": "GET /healthz HTTP/1.1 \r\nHost: a\r\n\r\n",
    "s3_1_a_method_that_is_no_token": "G(T /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "s3_2_a_target_without_a_slash": "GET healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "s3_2_a_raw_byte_over_127_in_the_target": "GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "s3_2_a_nul_in_the_target": "GET /health\0z HTTP/1.1\r\nHost: a\r\n\r\n",
    "s3_2_host_is_missing": "GET /healthz HTTP/1.1\r\nX-Abc: a\r\n\r\n",
    "s3_2_host_twice": HEAD + "Host: a\r\n\r\n",
    "s3_2_host_twice_in_other_case": HEAD + "hOsT: b\r\n\r\n",
    "s3_2_host_is_empty": "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
    "s3_2_host_with_a_path": "GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "s3_2_host_with_a_user": "GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "s3_2_host_with_a_port_that_is_no_number": "GET /healthz HTTP/1.1\r\nHost: a:8x\r\n\r\n",
    "s3_2_host_with_an_open_bracket": "GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "s3_2_two_hosts_in_one_field": "GET /healthz HTTP/1.1\r\nHost: a, b c\r\n\r\n",
    "s5_1_a_space_before_the_colon": "GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
    "s5_1_a_tab_before_the_colon": HEAD + "X-Abc\t: a\r\n\r\n",
    "s5_1_an_empty_name": HEAD + ": a\r\n\r\n",
    "s5_1_a_line_without_a_colon": HEAD + "X-Abc\r\n\r\n",
    "s5_1_a_name_that_is_no_token": HEAD + "X(Abc): a\r\n\r\n",
    "s5_1_a_name_with_a_high_byte": HEAD + "X-\xe9: a\r\n\r\n",
    "s5_2_a_folded_line": HEAD + "X-Abc: a\r\n b\r\n\r\n",
    "s5_2_a_line_folded_with_a_tab": HEAD + "X-Abc: a\r\n\tb\r\n\r\n",
    "rfc9110_s5_5_a_nul_in_a_value": HEAD + "X-Abc: a\0b\r\n\r\n",
    "rfc9110_s5_5_a_control_byte_in_a_value": HEAD + "X-Abc: a\x01b\r\n\r\n",
    "rfc9110_s5_5_a_delete_byte_in_a_value": HEAD + "X-Abc: a\x7fb\r\n\r\n",
    "s6_1_a_tab_behind_chunked":
        "POST /v1/vectors/index HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n"
        "0\r\n\r\n",
    "s6_2_a_tab_before_a_content_length":
        "POST /v1/vectors/index HTTP/1.1\r\nHost: a\r\nContent-Length:\t2\r\n\r\n{}",
    "s6_1_transfer_encoding_in_http_1_0":
        "POST /v1/vectors/index HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "s6_1_transfer_encoding_with_content_length":
        HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "s6_1_content_length_with_transfer_encoding":
        HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "s6_1_transfer_encoding_twice":
        HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "s6_1_chunked_twice_in_one_field": HEAD + "Transfer-Encoding: chunked, chunked\r\n\r\n",
    "s6_1_transfer_encoding_is_empty": HEAD + "Transfer-Encoding:\r\n\r\n",
    "s6_2_content_length_twice": HEAD + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "s6_2_content_length_is_a_list": HEAD + "Content-Length: 0, 0\r\n\r\n",
    "s6_2_content_length_is_negative": HEAD + "Content-Length: -1\r\n\r\n",
    "s6_2_content_length_has_a_plus": HEAD + "Content-Length: +5\r\n\r\nhello",
    "s6_2_content_length_is_hexadecimal": HEAD + "Content-Length: 0x5\r\n\r\nhello",
    "s6_2_content_length_is_empty": HEAD + "Content-Length:\r\n\r\n",
    "s6_2_content_length_with_a_space_inside": HEAD + "Content-Length: 1 0\r\n\r\n",
    "a_tls_hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("raw", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_is_a_bad_request(server, raw):
    refused(server, raw, 400, "bad_request")


OTHER_REFUSALS = {
    "s2_3_http_2_0": ("GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
    "s2_3_http_0_9": ("GET /healthz HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
    "s2_3_http_1_2": ("GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
    "the_http_2_preface": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported"),
    "an_unknown_method": ("BREW /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not_implemented"),
    "a_method_in_lower_case": ("get /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not_implemented"),
    "connect": ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, "not_implemented"),
    "trace": ("TRACE /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not_implemented"),
    "s6_1_an_unknown_coding": (HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501,
                               "not_implemented"),
    "s6_1_a_coding_named_almost_chunked": (HEAD + "Transfer-Encoding: xchunked\r\n\r\n", 501,
                                           "not_implemented"),
    "s6_1_chunked_is_not_last": (HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n", 501,
                                 "not_implemented"),
    "s6_2_content_length_over_64_bits": (HEAD + "Content-Length: 99999999999999999999\r\n\r\n",
                                         413, "body_too_large"),
    "rfc9110_s10_1_1_an_unknown_expectation": (HEAD + "Expect: coffee\r\n\r\n", 417,
                                               "expectation_failed"),
    "a_target_over_8_kib": ("GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % ("a" * 8192), 414,
                            "uri_too_long"),
    "a_request_line_over_16_kib": ("GET /" + "a" * 20000, 414, "uri_too_long"),
    "a_header_over_16_kib": (HEAD + "X-Abc: " + "a" * 20000 + "\r\n\r\n", 431,
                             "headers_too_large"),
    "a_header_over_16_kib_in_many_lines": (HEAD + "X-Abc: aaaaaaaaa\r\n" * 2000, 431,
                                           "headers_too_large"),
    "101_header_lines": (HEAD + "X: a\r\n" * 100 + "\r\n", 431, "headers_too_large"),
}


@pytest.mark.parametrize("raw,status,code", OTHER_REFUSALS.values(), ids=OTHER_REFUSALS.keys())
def test_is_refused(server, raw, status, code):
    refused(server, raw, status, code)


ACCEPTED = {
    "s2_2_empty_lines_before_the_request": "\r\n\r\n" + get(),
    "s3_2_2_the_absolute_form": get("http://other:80/healthz?a=b"),
    "s3_2_an_ipv6_host": get("/healthz", "Host: [::1]:3110"),
    "s3_2_a_host_with_a_port": get("/healthz", "Host: example.org:80"),
    "s5_white_space_around_a_value": get("/healthz", "Host: \t a \t "),
    "rfc9110_s5_5_a_high_byte_in_a_value": get("/healthz", "X-Abc: \xe9"),
    "rfc9110_s5_6_2_every_kind_of_token_byte": get("/healthz", "!#$%&'*+-.^_`|~09azAZ: a"),
    "100_header_lines": HEAD + "X: a\r\n" * 99 + "\r\n",
    "a_header_of_almost_16_kib": get("/healthz", "X-Abc: " + "a" * 16000),
    "s6_1_chunked_in_other_case": "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                                  "Chunked\r\n\r\n0\r\n\r\n",
    "rfc9110_s7_8_an_upgrade_is_ignored": get("/healthz", "Connection: Upgrade, HTTP2-Settings",
                                              "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"),
    "rfc9110_s7_8_a_websocket_upgrade_is_ignored":
        get("/healthz", "Connection: Upgrade", "Upgrade: websocket"),
}


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_is_accepted(server, raw):
    for service in server.ports:
        client = server.connect(service)
        client.send(raw)
        assert client.answer().status == 200, service
        client.send(get())  # the next request is where it should be
        assert client.answer().status == 200, service
        client.close()


@pytest.mark.parametrize("raw", [*BAD_REQUESTS.values(), *(raw for raw, _, _ in
                                                          OTHER_REFUSALS.values())],
                         ids=[*BAD_REQUESTS.keys(), *OTHER_REFUSALS.keys()])
def test_a_request_smuggled_behind_it_is_not_answered(server, raw):
    for service in server.ports:
        client = server.connect(service)
        client.send(raw + get("/healthz"))
        assert client.answer().status >= 400, service
        assert client.at_eof(), service
        client.close()


@pytest.mark.parametrize("target", ["/v1/vectors/index/%", "/v1/vectors/index/%4",
                                    "/v1/vectors/index/%zz", "/v1/vectors/index/%00",
                                    "/v1/vectors/index/a%00b", "/healthz?a=%00", "/healthz?a=%",
                                    "/healthz#a", "/healthz?" + "&".join("a%d=b" % i
                                                                         for i in range(17))])
def test_a_target_that_does_not_decode_keeps_the_connection(server, target):
    client = server.connect()
    client.send(get(target))
    answer = client.answer()
    assert (answer.status, answer.code) == (400, "bad_request")
    assert not answer.closes
    client.send(get())
    assert client.answer().status == 200
    client.close()
