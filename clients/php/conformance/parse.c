/*
 * The subcommand "parse" of the conformance adapter, on the extension's own parser.
 *
 * Reads lines "origin TAB code:hexmessage TAB ...", and answers each with the outcome after all errors in order.
 */
#include "../follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int nibble(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, c | 0x20) : NULL;

	return at ? (int) (at - digits) : -1;
}

/* Decodes hex digits into the beginning of the same buffer. Returns the number of bytes. */
static size_t decode(char *hex)
{
	size_t n = 0;

	while (nibble(hex[2 * n]) >= 0 && nibble(hex[2 * n + 1]) >= 0) {
		hex[n] = (char) (nibble(hex[2 * n]) << 4 | nibble(hex[2 * n + 1]));
		n++;
	}
	return n;
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		struct if_attempt attempt;
		enum if_next next = IF_ORDINARY;
		char why[513], shown[IF_MAX_TARGET + 3];
		char *rest, *field;

		line[strcspn(line, "\r\n")] = '\0';
		rest = line;
		field = strsep(&rest, "\t");
		if_begin(&attempt, field, strlen(field));
		while ((field = strsep(&rest, "\t"))) {
			char *hex = strchr(field, ':');
			char *message;
			size_t length;

			if (!hex) {
				fprintf(stderr, "'%s' is not code:hexmessage\n", field);
				return 2;
			}
			/* A copy of the exact size, so that valgrind and sanitizers see a read beyond the end. */
			length = decode(hex + 1);
			message = malloc(length ? length : 1);
			if (!message) {
				return 1;
			}
			memcpy(message, hex + 1, length);
			next = if_refused(&attempt, (unsigned int) strtoul(field, NULL, 10), message, length, why, sizeof why);
			free(message);
			if (next != IF_GO) {
				break;
			}
		}
		switch (next) {
			case IF_ORDINARY:
				puts("ordinary");
				break;
			case IF_MALFORMED:
				puts("malformed");
				break;
			case IF_CIRCLE:
				puts("circle");
				break;
			case IF_TOO_MANY:
				puts("too many");
				break;
			case IF_GO:
				if_show(&attempt.hops[attempt.count - 1], shown, sizeof shown);
				puts(shown);
				break;
		}
		fflush(stdout);
	}
	free(line);
	return 0;
}
