/*
 * Following redirects: what a server's refusal means, and what to do next. No PHP, no I/O.
 *
 * The convention is described in docs/protocol.md of the project.
 */
#ifndef INSTANT_FAILOVER_FOLLOW_H
#define INSTANT_FAILOVER_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>

#define IF_MAX_HOPS 8
#define IF_MAX_MESSAGE 511 /* a server sends no longer message */
#define IF_MAX_NAME 253
#define IF_MAX_TARGET (IF_MAX_NAME + 6) /* with ":65535" */

/* A server: a host name, or an address in canonical form. */
struct if_target {
	char host[IF_MAX_NAME + 1];
	bool is_ipv6;
	unsigned int port;
};

/* One attempt to connect: the server that the program named, and where it was sent since. */
struct if_attempt {
	char origin[IF_MAX_TARGET + 1]; /* as it is shown; cut if longer */
	struct if_target first;
	bool has_first; /* false for the path of a socket */
	struct if_target hops[IF_MAX_HOPS];
	size_t count;
};

enum if_next {
	IF_ORDINARY,  /* an error like any other */
	IF_GO,        /* connect to the last of the hops */
	IF_MALFORMED, /* these stop the attempt */
	IF_CIRCLE,
	IF_TOO_MANY
};

/* Begins an attempt at "host:port" or the path of a socket. */
void if_begin(struct if_attempt *attempt, const char *origin, size_t length);

/* Says what to do after an error in the connection phase. If the attempt must stop, "why" is the error for the program. */
enum if_next if_refused(struct if_attempt *attempt, unsigned int code, const char *message, size_t length, char *why, size_t size);

/* Whether an error has the form of a redirect, valid or not. */
bool if_is_redirect(unsigned int code, const char *message, size_t length);

/* Writes a target as it is shown: "host:port", always with a port. */
void if_show(const struct if_target *target, char *text, size_t size);

/* Appends the servers of an attempt: "db1:3306 -> db2:3307". If there is not enough room, those in the middle are left out. */
void if_append_chain(char *text, size_t size, const struct if_attempt *attempt);

/* snprintf() behind what is in "text"; what does not fit is cut. */
void if_append(char *text, size_t size, const char *format, ...)
#ifdef __GNUC__
	__attribute__((format(printf, 3, 4)))
#endif
	;

/* Which servers may redirect: the values of instant_failover.follow. */
enum if_trust {
	IF_NEVER,
	IF_VERIFIED, /* those whose certificate was verified */
	IF_AUTO,     /* as verified if the program asks for verification, otherwise any */
	IF_ALWAYS,
	IF_UNKNOWN /* not a value; counts as never */
};

/* Reads a value in any case; 0 is never, 1 is auto. */
enum if_trust if_trust_of(const char *value);

/* The name of a value. */
const char *if_trust_name(enum if_trust trust);

#endif
