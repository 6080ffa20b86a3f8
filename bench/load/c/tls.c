#include "tls.h"

#include "options.h"

#ifdef BENCH_TLS

#include <openssl/err.h>
#include <openssl/ssl.h>

struct ssl_ctx_st *tls_prepare(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) fail("OpenSSL cannot be used");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    /* One call of the kernel for all records that have come, not two for each. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    return context;
}

struct ssl_st *tls_begin(struct ssl_ctx_st *context, int fd) {
    SSL *tls = SSL_new(context);
    if (!tls || SSL_set_fd(tls, fd) != 1) fail("out of memory");
    SSL_set_connect_state(tls);
    return tls;
}

/* Whether a call that came to nothing only waits for the socket. */
static bool waits(const SSL *tls, int returned) {
    int error = SSL_get_error(tls, returned);
    /* What is left in OpenSSL's queue of errors would be taken for an error of the next call. */
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

enum tls_progress tls_shake(struct ssl_st *tls) {
    int returned = SSL_do_handshake(tls);
    if (returned == 1) return TLS_STANDS;
    return waits(tls, returned) ? TLS_GOES_ON : TLS_FAILED;
}

long tls_send(struct ssl_st *tls, const char *data, size_t bytes) {
    size_t sent;
    int returned = SSL_write_ex(tls, data, bytes, &sent);
    if (returned == 1) return (long)sent;
    return waits(tls, returned) ? 0 : -1;
}

long tls_receive(struct ssl_st *tls, char *buffer, size_t capacity) {
    size_t got;
    int returned = SSL_read_ex(tls, buffer, capacity, &got);
    if (returned == 1) return (long)got;
    return waits(tls, returned) ? 0 : -1;
}

bool tls_holds_more(const struct ssl_st *tls) { return SSL_has_pending(tls) == 1; }

void tls_free(struct ssl_st *tls) { SSL_free(tls); }

#else

struct ssl_ctx_st *tls_prepare(void) { fail("the load generator was compiled without TLS"); }

/* Without a context there is no connection under TLS. */
struct ssl_st *tls_begin(struct ssl_ctx_st *context, int fd) { return (void)context, (void)fd, NULL; }
enum tls_progress tls_shake(struct ssl_st *tls) { return (void)tls, TLS_FAILED; }
long tls_send(struct ssl_st *tls, const char *data, size_t bytes) {
    return (void)tls, (void)data, (void)bytes, -1;
}
long tls_receive(struct ssl_st *tls, char *buffer, size_t capacity) {
    return (void)tls, (void)buffer, (void)capacity, -1;
}
bool tls_holds_more(const struct ssl_st *tls) { return (void)tls, false; }
void tls_free(struct ssl_st *tls) { (void)tls; }

#endif
