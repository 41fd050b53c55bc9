/* Calls: their pool, and what a service asks of one. Loop thread.
 *
 * A ticket names a slot and its generation. The generation moves on when the call is answered or
 * its client goes away, so a late reply finds a mismatch, never another call. */
#include "net/internal.h"

#include <assert.h>
#include <stdlib.h>

struct lh_http_call *lh__call_take(struct lh__conn *conn)
{
    struct lh_http_server *server = conn->server;
    struct lh_http_call *call = server->pool;

    assert(conn->call == NULL);
    if (call != NULL) {
        char *head_bytes = call->head_bytes;
        size_t head_cap = call->head_cap;
        struct lh_buf extra = call->extra;

        server->pool = call->next;
        server->pool_count--;
        memset(call, 0, offsetof(struct lh_http_call, parser));
        call->head_bytes = head_bytes;
        call->head_cap = head_cap;
        call->extra = extra;
        call->extra.len = 0;
    } else {
        call = calloc(1, sizeof *call);
        if (call == NULL) {
            return NULL;
        }
    }
    call->head_len = 0;
    call->head_seen = 0;
    call->target.query_count = 0;
    memset(&call->head, 0, offsetof(struct lh__head, fields));
    call->conn = conn;
    call->request_id = server->request_id++;
    conn->call = call;
    return call;
}

void lh__call_give(struct lh_http_call *call)
{
    struct lh_http_server *server = call->conn->server;

    assert(call->conn->call == call && call->answered);
    lh__request_wait_over(call);
    lh__body_release(call);
    lh_buf_deinit(&call->body);
    lh_buf_deinit(&call->trailer);
    if (lh_buf_failed(&call->extra)) {
        lh_buf_deinit(&call->extra);
    }
    call->conn->call = NULL;
    call->conn->requests++;
    if (server->pool_count >= LH__CALLS_SPARE || call->head_cap > LH__HEAD_BYTES_FIRST) {
        lh_buf_deinit(&call->extra);
        free(call->head_bytes);
        free(call);
        return;
    }
    call->next = server->pool;
    server->pool = call;
    server->pool_count++;
}

void lh__call_gone(struct lh_http_call *call)
{
    struct lh_http_server *server = call->conn->server;

    if (!call->answered) {
        call->answered = true;
        server->slots[call->conn->slot].generation++;
        call->status = 499; /* as other servers count a client that left */
        lh__metrics_answered(call);
        if (call->begun) {
            call->sending.on_gone(call->sending.arg);
        } else if (call->stream.on_gone != NULL) {
            call->stream.on_gone(call->stream.arg);
        }
    }
}

enum lh_status lh__call_reserve_head(struct lh_http_call *call, size_t cap)
{
    size_t grown = call->head_cap ? call->head_cap : LH__HEAD_BYTES_FIRST;
    char *bytes;

    while (grown < cap) {
        grown *= 2;
    }
    if (grown == call->head_cap) {
        return LH_OK;
    }
    bytes = realloc(call->head_bytes, grown);
    if (bytes == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    call->head_bytes = bytes;
    call->head_cap = grown;
    return LH_OK;
}

struct lh_http_ticket lh_http_call_ticket(const struct lh_http_call *call)
{
    const struct lh__conn *conn = call->conn;

    assert(!call->answered);
    return (struct lh_http_ticket){conn->slot, conn->server->slots[conn->slot].generation};
}

struct lh_http_call *lh_http_find(struct lh_http_server *server, struct lh_http_ticket ticket)
{
    const struct lh__slot *slot;

    if (ticket.slot >= server->slot_count) {
        return NULL;
    }
    slot = &server->slots[ticket.slot];
    if (slot->conn == NULL || slot->generation != ticket.generation) {
        return NULL;
    }
    assert(slot->conn->call != NULL && !slot->conn->call->answered);
    return slot->conn->call;
}

uint64_t lh_http_call_request_id(const struct lh_http_call *call)
{
    return call->request_id;
}

const struct lh_route *lh_http_call_route(const struct lh_http_call *call)
{
    return call->route;
}

bool lh_http_call_has_fin(const struct lh_http_call *call)
{
    return call->conn->eof;
}

bool lh_http_call_is_answered(const struct lh_http_call *call)
{
    return call->answered;
}

enum lh_http_service lh_http_call_service(const struct lh_http_call *call)
{
    return call->conn->service;
}

struct lh_str lh_http_call_method(const struct lh_http_call *call)
{
    return call->head.method;
}

struct lh_str lh_http_call_target(const struct lh_http_call *call)
{
    return call->head.target;
}

/* A system call a connection, not a request. */
struct lh_http_address lh_http_call_address(const struct lh_http_call *call)
{
    static const unsigned char ipv4_mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct lh__conn *conn = call->conn;
    struct sockaddr_storage peer;
    int len = sizeof peer;

