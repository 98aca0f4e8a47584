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

#include <mysql/plugin_audit.h>
#include <mysql/plugin_auth.h>

/* ---- Types of both sides; src/sys.rs asserts the same sizes ---- */

/* The system variables: first those that are strings, in the order of
   ifo_c_value, then the numbers. */
enum ifo_variable {
  IFO_MODE,
  IFO_TARGET,
  IFO_MESSAGE,
  IFO_EXEMPT_USERS,
  IFO_EXEMPT_HOSTS,
  IFO_NOTE_TEXT,
  IFO_HOLD_TIMEOUT,
  IFO_DRAIN,
  IFO_VARIABLES
};

enum { IFO_STRINGS = IFO_HOLD_TIMEOUT };

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
  MYSQL_THD session;
  uint64_t session_id;
  int socket;        /* descriptor */
  char is_tcp;       /* with or without TLS */
  char is_change_user;
};

/* One statement of one session: no two alike in the life of a server. */
struct ifo_statement {
  uint64_t thread_id;
  int64_t query_id;
};

/* What the current session is doing. */
struct ifo_activity {
  uint64_t thread_id;
  char is_idle;            /* it waits for its next command, and no answer is due */
  char has_transaction;    /* or LOCK TABLES, or a part of an XA transaction */
  char has_locked_tables;  /* LOCK TABLES */
};

/* The same, from another thread. */
struct ifo_glance {
  char is_idle;
  char has_transaction;    /* BEGIN, XA START or LOCK TABLES */
  char has_locked_tables;  /* LOCK TABLES */
  char has_no_autocommit;  /* so it may have one without any of these */
};

/* What is counted of the open sessions. */
enum ifo_count { IFO_SESSIONS, IFO_SESSIONS_BUSY, IFO_SESSIONS_IN_TRANSACTION, IFO_SESSIONS_UNKNOWN };

/* What a feature needs of the server, beyond ifo_c_missing_export(). */
enum ifo_feature { IFO_FEATURE_HOLD, IFO_FEATURE_DRAIN, IFO_FEATURE_DRAIN_POOL };

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
  unsigned long long drained;
  unsigned long long held;
  unsigned long long holds;
  unsigned long long hold_timeouts;
};

typedef int (*ifo_authenticate_fn)(MYSQL_PLUGIN_VIO *, MYSQL_SERVER_AUTH_INFO *);
typedef int (*ifo_read_packet_fn)(MYSQL_PLUGIN_VIO *, unsigned char **);

/* ---- What Rust calls ---- */

/* The name of a function or variable that this server does not export and we
   cannot do without; NULL if it has them all. Call it before anything else. */
const char *ifo_c_missing_export(void);

/* The current session raises an error, the first of which the client sees, or
   adds a note or a warning to its list. MariaDB keeps 511 bytes of the text. */
void ifo_c_error(unsigned int code, const char *text);
void ifo_c_warning(enum ifo_severity severity, unsigned int code, const char *text);
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

/* What the server knows of a plugin with this name and type. Waits for the
   server's list of plugins, which must not be locked by this thread. IFO_READY
   where the server does not export plugin_status(). */
enum ifo_presence ifo_c_presence(const char *name, int type);

unsigned int ifo_c_port(void);
unsigned int ifo_c_extra_port(void);
const char *ifo_c_hostname(void);

/* The name of a function or variable that the feature needs and this server
   does not export; NULL if it has them all. What is below that line may be
   called only if so. */
const char *ifo_c_missing_for(enum ifo_feature feature);

/* ---- For HOLD ---- */

/* Whether the current session has been killed. */
int ifo_c_is_killed(void);
int ifo_c_is_shutting_down(void);
/* How many connections can be served at the same time: max_connections, or the
   threads of the pool, each of which a held login keeps. */
unsigned long ifo_c_max_connections(void);
/* The State column of the processlist; text is a constant, or what the last
   call returned. */
const char *ifo_c_set_state(const char *text);
/* Around a wait: a pool of threads starts another thread meanwhile. */
void ifo_c_wait_begin(void);
void ifo_c_wait_end(void);

/* ---- For a drain ---- */

/* Whether the server runs sessions in a pool of threads; 0 where it does not
   tell. May be called on any server. */
int ifo_c_has_thread_pool(void);
/* What the current session is doing; zeros without one. */
struct ifo_activity ifo_c_activity(void);
/* When the current session began its last command: another number after each
   command, whatever kind it is. */
