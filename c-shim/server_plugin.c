/*
  MariaDB's side of the server plugin: its structs and macros, and nothing that
  decides. See shim.h for the border and src/server/ for what happens behind it.

  Compiled without MYSQL_DYNAMIC_PLUGIN: that would go through the service
  structs, whose version numbers differ between server series. We call the
  functions the server exports instead. All of them are weak, so that the
  library loads on any server and ifo_c_missing_export() can say what is not
  there.
*/
#include "shim.h"

#include <string.h>

/* Exported by the server, declared in none of its plugin headers. */
MYSQL_THD _current_thd(void);
const char *thd_user_name(MYSQL_THD thd);
const char *thd_client_host(MYSQL_THD thd);
const char *thd_client_ip(MYSQL_THD thd);
int thd_current_command(MYSQL_THD thd);
long long thd_query_id(const MYSQL_THD thd);
unsigned long long thd_start_utime(const MYSQL_THD thd);
void my_message(unsigned int code, const char *text, unsigned long flags);
void vio_set_wait_callback(void (*before)(void), void (*after)(void));
/*
  Functions of C++. The name of each says what arguments it takes, and it has
  nothing but pointers and numbers: with other arguments it has another name,
  and is not there.
*/
struct lex_string { const char *text; size_t length; };
int plugin_status(const char *name, size_t length, int type)
  __asm__("_Z13plugin_statusPKcmi") __attribute__((weak));
struct item *converted_10(struct item *item, MYSQL_THD thd, const struct charset_info_st *to, _Bool lossless,
                          const char *name)
  __asm__("_ZN4Item23const_charset_converterEP3THDPK15charset_info_stbPKc") __attribute__((weak));
struct item *converted_11(struct item *item, MYSQL_THD thd, const struct charset_info_st *to, _Bool lossless,
                          const struct lex_string *name)
  __asm__("_ZN4Item23const_charset_converterEP3THDPK15charset_info_stbRK17Lex_ident_routine") __attribute__((weak));
extern const struct charset_info_st my_charset_utf8mb4_general_ci;
extern unsigned int mysqld_port;
extern unsigned int mysqld_extra_port;
extern char glob_hostname[];
extern struct st_maria_plugin *mysql_mandatory_plugins[];
extern struct st_maria_plugin *mysql_optional_plugins[];
extern unsigned long max_connections;
extern unsigned long thread_handling;
extern unsigned int threadpool_max_threads;
/* In every series one byte that other threads set: volatile bool, or an atomic one. */
extern volatile char abort_loop;
extern unsigned long mysql_global_audit_mask[];
extern unsigned int global_plugin_version;
/* OpenSSL's, which the server is linked with. Not there where TLS is WolfSSL's. */
extern void OPENSSL_thread_stop(void);

#pragma weak _current_thd
#pragma weak thd_user_name
#pragma weak thd_client_host
#pragma weak thd_client_ip
#pragma weak thd_current_command
#pragma weak thd_query_id
#pragma weak thd_start_utime
#pragma weak thd_get_thread_id
#pragma weak thd_strmake
#pragma weak my_message
#pragma weak my_printf_error
#pragma weak my_charset_utf8mb4_general_ci
#pragma weak mysqld_port
#pragma weak mysqld_extra_port
#pragma weak glob_hostname
#pragma weak mysql_mandatory_plugins
#pragma weak mysql_optional_plugins
#pragma weak max_connections
#pragma weak thread_handling
#pragma weak threadpool_max_threads
#pragma weak abort_loop
#pragma weak mysql_global_audit_mask
#pragma weak global_plugin_version
#pragma weak OPENSSL_thread_stop
#pragma weak set_thd_proc_info
#pragma weak vio_set_wait_callback
#pragma weak thd_kill_level
#pragma weak thd_wait_begin
#pragma weak thd_wait_end
#pragma weak thd_test_options
#pragma weak thd_get_xid

/* enum_server_command in include/mysql_com.h; part of the protocol. */
#define COM_SLEEP 0
#define COM_CHANGE_USER 17

/* sql/sql_class.h and sql/sql_priv.h, the same in every series. */
#define OPTION_NOT_AUTOCOMMIT (1ULL << 19)
#define OPTION_BEGIN (1ULL << 20)
#define OPTION_TABLE_LOCK (1ULL << 21)
#define NO_XID (-1)
#define POOL_OF_THREADS 2

