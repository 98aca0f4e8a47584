/*
 * Instant failover for MariaDB: PDO and mysqli follow a server that says, during login, "not here, go there".
 *
 * A plugin for mysqlnd. It wraps two of its methods: connect_handshake(), which opens a socket and logs in, is repeated
 * until a server accepts the login; receive() shows which error the server has sent, and when.
 */
#ifdef HAVE_CONFIG_H
# include "config.h"
#endif

#include "php_instant_failover.h"

#include "php_ini.h"
#include "ext/standard/info.h"
#include "ext/mysqlnd/mysqlnd_ext_plugin.h"

#if PHP_VERSION_ID < 80100
# error "instant_failover needs PHP 8.1 or later"
#endif

#define FOLLOW_OPTION "instant_failover.follow"
#define FOLLOW_ENVIRONMENT "INSTANT_FAILOVER_FOLLOW"

#define IF_ER_INSTANT_FAILOVER 4196
#define IF_CR_SSL_CONNECTION_ERROR 2026

#define ERROR_SIZE (MYSQLND_ERRMSG_SIZE + 1)

ZEND_DECLARE_MODULE_GLOBALS(instant_failover)

static func_mysqlnd_conn_data__connect_handshake original_connect_handshake;
static func_mysqlnd_pfc__receive original_receive;

/* {{{ Who may redirect */
static enum if_trust trust(const char **where, const char **value)
{
	const char *environment;

	*where = FOLLOW_OPTION;
	*value = IFG(follow);
	if (!*value && (environment = getenv(FOLLOW_ENVIRONMENT)) && *environment) {
		*where = FOLLOW_ENVIRONMENT;
		*value = environment;
	}
	return *value ? if_trust_of(*value) : IF_AUTO;
}

/* Whether a redirect from the server at the other end is followed. If not, "note" says why, for the end of the error. */
static bool is_trusted(const MYSQLND_CONN_DATA *conn, unsigned int flags, char *note, size_t size)
{
	const char *where, *value;
	enum if_trust rule = trust(&where, &value);
	bool verification_asked = (flags & CLIENT_SSL_VERIFY_SERVER_CERT) || conn->vio->data->options.ssl_verify_peer == MYSQLND_SSL_PEER_VERIFY;
	bool verified = conn->vio->data->ssl && conn->vio->data->options.ssl_verify_peer == MYSQLND_SSL_PEER_VERIFY;

	switch (rule) {
		case IF_ALWAYS:
			return true;
		case IF_AUTO:
			if (verified || !verification_asked) {
				return true;
			}
			break;
		case IF_VERIFIED:
			if (verified) {
				return true;
			}
			break;
		case IF_NEVER:
			return false;
		case IF_UNKNOWN:
			if_append(note, size, " (not followed: %s is '%.40s'; give never, verified, auto or always)", where, value);
			return false;
	}
	if_append(note, size, " (not followed: %s (%s=%s); set the CA (PDO::MYSQL_ATTR_SSL_CA, mysqli::ssl_set), or %s=always)",
		conn->vio->data->ssl ? "the server's certificate is not verified" : "the connection has no TLS", where, if_trust_name(rule), where);
	return false;
}
/* }}} */

/* {{{ Errors */
/* Puts another message in the place of the error's, with the same code. */
static void set_message(MYSQLND_CONN_DATA *conn, const char *message)
{
	unsigned int code = conn->error_info->error_no;
	char sqlstate[MYSQLND_SQLSTATE_LENGTH + 1];

	memcpy(sqlstate, conn->error_info->sqlstate, sizeof sqlstate);
	SET_EMPTY_ERROR(conn->error_info);
	SET_CLIENT_ERROR(conn->error_info, code, sqlstate, message);
}

/*
 * Adds to the error why the redirect in it was not followed, and the servers on the way. If there is not enough room, the
 * message is cut, but not the target at its end.
 */
static void annotate(MYSQLND_CONN_DATA *conn, const struct if_attempt *attempt, const char *note)
{
	char message[ERROR_SIZE], suffix[ERROR_SIZE / 2] = "";
	const char *error = conn->error_info->error;
	size_t length = strlen(error), room;

	if_append(suffix, sizeof suffix, "%s", note);
	if (attempt->count) {
		size_t used;

		if_append(suffix, sizeof suffix, " (redirected: ");
		used = strlen(suffix);
		if_append_chain(suffix, sizeof suffix - 1, attempt);
		if (strlen(suffix) > used) {
			if_append(suffix, sizeof suffix, ")");
		}
	}
	if (!*suffix) {
		return;
	}
	room = sizeof message - 1 - strlen(suffix);
	if (length <= room) {
		snprintf(message, sizeof message, "%s%s", error, suffix);
	} else {
		const char *bar = *error == '|' ? strrchr(error, '|') : NULL;
		const char *tail = bar && strlen(bar) + 3 <= room ? bar : "";
		size_t head = room - 3 - strlen(tail);

		/* Not inside a character of UTF-8. */
		while (head > 0 && ((unsigned char) error[head] & 0xc0) == 0x80) {
			head--;
		}
		snprintf(message, sizeof message, "%.*s...%s%s", (int) head, error, tail, suffix);
	}
	set_message(conn, message);
}
/* }}} */

