#include "follow.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CODE 4196
#define ALSO_ACCEPTED 4200 /* the code of a client patch that was published for the same proposal */
#define DEFAULT_PORT 3306
#define MAX_SHOWN 60

/* Not those of ctype.h: they depend on the locale. */
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_name_character(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
}

void if_append(char *text, size_t size, const char *format, ...)
{
	size_t used = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + used, size - used, format, arguments);
	va_end(arguments);
}

/* Appends a value that came from outside in quotes; what is not printable ASCII is escaped, and a long one is cut. */
static void append_quoted(char *text, size_t size, const char *value, size_t length)
{
	size_t i;

	if_append(text, size, "'");
	for (i = 0; i < length && i < MAX_SHOWN; i++) {
		unsigned char c = (unsigned char) value[i];
		if_append(text, size, c < ' ' || c > '~' ? "\\x%02x" : "%c", c);
	}
	if_append(text, size, length > MAX_SHOWN ? "...'" : "'");
}

/* Four decimal numbers without leading zeros. Returns where they end, or NULL. */
static const char *parse_ipv4(const char *p, const char *end, unsigned char address[4])
{
	int i;

	for (i = 0; i < 4; i++) {
		const char *start;
		unsigned int number = 0;

		if (i > 0 && (p == end || *p++ != '.')) {
			return NULL;
		}
		for (start = p; p < end && p - start < 3 && is_digit(*p); p++) {
			number = number * 10 + (unsigned int) (*p - '0');
		}
		if (p == start || number > 255 || (*start == '0' && p - start > 1)) {
			return NULL;
		}
		address[i] = (unsigned char) number;
	}
	return p;
}

/*
 * Groups of one to four hex digits, at most "most" of them; the last two may be written as an IPv4 address ("dotted").
 * Returns their number, and moves "p" to where they end.
 */
static int parse_groups(const char **p, const char *end, unsigned int *groups, int most, bool *dotted)
{
	int i;

	*dotted = false;
	for (i = 0; i < most; i++) {
		const char *start = *p;
		const char *after;
		unsigned char ipv4[4];
		unsigned int group = 0;

		if (i > 0 && (start == end || *start++ != ':')) {
			break;
		}
		if (i + 1 < most && (after = parse_ipv4(start, end, ipv4))) {
			groups[i] = (unsigned int) ipv4[0] << 8 | ipv4[1];
			groups[i + 1] = (unsigned int) ipv4[2] << 8 | ipv4[3];
			*p = after;
			*dotted = true;
			return i + 2;
		}
		for (after = start; after < end && after - start < 4 && hex_digit(*after) >= 0; after++) {
			group = group << 4 | (unsigned int) hex_digit(*after);
		}
		if (after == start) {
			break;
		}
		groups[i] = group;
		*p = after;
	}
	return i;
}

static bool parse_ipv6(const char *p, const char *end, unsigned int groups[8])
{
	unsigned int tail[8];
	int i, before, after;
	bool dotted;

	memset(groups, 0, 8 * sizeof *groups);
	before = parse_groups(&p, end, groups, 8, &dotted);
	if (before == 8) {
		return p == end;
	}
	if (dotted || end - p < 2 || p[0] != ':' || p[1] != ':') {
		return false;
	}
	memset(groups + before, 0, (size_t) (8 - before) * sizeof *groups);
	p += 2;
	after = parse_groups(&p, end, tail, 7 - before, &dotted);
	for (i = 0; i < after; i++) {
		groups[8 - after + i] = tail[i];
	}
	return p == end;
}

/* RFC 5952: "::" for the longest run of two or more zeros, or the first of several. */
static void write_ipv6(const unsigned int groups[8], char *text, size_t size)
{
	int i, run, longest = 1, start = -1;

	for (i = 0; i < 8; i += run + 1) {
		for (run = 0; i + run < 8 && groups[i + run] == 0; run++) {
		}
		if (run > longest) {
			longest = run;
			start = i;
		}
	}
	text[0] = '\0';
	for (i = 0; i < 8; i++) {
		if (i == start) {
			if_append(text, size, "::");
			i += longest - 1;
		} else {
			if_append(text, size, i == 0 || i == start + longest ? "%x" : ":%x", groups[i]);
		}
	}
}

/* 0.0.0.0/8 is never a destination, and clients take 0.0.0.0 for their own machine. */
static bool is_one_host_ipv4(const unsigned char a[4])
{
	return a[0] != 0 && (a[0] & 0xf0) != 0xe0 && !(a[0] == 255 && a[1] == 255 && a[2] == 255 && a[3] == 255);
}