    if (conn->has_address || uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&peer, &len) != 0) {
        return conn->address;
    }
    conn->has_address = true;
    if (peer.ss_family == AF_INET6) {
        memcpy(conn->address.bytes, &((struct sockaddr_in6 *)(void *)&peer)->sin6_addr, 16);
    } else {
        memcpy(conn->address.bytes, ipv4_mapped, 12);
        memcpy(conn->address.bytes + 12, &((struct sockaddr_in *)(void *)&peer)->sin_addr, 4);
    }
    return conn->address;
}

void lh_http_call_set_data(struct lh_http_call *call, void *data)
{
    call->data = data;
}

void *lh_http_call_data(const struct lh_http_call *call)
{
    return call->data;
}

bool lh_http_call_is_head(const struct lh_http_call *call)
{
    return call->is_head;
}

struct lh_str lh_http_call_param(const struct lh_http_call *call, unsigned i)
{
    assert(i < LH_PATH_PARAMS_MAX);
    return call->params[i];
}

bool lh_http_call_query(const struct lh_http_call *call, const char *name, struct lh_str *value)
{
    for (unsigned i = 0; i < call->target.query_count; i++) {
        if (lh_str_eq(call->target.query[i].name, lh_str_of(name))) {
            *value = call->target.query[i].value;
            return true;
        }
    }
    return false;
}

struct lh_str lh_http_call_header(const struct lh_http_call *call, const char *name)
{
    struct lh_str wanted = lh_str_of(name);

    for (unsigned i = 0; i < call->head.field_count; i++) {
        const struct lh__field *field = &call->head.fields[i];
        struct lh_str have = {call->head.block + field->name, field->name_len};
        if (have.len == wanted.len && lh_str_eq_nocase(have, wanted)) {
            return (struct lh_str){call->head.block + field->value, field->value_len};
        }
    }
    return (struct lh_str){"", 0};
}

bool lh_http_call_header_line(const struct lh_http_call *call, unsigned i, struct lh_str *name,
                              struct lh_str *value)
{
    const struct lh__field *field = &call->head.fields[i];

    if (i >= call->head.field_count) {
        return false;
    }
    *name = (struct lh_str){call->head.block + field->name, field->name_len};
    *value = (struct lh_str){call->head.block + field->value, field->value_len};
    return true;
}

uint64_t lh_http_call_body_length(const struct lh_http_call *call)
{
    return call->head.chunked ? LH_HTTP_LENGTH_UNKNOWN : call->head.content_length;
}

struct lh_buf lh_http_call_take_body(struct lh_http_call *call)
{
    assert(call->complete && !call->answered);
    assert(call->body_accounted == call->body.len);
    call->body_accounted = 0; /* until lh_http_server_body_done */
    return lh_buf_take(&call->body);
}

void lh_http_server_body_done(struct lh_http_server *server, size_t bytes)
{
    assert(server->body_bytes >= bytes);
    server->body_bytes -= bytes;
}

bool lh_http_call_is_stream(const struct lh_http_call *call)
{
    return call->body_mode == LH_HTTP_BODY_STREAM;
}

void lh_http_call_stream(struct lh_http_call *call, const struct lh_http_stream *stream)
{
    assert(call->body_mode == LH_HTTP_BODY_STREAM);
    call->stream = *stream;
    call->conn->has_rooms |= stream->on_room != NULL && call->conn->tls == NULL;
}

void lh_http_call_pause(struct lh_http_call *call)
{
    call->paused = true;
}

void lh_http_call_resume(struct lh_http_call *call)
{
    if (call->paused) {
        call->paused = false;
        lh__server_ready(call->conn);
    }
}