/* {{{ Logging in */
/* mysqlnd_protocol_packet_frame_codec::receive: notes the error that ends a login, as the server sent it. */
static enum_func_status receive(MYSQLND_PFC * const pfc, MYSQLND_VIO * const vio, zend_uchar * const buffer, const size_t count,
	MYSQLND_STATS * const stats, MYSQLND_ERROR_INFO * const error_info)
{
	enum_func_status status = original_receive(pfc, vio, buffer, count, stats, error_info);
	struct instant_failover_login *login = &IFG(login);

	if (status == PASS && pfc == login->pfc) {
		bool is_body = login->reads % 2 == 1, is_greeting = login->reads == 1;

		login->reads++;
		if (is_greeting) {
			/* The version ends with a NUL; then come 13 bytes, and the lower capabilities. */
			const zend_uchar *version_end = count > 1 ? memchr(buffer + 1, '\0', count - 1) : NULL;

			login->runs_ahead = vio->data->stream && vio->data->stream->writepos > vio->data->stream->readpos;
			if (version_end && buffer + count - version_end >= 16) {
				login->offers_tls = (version_end[14] | version_end[15] << 8) & CLIENT_SSL;
			}
		}
		/* An error in the place of the greeting is no redirect: it comes before TLS. */
		login->is_error = is_body && !is_greeting && count >= 3 && buffer[0] == 0xff;
		if (login->is_error) {
			size_t start = count >= 9 && buffer[3] == '#' ? 9 : 3;

			login->code = buffer[1] | buffer[2] << 8;
			login->length = count - start;
			memcpy(login->message, buffer + start, MIN(login->length, sizeof login->message));
		}
	}
	return status;
}

/* Opens a socket and logs in. If a server has refused that, the refusal is in IFG(login). */
static enum_func_status log_in(MYSQLND_CONN_DATA *conn, const MYSQLND_CSTRING *scheme, const MYSQLND_CSTRING *user,
	const MYSQLND_CSTRING *password, const MYSQLND_CSTRING *database, unsigned int flags)
{
	enum_func_status status;

	memset(&IFG(login), 0, sizeof IFG(login));
	IFG(login).pfc = conn->protocol_frame_codec;
	conn->vio->data->ssl = false;
	status = original_connect_handshake(conn, scheme, user, password, database, flags);
	if (IFG(login).pfc != conn->protocol_frame_codec) {
		/* An error handler has connected meanwhile. */
		IFG(login).is_error = false;
	}
	IFG(login).pfc = NULL;
	if ((flags & CLIENT_SSL) && (!conn->vio->data->ssl || IFG(login).runs_ahead)) {
		/* It may have come in plaintext: an attacker on the network can have sent it. */
		IFG(login).is_error = false;
	}
	return status;
}

/* Whether the login was redirected to a server that is to be tried next. If not, the program gets the error that is set. */
static bool is_redirected(MYSQLND_CONN_DATA *conn, struct if_attempt *attempt, unsigned int flags)
{
	const struct instant_failover_login *login = &IFG(login);
	char note[ERROR_SIZE / 2] = "", why[ERROR_SIZE] = "";
	size_t length = MIN(login->length, sizeof login->message);

	if (!login->is_error || !if_is_redirect(login->code, login->message, length)) {
		annotate(conn, attempt, note);
		return false;
	}
	if (!is_trusted(conn, flags, note, sizeof note)) {
		annotate(conn, attempt, note);
		return false;
	}
	if (login->length > length) {
		snprintf(why, sizeof why, "The server sent an invalid redirect: its message has %zu bytes, and may have %d", login->length, IF_MAX_MESSAGE);
	} else if (if_refused(attempt, login->code, login->message, length, why, sizeof why) == IF_GO) {
		return true;
	}
	SET_EMPTY_ERROR(conn->error_info);
	SET_CLIENT_ERROR(conn->error_info, IF_ER_INSTANT_FAILOVER, UNKNOWN_SQLSTATE, why);
	return false;
}

/* Brings the connection back to where it was before the login. */
static void forget_login(MYSQLND_CONN_DATA *conn)
{
	MYSQLND_VIO *vio = conn->vio;

	/* free_contents() would free the paths of certificates and keys with it. */
	conn->vio = NULL;
	conn->m->free_contents(conn);
	conn->vio = vio;
	SET_EMPTY_ERROR(conn->error_info);
}

/* Names what mysqlnd does not: why the server that we were redirected to did not work. */
static void explain(MYSQLND_CONN_DATA *conn, const MYSQLND_CSTRING *scheme, unsigned int flags)
{
	char text[ERROR_SIZE];

	if ((flags & CLIENT_SSL) && IFG(login).reads == 2 && !IFG(login).offers_tls) {
		SET_EMPTY_ERROR(conn->error_info);
		SET_CLIENT_ERROR(conn->error_info, IF_CR_SSL_CONNECTION_ERROR, UNKNOWN_SQLSTATE,
			"SSL connection error: redirected from a server with TLS to one without; disable TLS to allow this");
	} else if (!conn->error_info->error_no) {
		snprintf(text, sizeof text, "Unknown error while trying to connect via %s", scheme->s);
		SET_CLIENT_ERROR(conn->error_info, CR_CONNECTION_ERROR, UNKNOWN_SQLSTATE, text);
	}
}