const char *ifo_c_missing_export(void)
{
#define NEED(symbol) if (!(&symbol)) return #symbol
  NEED(_current_thd);
  NEED(thd_user_name);
  NEED(thd_client_host);
  NEED(thd_client_ip);
  NEED(thd_current_command);
  NEED(thd_query_id);
  NEED(thd_get_thread_id);
  NEED(thd_strmake);
  NEED(my_message);
  NEED(my_printf_error);
  NEED(mysqld_port);
  NEED(mysqld_extra_port);
  NEED(glob_hostname);
  NEED(mysql_mandatory_plugins);
  NEED(mysql_optional_plugins);
#undef NEED
  return NULL;
}

/* ---- Errors, warnings, log ---- */

void ifo_c_error(unsigned int code, const char *text)
{
  my_message(code, text, 0);
}

void ifo_c_warning(enum ifo_severity severity, unsigned int code, const char *text)
{
  my_printf_error(code, "%s", severity == IFO_NOTE ? ME_NOTE : ME_WARNING, text);
}

void ifo_c_log(enum ifo_severity severity, const char *text)
{
  unsigned long flags= severity == IFO_NOTE ? ME_NOTE : severity == IFO_WARNING ? ME_WARNING : 0;
  my_printf_error(0, "instant_failover: %s", flags | ME_ERROR_LOG_ONLY, text);
}

/* ---- The current session ---- */

int ifo_c_has_session(void)
{
  return _current_thd() != NULL;
}

struct ifo_statement ifo_c_statement(void)
{
  MYSQL_THD thd= _current_thd();
  struct ifo_statement statement= {thd_get_thread_id(thd), thd_query_id(thd)};
  return statement;
}

const char *ifo_c_session_user(void)
{
  return thd_user_name(_current_thd());
}

const char *ifo_c_session_host(void)
{
  return thd_client_host(_current_thd());
}

/* ---- HOLD and drain ---- */

const char *ifo_c_missing_for(enum ifo_feature feature)
{
#define NEED(symbol) if (!(&symbol)) return #symbol
  switch (feature) {
  case IFO_FEATURE_HOLD:
    NEED(thd_kill_level);
    NEED(abort_loop);
    NEED(max_connections);
    NEED(set_thd_proc_info);
    break;
  case IFO_FEATURE_DRAIN_POOL:
    NEED(mysql_global_audit_mask);
    NEED(global_plugin_version);
    /* fall through */
  case IFO_FEATURE_DRAIN:
    NEED(thread_handling);
    NEED(vio_set_wait_callback);
    NEED(thd_start_utime);
    NEED(thd_test_options);
    NEED(thd_get_xid);
  }
  NEED(thd_wait_begin);
  NEED(thd_wait_end);
#undef NEED
  return NULL;
}

int ifo_c_is_killed(void)
{
  return thd_kill_level(_current_thd()) != THD_IS_NOT_KILLED;
}

int ifo_c_is_shutting_down(void)
{
  return __atomic_load_n(&abort_loop, __ATOMIC_RELAXED) != 0;
}

unsigned long ifo_c_max_connections(void)
{
  if (ifo_c_has_thread_pool() && &threadpool_max_threads && threadpool_max_threads < max_connections)
    return threadpool_max_threads;
  return max_connections;
}

const char *ifo_c_set_state(const char *text)
{
  return set_thd_proc_info(_current_thd(), text, __func__, __FILE__, __LINE__);
}

/* As the server's own functions around a wait for a client: sql/scheduler.cc. */
void ifo_c_wait_begin(void)
{
  thd_wait_begin(NULL, THD_WAIT_NET);
}

void ifo_c_wait_end(void)
{
  thd_wait_end(NULL);
}

int ifo_c_has_thread_pool(void)
{
  return &thread_handling && thread_handling >= POOL_OF_THREADS;
}

int ifo_c_has_implicit_transaction(MYSQL_THD thd)
{
  MYSQL_XID xid;

  thd_get_xid(thd, &xid);
  return xid.formatID != NO_XID;
}

struct ifo_activity ifo_c_activity(void)
{
  MYSQL_THD thd= _current_thd();
  struct ifo_activity activity= {0};

