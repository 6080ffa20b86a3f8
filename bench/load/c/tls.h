/* TLS on a connection, by OpenSSL. The server need not prove who it is: it is on this machine. */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stdbool.h>
#include <stddef.h>

/* SSL and SSL_CTX, by the names that they have without OpenSSL's headers. */
struct ssl_st;
struct ssl_ctx_st;

enum tls_progress { TLS_STANDS, TLS_GOES_ON, TLS_FAILED };

/* What all connections share. Ends the program with a message if it was compiled without OpenSSL. */
struct ssl_ctx_st *tls_prepare(void);

/* Returns the client's side of TLS on a connected socket. */
struct ssl_st *tls_begin(struct ssl_ctx_st *context, int fd);

/* Takes the handshake as far as what the server has sent allows. */
enum tls_progress tls_shake(struct ssl_st *tls);

/* Returns how much was taken, 0 if the kernel takes nothing now, -1 if the connection is gone. After a 0 the same
   bytes must come next. */
long tls_send(struct ssl_st *tls, const char *data, size_t bytes);

/* Returns how much of one record came, 0 if no whole one has come, -1 if the connection is gone. */
long tls_receive(struct ssl_st *tls, char *buffer, size_t capacity);

/* Whether more was read from the socket than tls_receive has returned: epoll does not tell of it. */
bool tls_holds_more(const struct ssl_st *tls);

void tls_free(struct ssl_st *tls);

#endif