/* mysqlnd_conn_data::connect_handshake. Init commands run behind it, once, on the server that accepts the login. */
static enum_func_status connect_handshake(MYSQLND_CONN_DATA *conn, const MYSQLND_CSTRING * const scheme,
	const MYSQLND_CSTRING * const user, const MYSQLND_CSTRING * const password, const MYSQLND_CSTRING * const database,
	const unsigned int flags)
{
	const char *origin = strstr(scheme->s, "://");
	struct if_attempt attempt;
	enum_func_status status;

	origin = origin ? origin + 3 : scheme->s;
	if_begin(&attempt, origin, strlen(origin));
	status = log_in(conn, scheme, user, password, database, flags);
	while (status == FAIL && is_redirected(conn, &attempt, flags)) {
		/* Always TCP, "localhost", too. */
		char text[sizeof "tcp://" + IF_MAX_TARGET + 2] = "tcp://";
		MYSQLND_CSTRING target = {text, 0};

		if_show(&attempt.hops[attempt.count - 1], text + strlen(text), sizeof text - strlen(text));
		target.l = strlen(text);
		forget_login(conn);
		status = log_in(conn, &target, user, password, database, flags);
		if (status == FAIL) {
			explain(conn, &target, flags);
		}
	}
	return status;
}
/* }}} */

/* {{{ The module */
PHP_INI_BEGIN()
	STD_PHP_INI_ENTRY(FOLLOW_OPTION, NULL, PHP_INI_ALL, OnUpdateString, follow, zend_instant_failover_globals, instant_failover_globals)
PHP_INI_END()

static PHP_GINIT_FUNCTION(instant_failover)
{
#if defined(COMPILE_DL_INSTANT_FAILOVER) && defined(ZTS)
	ZEND_TSRMLS_CACHE_UPDATE();
#endif
	memset(instant_failover_globals, 0, sizeof *instant_failover_globals);
}

static PHP_MINIT_FUNCTION(instant_failover)
{
	/*
	 * Not by its name, as mysqlnd's headers do it: then this library could be loaded only after mysqlnd's, where that is one
	 * of its own, and php.ini is read before conf.d.
	 */
	struct st_mysqlnd_plugin_methods_xetters *methods = DL_FETCH_SYMBOL(RTLD_DEFAULT, "mysqlnd_plugin_methods_xetters");

	if (!methods) {
		php_error_docref(NULL, E_CORE_WARNING, "mysqlnd's methods were not found; redirects will not be followed");
		return FAILURE;
	}
	REGISTER_INI_ENTRIES();
	mysqlnd_plugin_register();

	original_connect_handshake = methods->connection_data.get()->connect_handshake;
	methods->connection_data.get()->connect_handshake = connect_handshake;
	original_receive = methods->pfc.get()->receive;
	methods->pfc.get()->receive = receive;
	return SUCCESS;
}

static PHP_MSHUTDOWN_FUNCTION(instant_failover)
{
	UNREGISTER_INI_ENTRIES();
	return SUCCESS;
}

static PHP_MINFO_FUNCTION(instant_failover)
{
	const char *where, *value;
	enum if_trust rule = trust(&where, &value);
	char follows[100];

	snprintf(follows, sizeof follows, rule == IF_UNKNOWN ? "never: %s is not a known value" : "%s", rule == IF_UNKNOWN ? where : if_trust_name(rule));
	php_info_print_table_start();
	php_info_print_table_row(2, "Instant failover for MariaDB", "enabled");
	php_info_print_table_row(2, "Version", PHP_INSTANT_FAILOVER_VERSION);
	php_info_print_table_row(2, "Redirects followed", follows);
	php_info_print_table_end();
	DISPLAY_INI_ENTRIES();
}

static const zend_module_dep dependencies[] = {
	ZEND_MOD_REQUIRED("mysqlnd")
	ZEND_MOD_END
};

zend_module_entry instant_failover_module_entry = {
	STANDARD_MODULE_HEADER_EX,
	NULL,
	dependencies,
	"instant_failover",
	NULL,
	PHP_MINIT(instant_failover),
	PHP_MSHUTDOWN(instant_failover),
	NULL,
	NULL,
	PHP_MINFO(instant_failover),
	PHP_INSTANT_FAILOVER_VERSION,
	PHP_MODULE_GLOBALS(instant_failover),
	PHP_GINIT(instant_failover),
	NULL,
	NULL,
	STANDARD_MODULE_PROPERTIES_EX
};

#ifdef COMPILE_DL_INSTANT_FAILOVER
# ifdef ZTS
ZEND_TSRMLS_CACHE_DEFINE()
# endif
ZEND_GET_MODULE(instant_failover)
#endif
/* }}} */