  if (!thd)
    return activity;
  activity.thread_id= thd_get_thread_id(thd);
  activity.is_idle= thd_current_command(thd) == COM_SLEEP;
  activity.has_transaction= thd_test_options(thd, OPTION_BEGIN | OPTION_TABLE_LOCK) != 0 ||
                            ifo_c_has_implicit_transaction(thd);
  activity.has_locked_tables= thd_test_options(thd, OPTION_TABLE_LOCK) != 0;
  return activity;
}

uint64_t ifo_c_last_command(void)
{
  return thd_start_utime(_current_thd());
}

struct ifo_glance ifo_c_glance(MYSQL_THD thd)
{
  struct ifo_glance glance;

  glance.is_idle= thd_current_command(thd) == COM_SLEEP;
  glance.has_transaction= thd_test_options(thd, OPTION_BEGIN | OPTION_TABLE_LOCK) != 0;
  glance.has_locked_tables= thd_test_options(thd, OPTION_TABLE_LOCK) != 0;
  glance.has_no_autocommit= thd_test_options(thd, OPTION_NOT_AUTOCOMMIT) != 0;
  return glance;
}

void ifo_c_install_wait_callbacks(void)
{
  vio_set_wait_callback(ifo_rs_before_wait, ifo_rs_after_wait);
}

/* The part that needs events: an audit plugin, asleep but while it is needed. */

static void event_notify(MYSQL_THD thd, unsigned int class, const void *event)
{
  const struct mysql_event_connection *connection= event;
  const struct mysql_event_general *general= event;

  if (!thd || thd != _current_thd())
    return;
  if (class == MYSQL_AUDIT_CONNECTION_CLASS && connection->event_subclass == MYSQL_AUDIT_CONNECTION_DISCONNECT)
  {
    ifo_rs_session_ends(thd_get_thread_id(thd));
    /* From OpenSSL 3 on, the end of a connection without close_notify leaves an error with the thread, and the server does not
       take it away: the next session over TLS in this thread that has to wait in the middle of a command would be closed. So all
       that OpenSSL keeps for this thread is freed. ERR_clear_error() would not do: in a thread that has nothing it allocates, and
       a thread with something may abort when it ends while the server exits. */
    if (OPENSSL_thread_stop)
      OPENSSL_thread_stop();
  }
  else if (class == MYSQL_AUDIT_CONNECTION_CLASS)
    ifo_rs_session_begins(thd_get_thread_id(thd));
  else if (class == MYSQL_AUDIT_GENERAL_CLASS && (general->event_subclass == MYSQL_AUDIT_GENERAL_RESULT ||
                                                  general->event_subclass == MYSQL_AUDIT_GENERAL_STATUS))
    ifo_rs_command_done(thd_get_thread_id(thd), general->event_subclass == MYSQL_AUDIT_GENERAL_RESULT);
}

static void release_thd(MYSQL_THD thd)
{
  if (thd == _current_thd())
    ifo_rs_session_goes_on(thd_get_thread_id(thd));
}

struct st_mysql_audit ifo_c_audit= {
  MYSQL_AUDIT_INTERFACE_VERSION, release_thd, event_notify, {MYSQL_AUDIT_CONNECTION_CLASSMASK}
};

unsigned long *ifo_c_audit_classes_of_all(void)
{
  return mysql_global_audit_mask;
}

unsigned long *ifo_c_audit_classes_of_ours(void)
{
  return ifo_c_audit.class_mask;
}

unsigned int *ifo_c_plugin_version(void)
{
  return &global_plugin_version;
}

unsigned long ifo_c_audit_classes(const struct st_maria_plugin *plugin)
{
  const struct st_mysql_audit *audit= plugin->info;
  return plugin->type == MYSQL_AUDIT_PLUGIN && audit && audit != &ifo_c_audit ? audit->class_mask[0] : 0;
}

/* ---- A login ---- */

struct ifo_connection ifo_c_connection(MYSQL_PLUGIN_VIO *vio)
{
  MYSQL_THD thd= _current_thd();
  /* Newer servers write more than the struct of our headers holds. */
  union { MYSQL_PLUGIN_VIO_INFO info; char room[256]; } channel;

