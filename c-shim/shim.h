/*
  The border between MariaDB and the Rust code, all of it: here the server's
  side, in client_shim.h that of Connector/C, whose headers cannot be read
  beside the server's. bindgen reads this file and no other.

  C owns MariaDB's structs. What Rust calls is named ifo_c_*, what C calls is
  named ifo_rs_*. Nothing here decides anything.

  Pointers are borrowed for the length of the call unless it says otherwise.
  Strings end with NUL unless a length stands beside them.
*/
#ifndef INSTANT_FAILOVER_SHIM_H
#define INSTANT_FAILOVER_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <mysql/plugin_auth.h>

/* ---- Types of both sides; src/sys.rs asserts the same sizes ---- */

/* The system variables, in the order of ifo_c_value. */
enum ifo_variable {
  IFO_MODE,
  IFO_TARGET,
  IFO_MESSAGE,
  IFO_EXEMPT_USERS,
  IFO_EXEMPT_HOSTS,
  IFO_VARIABLES
};

enum ifo_severity { IFO_NOTE, IFO_WARNING, IFO_ERROR };

/* What the bytes of a value are. */
enum ifo_encoding {
  IFO_UTF8,     /* converted, or UTF-8 before */
  IFO_NOT_UTF8, /* they cannot be converted */
  IFO_UNKNOWN   /* this server does not tell */
};

/* Whether a plugin is installed. */
enum ifo_presence {
  IFO_READY,
  IFO_ABSENT,
  IFO_BETWEEN  /* it is being installed or removed, or does not work */
};

/* What the server knows of a connection that is logging in. */
struct ifo_connection {
  const char *user;  /* NULL until the client has sent it */
  const char *ip;    /* NULL for a Unix socket */
  int socket;        /* descriptor, valid if is_tcp */
  char is_tcp;       /* with or without TLS */
  char is_change_user;
};

/* One statement of one session: no two alike in the life of a server. */
struct ifo_statement {
  uint64_t thread_id;
  int64_t query_id;
};

/* Counters of SHOW STATUS. Rust adds atomically, the server reads. */
struct ifo_counters {
  unsigned long long redirects;
  unsigned long long redirects_tcp;
  unsigned long long redirects_socket;
  unsigned long long redirects_extra_port;
  unsigned long long change_user_redirects;
  unsigned long long account_redirects;
  unsigned long long exempted_users;
  unsigned long long exempted_hosts;
  unsigned long long hooked_plugins;
};

typedef int (*ifo_authenticate_fn)(MYSQL_PLUGIN_VIO *, MYSQL_SERVER_AUTH_INFO *);
typedef int (*ifo_read_packet_fn)(MYSQL_PLUGIN_VIO *, unsigned char **);

/* ---- What Rust calls ---- */

/* The name of a function or variable that this server does not export and we
   cannot do without; NULL if it has them all. Call it before anything else. */
const char *ifo_c_missing_export(void);

/* The current session raises an error, the first of which the client sees, or
   adds a warning to its list. MariaDB keeps 511 bytes of the text. */
void ifo_c_error(unsigned int code, const char *text);
void ifo_c_warning(unsigned int code, const char *text);
/* A line in the error log. */
void ifo_c_log(enum ifo_severity severity, const char *text);

/* Whether this thread serves a session. If not, no function that speaks of
   "the current session" may be called. */
int ifo_c_has_session(void);
struct ifo_statement ifo_c_statement(void);
/* The current session's user and host as in USER(); may be NULL. A session that
   is logging in has no user until the client has said who it is. */
const char *ifo_c_session_user(void);
const char *ifo_c_session_host(void);

/* The current session's connection, of which vio is the channel. The strings
   live until the authentication ends. */
struct ifo_connection ifo_c_connection(MYSQL_PLUGIN_VIO *vio);
/* Puts another read_packet into vio and returns the one it had. */
ifo_read_packet_fn ifo_c_swap_read_packet(MYSQL_PLUGIN_VIO *vio, ifo_read_packet_fn read_packet);

/* What the server knows of an authentication plugin with this name. Waits for
   the server's list of plugins, which must not be locked by this thread.
   IFO_READY where the server does not export plugin_status(). */
enum ifo_presence ifo_c_presence(const char *name);

unsigned int ifo_c_port(void);
unsigned int ifo_c_extra_port(void);
const char *ifo_c_hostname(void);

/* Arrays of pointers to arrays of builtin plugins; NULL ends the outer ones,
   a plugin without info the inner ones. */
struct st_maria_plugin **ifo_c_mandatory_plugins(void);
struct st_maria_plugin **ifo_c_optional_plugins(void);
/* Where an authentication plugin keeps its authenticate_user; NULL if the
   plugin is of another type, or of an interface that is not known. */
ifo_authenticate_fn *ifo_c_authenticate_slot(const struct st_maria_plugin *plugin);

/* The values that SHOW VARIABLES prints. */
extern char *ifo_c_value[IFO_VARIABLES];
extern struct ifo_counters ifo_c_counters;

/* For the plugin's declaration. */
extern struct st_mysql_auth ifo_c_auth;
extern struct st_mysql_show_var ifo_c_status_vars[];
extern struct st_mysql_sys_var *ifo_c_system_vars[];

/* ---- What C calls ---- */

/* Checks a value for SET GLOBAL. Returns 0, or 1 with the error raised. */
int ifo_rs_check(enum ifo_variable variable, const char *value, size_t length, enum ifo_encoding encoding);
/* Puts a checked value in force; raises an error where it no longer fits. */
void ifo_rs_update(enum ifo_variable variable, const char *value);

/* Redirects a login of an account IDENTIFIED VIA instant_failover; account is
   the user part of its name. The caller refuses the login whatever happens. */
void ifo_rs_account_login(MYSQL_PLUGIN_VIO *vio, const char *account, const char *target, size_t length);
/* Checks the text after USING. Returns 0, or 1 with the error raised. */
int ifo_rs_account_check(const char *target, size_t length);

/* Writes the time of the last redirect, or nothing. */
void ifo_rs_last_redirect(char *buffer, size_t size);

int ifo_rs_init(void *plugin);
int ifo_rs_deinit(void *plugin);

#include "client_shim.h"

#endif
