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
void my_message(unsigned int code, const char *text, unsigned long flags);
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

#pragma weak _current_thd
#pragma weak thd_user_name
#pragma weak thd_client_host
#pragma weak thd_client_ip
#pragma weak thd_current_command
#pragma weak thd_query_id
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

/* enum_server_command in include/mysql_com.h; part of the protocol. */
#define COM_CHANGE_USER 17

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

void ifo_c_warning(unsigned int code, const char *text)
{
  my_printf_error(code, "%s", ME_WARNING, text);
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

/* ---- A login ---- */

struct ifo_connection ifo_c_connection(MYSQL_PLUGIN_VIO *vio)
{
  MYSQL_THD thd= _current_thd();
  struct ifo_connection connection= {0};
  /* Newer servers write more than the struct of our headers holds. */
  union { MYSQL_PLUGIN_VIO_INFO info; char room[256]; } channel;

  memset(&channel, 0, sizeof channel);
  vio->info(vio, &channel.info);
  connection.user= thd_user_name(thd);
  connection.ip= thd_client_ip(thd);
  connection.socket= channel.info.socket;
  connection.is_tcp= channel.info.protocol == MYSQL_VIO_TCP;
  connection.is_change_user= thd_current_command(thd) == COM_CHANGE_USER;
  return connection;
}

ifo_read_packet_fn ifo_c_swap_read_packet(MYSQL_PLUGIN_VIO *vio, ifo_read_packet_fn read_packet)
{
  ifo_read_packet_fn previous= vio->read_packet;
  vio->read_packet= read_packet;
  return previous;
}

/* ---- The server ---- */

enum ifo_presence ifo_c_presence(const char *name)
{
  /* enum SHOW_COMP_OPTION in sql/handler.h. */
  enum { SHOW_OPTION_YES, SHOW_OPTION_NO, SHOW_OPTION_DISABLED };

  if (!plugin_status)
    return IFO_READY;
  switch (plugin_status(name, strlen(name), MYSQL_AUTHENTICATION_PLUGIN)) {
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

char *ifo_c_value[IFO_VARIABLES];

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

/* The value is copied to the session's memory, where it lives until update. */
static int check(MYSQL_THD thd, enum ifo_variable variable, void *save, struct st_mysql_value *value)
{
  char buffer[256];
  int length= sizeof buffer;
  enum ifo_encoding encoding;
  const char *text= text_of(thd, value, buffer, &length, &encoding);

  if (!text || ifo_rs_check(variable, text, (size_t) length, encoding))
    return 1;
  *(const char **) save= thd_strmake(thd, text, (size_t) length);
  return *(const char **) save == NULL;
}

#define VARIABLE(variable, name, dflt, comment)                                                     \
  static int check_##name(MYSQL_THD thd, struct st_mysql_sys_var *var, void *save,                  \
                          struct st_mysql_value *value)                                             \
  {                                                                                                 \
    (void) var;                                                                                     \
    return check(thd, variable, save, value);                                                       \
  }                                                                                                 \
  static void update_##name(MYSQL_THD thd, struct st_mysql_sys_var *var, void *current,             \
                            const void *save)                                                       \
  {                                                                                                 \
    (void) thd, (void) var, (void) current;                                                         \
    ifo_rs_update(variable, *(const char *const *) save);                                           \
  }                                                                                                 \
  static MYSQL_SYSVAR_STR(name, ifo_c_value[variable], PLUGIN_VAR_OPCMDARG, comment, check_##name,  \
                          update_##name, dflt)

VARIABLE(IFO_MODE, mode, "OFF",
         "Which new connections are redirected to instant_failover_target: OFF none; ON TCP connections to the "
         "standard port; ALL every connection, including the Unix socket and the extra port");
VARIABLE(IFO_TARGET, target, "",
         "Where redirected clients are sent: host, host:port or [IPv6]:port; no port means 3306");
VARIABLE(IFO_MESSAGE, message, "Server is directing clients to the alternative server '%s'.",
         "The error text for clients that do not follow the redirect; %s is replaced by the target");
VARIABLE(IFO_EXEMPT_USERS, exempt_users, "",
         "Users that are never redirected, such as replication, monitoring and the DBA: names without hosts, separated by commas");
VARIABLE(IFO_EXEMPT_HOSTS, exempt_hosts, "",
         "Client addresses that are never redirected: IP addresses and CIDR blocks, separated by commas");

struct st_mysql_sys_var *ifo_c_system_vars[]= {
  MYSQL_SYSVAR(mode),
  MYSQL_SYSVAR(target),
  MYSQL_SYSVAR(message),
  MYSQL_SYSVAR(exempt_users),
  MYSQL_SYSVAR(exempt_hosts),
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

#define COUNTER(name) {"Instant_failover_" #name, &ifo_c_counters.name, SHOW_ULONGLONG}

struct st_mysql_show_var ifo_c_status_vars[]= {
  COUNTER(account_redirects),
  COUNTER(change_user_redirects),
  COUNTER(exempted_hosts),
  COUNTER(exempted_users),
  COUNTER(hooked_plugins),
  {"Instant_failover_last_redirect", (void *) show_last_redirect, SHOW_FUNC},
  COUNTER(redirects),
  COUNTER(redirects_extra_port),
  COUNTER(redirects_socket),
  COUNTER(redirects_tcp),
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

_Static_assert(sizeof(struct ifo_connection) == 24, "as in src/sys.rs");
_Static_assert(sizeof(struct ifo_statement) == 16, "as in src/sys.rs");
_Static_assert(sizeof(struct ifo_counters) == 9 * 8, "as in src/sys.rs");