  memset(&channel.info, 0, sizeof channel.info);
  vio->info(vio, &channel.info);
  return (struct ifo_connection) {
    .user= thd_user_name(thd),
    .ip= thd_client_ip(thd),
    .session= thd,
    .session_id= thd_get_thread_id(thd),
    .socket= channel.info.socket,
    .is_tcp= channel.info.protocol == MYSQL_VIO_TCP,
    .is_change_user= thd_current_command(thd) == COM_CHANGE_USER,
  };
}

ifo_read_packet_fn ifo_c_swap_read_packet(MYSQL_PLUGIN_VIO *vio, ifo_read_packet_fn read_packet)
{
  ifo_read_packet_fn previous= vio->read_packet;
  vio->read_packet= read_packet;
  return previous;
}

/* ---- The server ---- */

enum ifo_presence ifo_c_presence(const char *name, int type)
{
  /* enum SHOW_COMP_OPTION in sql/handler.h. */
  enum { SHOW_OPTION_YES, SHOW_OPTION_NO, SHOW_OPTION_DISABLED };

  if (!plugin_status)
    return IFO_READY;
  switch (plugin_status(name, strlen(name), type)) {
  case SHOW_OPTION_YES: return IFO_READY;
  case SHOW_OPTION_NO: return IFO_ABSENT;
  default: return IFO_BETWEEN;
  }
}

unsigned int ifo_c_port(void)
{
  return mysqld_port;
}

unsigned int ifo_c_extra_port(void)
{
  return mysqld_extra_port;
}

const char *ifo_c_hostname(void)
{
  return glob_hostname;
}

struct st_maria_plugin **ifo_c_mandatory_plugins(void)
{
  return mysql_mandatory_plugins;
}

struct st_maria_plugin **ifo_c_optional_plugins(void)
{
  return mysql_optional_plugins;
}

ifo_authenticate_fn *ifo_c_authenticate_slot(const struct st_maria_plugin *plugin)
{
  struct st_mysql_auth *auth= plugin->info;
  int known= plugin->type == MYSQL_AUTHENTICATION_PLUGIN && auth &&
             (auth->interface_version >> 8 == 1 || auth->interface_version >> 8 == 2);
  return known ? &auth->authenticate_user : NULL;
}

/* ---- System variables ---- */

char *ifo_c_value[IFO_STRINGS];
unsigned int ifo_c_hold_timeout;
char ifo_c_drain;

/* What stands behind a st_mysql_value: st_item_value_holder in sql/sql_plugin.cc. */
struct value {
  struct st_mysql_value api;
  struct item *item;
};

/*
  The text of a value. val_str() gives the bytes of whatever character set the
  value has, and not which that is. So the server is first asked for the same
  value in UTF-8, of which the API knows nothing.
*/
static const char *text_of(MYSQL_THD thd, struct st_mysql_value *given, char *buffer, int *length,
                           enum ifo_encoding *encoding)
{
  const struct charset_info_st *utf8= &my_charset_utf8mb4_general_ci;
  const struct lex_string no_name= {NULL, 0};
  struct value value;

  *encoding= IFO_UNKNOWN;
  if (!utf8 || (!converted_10 && !converted_11))
    return given->val_str(given, buffer, length);
  value= *(struct value *) given;
  value.item= converted_10 ? converted_10(value.item, thd, utf8, 1, NULL)
                           : converted_11(value.item, thd, utf8, 1, &no_name);
  *encoding= value.item ? IFO_UTF8 : IFO_NOT_UTF8;
  return value.item ? value.api.val_str(&value.api, buffer, length) : given->val_str(given, buffer, length);
}

/* Returns 1 with the error raised. The text lives as long as the buffer. */
static int check(MYSQL_THD thd, enum ifo_variable variable, struct st_mysql_value *value, char *buffer, int *length,
                 const char **text, unsigned int *number)
{
  enum ifo_encoding encoding;

  *text= text_of(thd, value, buffer, length, &encoding);
  return !*text || ifo_rs_check(variable, *text, (size_t) *length, encoding, number);
}