uint64_t ifo_c_last_command(void);
/* Puts ifo_rs_before_wait and ifo_rs_after_wait around every wait for a client,
   in the place of what the server itself has there. Never taken back: a thread
   may be between the two at any time. */
void ifo_c_install_wait_callbacks(void);

/* ---- For a drain in a pool of threads ---- */

/* What can be seen of another thread's session, which is alive as long as it has
   not told ifo_rs_session_ends(). */
struct ifo_glance ifo_c_glance(MYSQL_THD session);
/* Whether a transaction is open that began without a statement for that, as with
   autocommit=0. Follows pointers that its own thread changes while it executes a
   command: call it only while none can begin. */
int ifo_c_has_implicit_transaction(MYSQL_THD session);

/* Which classes of events are wanted of the server, by any plugin and by ours.
   Sessions read both at any time. */
unsigned long *ifo_c_audit_classes_of_all(void);
unsigned long *ifo_c_audit_classes_of_ours(void);
/* Counts changes of plugins. A session of a pool of threads that finds another
   number than before gives back, before its next command, the audit plugins that
   it holds: release_thd. */
unsigned int *ifo_c_plugin_version(void);
/* What another plugin wants; 0 if it is no audit plugin. */
unsigned long ifo_c_audit_classes(const struct st_maria_plugin *plugin);

/* Arrays of pointers to arrays of builtin plugins; NULL ends the outer ones,
   a plugin without info the inner ones. */
struct st_maria_plugin **ifo_c_mandatory_plugins(void);
struct st_maria_plugin **ifo_c_optional_plugins(void);
/* Where an authentication plugin keeps its authenticate_user; NULL if the
   plugin is of another type, or of an interface that is not known. */
ifo_authenticate_fn *ifo_c_authenticate_slot(const struct st_maria_plugin *plugin);

/* The values that SHOW VARIABLES prints. */
extern char *ifo_c_value[IFO_STRINGS];
extern unsigned int ifo_c_hold_timeout;
extern char ifo_c_drain;
extern struct ifo_counters ifo_c_counters;

/* For the plugin's declaration. */
extern struct st_mysql_auth ifo_c_auth;
extern struct st_mysql_audit ifo_c_audit;
extern struct st_mysql_show_var ifo_c_status_vars[];
extern struct st_mysql_sys_var *ifo_c_system_vars[];

/* ---- What C calls ---- */

/* Checks a value for SET GLOBAL. Returns 0, or 1 with the error raised. For a
   variable that is a number, *number is its value. */
int ifo_rs_check(enum ifo_variable variable, const char *value, size_t length, enum ifo_encoding encoding,
                 unsigned int *number);
/* Puts a checked value in force; raises an error where it no longer fits. */
void ifo_rs_update(enum ifo_variable variable, const char *value);
void ifo_rs_update_number(enum ifo_variable variable, unsigned int number);

/* Called in a session's own thread, before and after it waits for its client. */
void ifo_rs_before_wait(void);
void ifo_rs_after_wait(void);

/* Events, in the session's own thread: it has logged in, or changed its user; it
   has executed a command, well or not; its connection has been closed; it goes on, and other plugins have come or gone
   since it last looked for those that get events: a command has come, and is not
   read yet. */
void ifo_rs_session_begins(uint64_t thread_id);
void ifo_rs_command_done(uint64_t thread_id, int went_well);
void ifo_rs_session_ends(uint64_t thread_id);
void ifo_rs_session_goes_on(uint64_t thread_id);

unsigned long long ifo_rs_count_sessions(enum ifo_count count);

/* Redirects a login of an account IDENTIFIED VIA instant_failover; account is
   the user part of its name. The caller refuses the login whatever happens. */
void ifo_rs_account_login(MYSQL_PLUGIN_VIO *vio, const char *account, const char *target, size_t length);
/* Checks the text after USING. Returns 0, or 1 with the error raised. */
int ifo_rs_account_check(const char *target, size_t length);

/* Writes the time of the last redirect, or nothing. */
void ifo_rs_last_redirect(char *buffer, size_t size);

int ifo_rs_init(void *plugin);
int ifo_rs_deinit(void *plugin);
/* Of the audit plugin. */
int ifo_rs_audit_init(void *plugin);
int ifo_rs_audit_deinit(void *plugin);

#include "client_shim.h"

#endif