#define NOT_ONE_HOST "it is not the address of a single host"

static const char *read_ipv4(const char *p, const char *end, struct if_target *target)
{
	unsigned char a[4];

	if (parse_ipv4(p, end, a) != end) {
		return "it is not an IPv4 address";
	}
	snprintf(target->host, sizeof target->host, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
	return is_one_host_ipv4(a) ? NULL : NOT_ONE_HOST;
}

static const char *read_ipv6(const char *p, const char *end, struct if_target *target)
{
	unsigned int g[8];

	if (!parse_ipv6(p, end, g)) {
		return "it is not an IPv6 address";
	}
	if (!(g[0] | g[1] | g[2] | g[3] | g[4]) && g[5] == 0xffff) {
		/* An IPv4 address, written as one of IPv6. */
		unsigned char a[4] = {(unsigned char) (g[6] >> 8), (unsigned char) g[6], (unsigned char) (g[7] >> 8), (unsigned char) g[7]};
		snprintf(target->host, sizeof target->host, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
		return is_one_host_ipv4(a) ? NULL : NOT_ONE_HOST;
	}
	target->is_ipv6 = true;
	write_ipv6(g, target->host, sizeof target->host);
	return (g[0] & 0xff00) != 0xff00 && strcmp(target->host, "::") != 0 ? NULL : NOT_ONE_HOST;
}

static bool is_number(const char *label, const char *end)
{
	if (end - label >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X')) {
		for (label += 2; label < end && hex_digit(*label) >= 0; label++) {
		}
	} else {
		for (; label < end && is_digit(*label); label++) {
		}
	}
	return label == end;
}

static const char *read_name(const char *p, const char *end, struct if_target *target)
{
	const char *label = p;
	const char *c;

	if (p == end) {
		return "the host is missing";
	}
	if (end - p > IF_MAX_NAME) {
		return "the host name is too long";
	}
	for (c = p; c < end; c++) {
		if (!is_name_character(*c)) {
			return "a host name has only letters, digits, hyphens, underscores and dots";
		}
		if (*c == '.') {
			label = c + 1;
		}
	}
	/* Some resolvers take a name whose last label is a number for an address. */
	if (label < end && is_number(label, end)) {
		return read_ipv4(p, end, target);
	}
	for (label = p; ; label = c + 1) {
		for (c = label; c < end && *c != '.'; c++) {
		}
		if (c == label || c - label > 63 || *label == '-' || c[-1] == '-') {
			return "a part of the host name is not 1 to 63 letters, digits, underscores and inner hyphens";
		}
		if (c == end) {
			break;
		}
	}
	memcpy(target->host, p, (size_t) (end - p));
	target->host[end - p] = '\0';
	return NULL;
}

static const char *read_port(const char *p, const char *end, struct if_target *target)
{
	unsigned int port = 0;
	const char *c;

	for (c = p; c < end && c - p < 5 && is_digit(*c); c++) {
		port = port * 10 + (unsigned int) (*c - '0');
	}
	if (c == p || c != end || *p == '0' || port > 65535) {
		return "the port is not a number from 1 to 65535";
	}
	target->port = port;
	return NULL;
}

/* Reads a target. Returns what is wrong with it, or NULL. */
static const char *parse_target(const char *text, size_t length, struct if_target *target)
{
	const char *end = text + length;
	const char *after; /* where the host ends */
	const char *wrong;

	memset(target, 0, sizeof *target);
	target->port = DEFAULT_PORT;
	if (length > IF_MAX_TARGET) {
		return "it is too long";
	}
	if (length > 0 && *text == '[') {
		after = memchr(text, ']', length);
		if (!after) {
			return "the bracket is not closed";
		}
		wrong = read_ipv6(text + 1, after, target);
		after++;
		if (!wrong && after < end && *after != ':') {
			return "only ':' and a port can follow the bracket";
		}
	} else {
		after = memchr(text, ':', length);
		if (!after) {
			after = end;
		} else if (memchr(after + 1, ':', (size_t) (end - after - 1))) {
			return "it has more than one ':', and an IPv6 address is written in brackets";
		}
		wrong = read_name(text, after, target);
	}
	if (!wrong && after < end) {
		wrong = read_port(after + 1, end, target);
	}
	return wrong;
}

static bool is_same_server(const struct if_target *one, const struct if_target *other)
{
	return one->port == other->port && strcasecmp(one->host, other->host) == 0;
}

void if_show(const struct if_target *target, char *text, size_t size)
{
	snprintf(text, size, target->is_ipv6 ? "[%s]:%u" : "%s:%u", target->host, target->port);
}

static void append_target(char *text, size_t size, const struct if_target *target)
{
	char shown[IF_MAX_TARGET + 3];

	if_show(target, shown, sizeof shown);
	if_append(text, size, "%s", shown);
}

static void append_chain(char *text, size_t size, const struct if_attempt *attempt, const struct if_target *last)
{
	size_t used = strlen(text);
	size_t left_out, i;

	for (left_out = 0; left_out <= attempt->count; left_out++) {
		char chain[(IF_MAX_HOPS + 2) * (IF_MAX_TARGET + 8)] = "";

		if_append(chain, sizeof chain, left_out ? "%s -> ..." : "%s", attempt->origin);
		for (i = left_out; i < attempt->count; i++) {
			if_append(chain, sizeof chain, " -> ");
			append_target(chain, sizeof chain, &attempt->hops[i]);
		}
		if (last) {
			if_append(chain, sizeof chain, " -> ");
			append_target(chain, sizeof chain, last);
		}
		if (used + strlen(chain) < size || left_out == attempt->count) {
			if_append(text, size, "%s", chain);
			return;
		}
	}
}

void if_append_chain(char *text, size_t size, const struct if_attempt *attempt)
{
	append_chain(text, size, attempt, NULL);
}

void if_begin(struct if_attempt *attempt, const char *origin, size_t length)
{
	memset(attempt, 0, sizeof *attempt);
	snprintf(attempt->origin, sizeof attempt->origin, "%.*s", length > IF_MAX_TARGET ? IF_MAX_TARGET : (int) length, origin);
	attempt->has_first = !parse_target(origin, length, &attempt->first);
}

static const char *last_bar(const char *message, size_t length)
{
	while (length > 0 && message[length - 1] != '|') {
		length--;
	}
	return length > 0 ? message + length - 1 : NULL;
}

bool if_is_redirect(unsigned int code, const char *message, size_t length)
{
	return (code == CODE || code == ALSO_ACCEPTED) && length > 1 && *message == '|' && last_bar(message, length) != message;
}

enum if_next if_refused(struct if_attempt *attempt, unsigned int code, const char *message, size_t length, char *why, size_t size)
{
	struct if_target target;
	const char *text, *wrong;
	size_t i, text_length;
	bool seen;

	why[0] = '\0';
	if (!if_is_redirect(code, message, length)) {
		return IF_ORDINARY;
	}
	/* The last bar: some character sets have that byte inside characters, and a target never contains it. */
	text = last_bar(message, length) + 1;
	text_length = (size_t) (message + length - text);
	wrong = parse_target(text, text_length, &target);
	if (wrong) {
		if_append(why, size, "Server '");
		if (attempt->count) {
			append_target(why, size, &attempt->hops[attempt->count - 1]);
		} else {
			if_append(why, size, "%s", attempt->origin);
		}
		if_append(why, size, "' sent an invalid redirect target: ");
		append_quoted(why, size, text, text_length);
		if_append(why, size, " is not a target: %s; give host, host:port or [IPv6]:port", wrong);
		return IF_MALFORMED;
	}
	seen = attempt->has_first && is_same_server(&attempt->first, &target);
	for (i = 0; i < attempt->count; i++) {
		seen |= is_same_server(&attempt->hops[i], &target);
	}
	if (seen) {
		if_append(why, size, "Redirect loop: ");
		append_chain(why, size, attempt, &target);
		return IF_CIRCLE;
	}
	if (attempt->count == IF_MAX_HOPS) {
		if_append(why, size, "Too many instant failovers (>= %d): ", IF_MAX_HOPS);
		append_chain(why, size, attempt, NULL);
		return IF_TOO_MANY;
	}
	attempt->hops[attempt->count++] = target;
	return IF_GO;
}

static const char *const trust_names[] = {"never", "verified", "auto", "always"};

enum if_trust if_trust_of(const char *value)
{
	int trust;

	if (strcmp(value, "0") == 0) {
		return IF_NEVER;
	}
	if (strcmp(value, "1") == 0) {
		return IF_AUTO;
	}
	for (trust = IF_NEVER; trust < IF_UNKNOWN; trust++) {
		if (strcasecmp(value, trust_names[trust]) == 0) {
			return (enum if_trust) trust;
		}
	}
	return IF_UNKNOWN;
}

const char *if_trust_name(enum if_trust trust)
{
	return trust < IF_UNKNOWN ? trust_names[trust] : "unknown";
}