/* The value is copied to the session's memory, where it lives until update. */
static int check_text(MYSQL_THD thd, enum ifo_variable variable, void *save, struct st_mysql_value *value)
{
  char buffer[256];
  int length= sizeof buffer;
  const char *text;
  unsigned int no_number;

  if (check(thd, variable, value, buffer, &length, &text, &no_number))
    return 1;
  *(const char **) save= thd_strmake(thd, text, (size_t) length);
  return *(const char **) save == NULL;
}

#define CHECK(name)                                                                                 \
  static int check_##name(MYSQL_THD thd, struct st_mysql_sys_var *var, void *save,                  \
                          struct st_mysql_value *value)
#define UPDATE(name)                                                                                \
  static void update_##name(MYSQL_THD thd, struct st_mysql_sys_var *var, void *current,             \
                            const void *save)

#define VARIABLE(variable, name, dflt, comment)                                                     \
  CHECK(name)                                                                                       \
  {                                                                                                 \
    (void) var;                                                                                     \
    return check_text(thd, variable, save, value);                                                  \
  }                                                                                                 \
  UPDATE(name)                                                                                      \
  {                                                                                                 \
    (void) thd, (void) var, (void) current;                                                         \
    ifo_rs_update(variable, *(const char *const *) save);                                           \
  }                                                                                                 \
  static MYSQL_SYSVAR_STR(name, ifo_c_value[variable], PLUGIN_VAR_OPCMDARG, comment, check_##name,  \
                          update_##name, dflt)

#define NUMBER(variable, name, type)                                                                \
  CHECK(name)                                                                                       \
  {                                                                                                 \
    char buffer[256];                                                                               \
    int length= sizeof buffer;                                                                      \
    const char *text;                                                                               \
    unsigned int number;                                                                            \
    (void) var;                                                                                     \
    if (check(thd, variable, value, buffer, &length, &text, &number))                               \
      return 1;                                                                                     \
    *(type *) save= (type) number;                                                                  \
    return 0;                                                                                       \
  }                                                                                                 \
  UPDATE(name)                                                                                      \
  {                                                                                                 \
    (void) thd, (void) var, (void) current;                                                         \
    ifo_rs_update_number(variable, (unsigned int) *(const type *) save);                            \
  }

VARIABLE(IFO_MODE, mode, "OFF",
         "What happens to new connections: OFF nothing; ON those over TCP to the standard port are redirected to "
         "instant_failover_target; ALL every one is, including the Unix socket and the extra port; HOLD those over TCP to "
         "the standard port wait until the mode changes, at most instant_failover_hold_timeout seconds");
VARIABLE(IFO_TARGET, target, "",
         "Where redirected clients are sent: host, host:port or [IPv6]:port; no port means 3306");
VARIABLE(IFO_MESSAGE, message, "Server is directing clients to the alternative server '%s'.",
         "The error text for clients that do not follow the redirect; %s is replaced by the target");
VARIABLE(IFO_EXEMPT_USERS, exempt_users, "",
         "Users that are never redirected, such as replication, monitoring and the DBA: names without hosts, separated by commas");
VARIABLE(IFO_EXEMPT_HOSTS, exempt_hosts, "",
         "Client addresses that are never redirected: IP addresses and CIDR blocks, separated by commas");
VARIABLE(IFO_NOTE_TEXT, note, "", "A note for other administrators, without any effect");

NUMBER(IFO_HOLD_TIMEOUT, hold_timeout, unsigned int)
static MYSQL_SYSVAR_UINT(hold_timeout, ifo_c_hold_timeout, PLUGIN_VAR_OPCMDARG,
                         "Seconds that the mode HOLD lasts, from the moment at which it is set; then the mode becomes OFF",
                         check_hold_timeout, update_hold_timeout, 10, 1, 3600, 0);
NUMBER(IFO_DRAIN, drain, char)
static MYSQL_SYSVAR_BOOL(drain, ifo_c_drain, PLUGIN_VAR_OPCMDARG,
                         "Ends open sessions that would be redirected or held if they came now, each once it is idle and "
                         "outside a transaction",
                         check_drain, update_drain, 0);

struct st_mysql_sys_var *ifo_c_system_vars[]= {
  MYSQL_SYSVAR(mode),
  MYSQL_SYSVAR(target),
  MYSQL_SYSVAR(message),
  MYSQL_SYSVAR(exempt_users),
  MYSQL_SYSVAR(exempt_hosts),
  MYSQL_SYSVAR(hold_timeout),
  MYSQL_SYSVAR(drain),
  MYSQL_SYSVAR(note),
  NULL
};

/* ---- Status ---- */

struct ifo_counters ifo_c_counters;

static int show_last_redirect(MYSQL_THD thd, struct st_mysql_show_var *var, void *buffer,
                              struct system_status_var *status, enum enum_var_type type)
{
  (void) thd, (void) status, (void) type;
  ifo_rs_last_redirect(buffer, SHOW_VAR_FUNC_BUFF_SIZE);
  var->type= SHOW_CHAR;
  var->value= buffer;
  return 0;
}

#define SHOW_SESSIONS(name, count)                                                                  \
  static int show_##name(MYSQL_THD thd, struct st_mysql_show_var *var, void *buffer,                \
                         struct system_status_var *status, enum enum_var_type type)                 \
  {                                                                                                 \
    unsigned long long number= ifo_rs_count_sessions(count);                                        \
    (void) thd, (void) status, (void) type;                                                         \
    memcpy(buffer, &number, sizeof number);                                                         \
    var->type= SHOW_ULONGLONG;                                                                      \
    var->value= buffer;                                                                             \
    return 0;                                                                                       \
  }

SHOW_SESSIONS(sessions, IFO_SESSIONS)
SHOW_SESSIONS(sessions_busy, IFO_SESSIONS_BUSY)
SHOW_SESSIONS(sessions_in_transaction, IFO_SESSIONS_IN_TRANSACTION)
SHOW_SESSIONS(sessions_unknown, IFO_SESSIONS_UNKNOWN)

#define COUNTED(name) {"Instant_failover_" #name, (void *) show_##name, SHOW_FUNC}
#define COUNTER(name) {"Instant_failover_" #name, &ifo_c_counters.name, SHOW_ULONGLONG}

struct st_mysql_show_var ifo_c_status_vars[]= {
  COUNTER(account_redirects),
  COUNTER(change_user_redirects),
  COUNTER(drained),
  COUNTER(exempted_hosts),
  COUNTER(exempted_users),
  COUNTER(held),
  COUNTER(hold_timeouts),
  COUNTER(holds),
  COUNTER(hooked_plugins),
  {"Instant_failover_last_redirect", (void *) show_last_redirect, SHOW_FUNC},
  COUNTER(redirects),
  COUNTER(redirects_extra_port),
  COUNTER(redirects_socket),
  COUNTER(redirects_tcp),
  COUNTED(sessions),
  COUNTED(sessions_busy),
  COUNTED(sessions_in_transaction),
  COUNTED(sessions_unknown),
  {NULL, NULL, SHOW_UNDEF}
};

/* ---- Accounts IDENTIFIED VIA instant_failover ---- */

/* Reading sends nothing and waits for nothing, because client_auth_plugin is
   NULL; it makes the server fill in auth_string and the account's name. Nobody
   is ever let in. */
static int authenticate_user(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  unsigned char *packet;

  if (vio->read_packet(vio, &packet) >= 0)
    ifo_rs_account_login(vio, info->authenticated_as, info->auth_string, info->auth_string_length);
  return CR_ERROR;
}

static int preprocess_hash(const char *hash, size_t hash_length, unsigned char *out, size_t *out_length)
{
  if (ifo_rs_account_check(hash, hash_length) || hash_length > *out_length)
    return 1;
  memcpy(out, hash, hash_length);
  *out_length= hash_length;
  return 0;
}

struct st_mysql_auth ifo_c_auth= {
  MYSQL_AUTHENTICATION_INTERFACE_VERSION,
  NULL, /* any client plugin will do */
  authenticate_user,
  NULL, /* no PASSWORD() */
  preprocess_hash
};

_Static_assert(sizeof(struct ifo_connection) == 40, "as in src/sys.rs");
_Static_assert(sizeof(struct ifo_statement) == 16, "as in src/sys.rs");
_Static_assert(sizeof(struct ifo_activity) == 16, "as in src/sys.rs");
_Static_assert(sizeof(struct ifo_glance) == 4, "as in src/sys.rs");
_Static_assert(sizeof(struct ifo_counters) == 13 * 8, "as in src/sys.rs");
