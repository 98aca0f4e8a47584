/*
  Connector/C's side of the client plugin: its structs, and nothing that decides.
  See client_shim.h for the border and src/client/ for what happens behind it.

  All calls go through the tables that the handle brings along. Many programs
  hold Connector/C as a static library, and export none of its functions.
*/
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <mysql.h>
#include <ma_pvio.h>
#include <mysql/client_plugin.h>

#include "client_shim.h"

/* Set before a connection is tried. Every command sets affected_rows, the login
   itself only if it succeeds; the greeting sets thread_id, to more than 0. The
   low half of affected_rows is the position, see ifo_c_client_position(). */
#define NO_COMMAND_YET (0x1f0f0157ULL << 32)
#define POSITION 0xffffffffULL
#define NO_GREETING_YET 0

static int no_command_yet(MYSQL *mysql)
{
  return (mysql->affected_rows & ~POSITION) == NO_COMMAND_YET;
}

/*
  A thread that is cancelled is unwound, and Rust's functions, which are further
  up, must not be. So it is cancelled afterwards. A handle that does not block may
  go on in another thread.
*/
static int put_off_cancellation(MYSQL *mysql)
{
  int was= PTHREAD_CANCEL_DISABLE;

  if (!ifo_c_client_is_async(mysql))
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
  return was;
}

static void allow_cancellation(int was)
{
  if (was != PTHREAD_CANCEL_DISABLE)
    pthread_setcancelstate(was, NULL);
}

int ifo_c_client_connect(MYSQL *mysql, const struct ifo_client_address *address,
                         const struct ifo_client_login *login, ifo_client_connect_fn connect)
{
  int was= put_off_cancellation(mysql);
  int connected= connect(mysql, address->host, login->user, login->password, login->database, address->port,
                         address->unix_socket, login->flags) != NULL;

  allow_cancellation(was);
  return connected;
}

/* What the extension of a handle begins with, in every release since 3.0. */
struct extension {
  void *handler;
  void *session_state[2 * SESSION_TRACK_TYPES];
  unsigned long client_flag;
  unsigned long server_capabilities;
};

static unsigned long extended_capabilities(MYSQL *mysql)
{
  unsigned long capabilities= 0;

  mysql->methods->api->mariadb_get_infov(mysql, MARIADB_CONNECTION_EXTENDED_SERVER_CAPABILITIES, &capabilities);
  return capabilities;
}

/*
  A server that is not MariaDB's does not say them, and Connector/C would keep
  those of the server before, and misread every result. If they are elsewhere,
  nothing is changed.
*/
static void forget_capabilities(MYSQL *mysql)
{
  struct extension *extension= (struct extension *) mysql->extension;
  unsigned long capabilities= extended_capabilities(mysql);

  if (!capabilities || extension->server_capabilities != capabilities)
    return;
  extension->server_capabilities= 0;
  if (extended_capabilities(mysql))
    extension->server_capabilities= capabilities;
}

/*
  Before an attempt. Returns the flags for it: if it fails, the handle keeps
  its options for the next one.
*/
static unsigned long prepare(MYSQL *mysql, unsigned long flags)
{
  mysql->affected_rows= NO_COMMAND_YET;
  mysql->thread_id= NO_GREETING_YET;
  return flags | CLIENT_REMEMBER_OPTIONS;
}

int ifo_c_client_try(MYSQL *mysql, const struct ifo_client_address *address, const struct ifo_client_login *login,
                     ifo_client_connect_fn connect)
{
  struct ifo_client_login keeping= *login;

  keeping.flags= prepare(mysql, login->flags);
  forget_capabilities(mysql);
  return ifo_c_client_connect(mysql, address, &keeping, connect);
}

/*
  In C, so that a thread can be cancelled in it as without us: unless a server
  redirects, no function of Rust's is on the stack while it connects.
*/
MYSQL *ifo_c_client_connect_by_default(MYSQL *mysql, const char *host, const char *user, const char *password,
                                       const char *database, unsigned int port, const char *unix_socket,
                                       unsigned long flags)
{
  struct ifo_client_address place= {host, unix_socket, port};
  struct ifo_client_login login= {user, password, database, flags};
  struct ifo_client_begin how= ifo_rs_client_begin(mysql, &place);

  if (!how.original)
    return NULL;
  if (how.is_untouched)
    return how.original(mysql, host, user, password, database, port, unix_socket, flags);
  if (how.original(mysql, host, user, password, database, port, unix_socket, prepare(mysql, flags)))
    return mysql;
  return ifo_rs_client_refused(mysql, &place, &login) ? mysql : NULL;
}

/* In C, so that a thread can be cancelled in it. */
ptrdiff_t ifo_c_client_read(MARIADB_PVIO *pvio, unsigned char *buffer, size_t length)
{
  struct ifo_client_read how= ifo_rs_client_read(pvio, length);
  ptrdiff_t got= how.original ? how.original(pvio, buffer, how.length) : -1;

  if (how.is_noted)
    ifo_rs_client_was_read(pvio, how.position, buffer, got);
  return got;
}

struct ifo_client_stream ifo_c_client_stream(MARIADB_PVIO *pvio)
{
  struct ifo_client_stream stream= {pvio->methods, 0, 0, 0};

  if (!pvio->ctls && pvio->mysql && no_command_yet(pvio->mysql))
  {
    stream.is_login_in_clear= 1;
    stream.is_greeting_due= pvio->mysql->thread_id == NO_GREETING_YET;
    stream.position= (unsigned int) (pvio->mysql->affected_rows & POSITION);
  }
  return stream;
}

void ifo_c_client_set_position(MARIADB_PVIO *pvio, unsigned int position)
{
  pvio->mysql->affected_rows= NO_COMMAND_YET | position;
}

int ifo_c_client_has_position(MYSQL *mysql)
{
  return no_command_yet(mysql) && mysql->affected_rows & POSITION;
}

const void *ifo_c_client_api(MYSQL *mysql)
{
  return mysql->methods->api;
}

ifo_client_connect_fn ifo_c_client_method(MYSQL *mysql)
{
  return __atomic_load_n(&mysql->methods->db_connect, __ATOMIC_ACQUIRE);
}

int ifo_c_client_is_connected(MYSQL *mysql)
{
  return mysql->net.pvio != NULL;
}

int ifo_c_client_is_under_tls(MYSQL *mysql)
{
  return mysql->net.pvio && mysql->net.pvio->ctls;
}

int ifo_c_client_keeps_options(unsigned long flags)
{
  return (flags & CLIENT_REMEMBER_OPTIONS) != 0;
}

int ifo_c_client_is_async(MYSQL *mysql)
{
  my_bool is_async= 0;
  mysql->methods->api->mysql_get_optionv(mysql, MYSQL_OPT_NONBLOCK, &is_async);
  return is_async;
}

/* They are given to another handle, and closed with it. */
void ifo_c_client_drop_options(MYSQL *mysql)
{
  struct st_mysql_options fresh;
  MYSQL *other= mysql->methods->api->mysql_init(NULL);

  if (!other)
    return;
  fresh= other->options;
  other->options= mysql->options;
  mysql->methods->api->mysql_close(other);
  memset(&mysql->options, 0, sizeof mysql->options);
  /* What mysql_init() allocates for it is freed with this handle. */
  mysql->options.extension= fresh.extension;
}

struct ifo_client_error ifo_c_client_error(MYSQL *mysql)
{
  struct ifo_client_error error= {mysql->net.last_errno, mysql->net.last_error, mysql->net.sqlstate,
                                  !no_command_yet(mysql) ? IFO_IN_SESSION :
                                  mysql->thread_id != NO_GREETING_YET ? IFO_LOGGING_IN : IFO_CONNECTING};
  return error;
}

/* MARIADB_TLS_VERIFY_STATUS, which only the headers of 3.4 and later have. */
#define TLS_VERIFY_STATUS ((enum mariadb_value) 37)

struct ifo_client_tls ifo_c_client_tls(MYSQL *mysql)
{
  struct st_mariadb_api *api= mysql->methods->api;
  my_bool verify= 0;
  char *fingerprint= NULL, *fingerprint_list= NULL;
  struct ifo_client_tls tls= {0};

  api->mysql_get_optionv(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
  api->mysql_get_optionv(mysql, MARIADB_OPT_SSL_FP, &fingerprint);
  api->mysql_get_optionv(mysql, MARIADB_OPT_SSL_FP_LIST, &fingerprint_list);
  tls.in_use= mysql->options.use_ssl && mysql->server_capabilities & CLIENT_SSL;
  tls.verify= verify;
  tls.fingerprint= fingerprint;
  tls.fingerprint_list= fingerprint_list;
  tls.knows_status= !api->mariadb_get_infov(mysql, TLS_VERIFY_STATUS, &tls.status);
  return tls;
}

const char *ifo_c_client_set_fingerprint(MYSQL *mysql, const char *fingerprint)
{
  char *now= NULL;

  mysql->methods->api->mysql_optionsv(mysql, MARIADB_OPT_SSL_FP, fingerprint);
  mysql->methods->api->mysql_get_optionv(mysql, MARIADB_OPT_SSL_FP, &now);
  return now;
}

/* As after a connection that failed, options and all. */
void ifo_c_client_disconnect(MYSQL *mysql)
{
  int was= put_off_cancellation(mysql);
  my_bool reconnect= mysql->options.reconnect;
  char **strings[]= {&mysql->host_info, &mysql->host, &mysql->user, &mysql->passwd, &mysql->db,
                     &mysql->unix_socket, &mysql->server_version};

  mysql->methods->db_close(mysql);
  mysql->options.reconnect= reconnect;
  for (size_t n= 0; n < sizeof strings / sizeof *strings; n++)
  {
    free(*strings[n]);
    *strings[n]= NULL;
  }
  allow_cancellation(was);
}

void ifo_c_client_set_error(MYSQL *mysql, unsigned int code, const char *sqlstate, const char *text)
{
  mysql->methods->set_error(mysql, code, sqlstate, "%s", text);
}

unsigned int ifo_c_client_protocol(MYSQL *mysql)
{
  return mysql->options.protocol;
}

void ifo_c_client_set_protocol(MYSQL *mysql, unsigned int protocol)
{
  mysql->options.protocol= protocol;
}

unsigned int ifo_c_client_tcp(void)
{
  return MYSQL_PROTOCOL_TCP;
}

static const char data_key[]= "instant_failover";

void *ifo_c_client_data(MYSQL *mysql)
{
  void *data= NULL;
  mysql->methods->api->mysql_get_optionv(mysql, MARIADB_OPT_USERDATA, (void *) data_key, (void *) &data);
  return data;
}

int ifo_c_client_set_data(MYSQL *mysql, void *data)
{
  return mysql->methods->api->mysql_optionsv(mysql, MARIADB_OPT_USERDATA, (void *) data_key, data) != 0;
}

/*
  What Connector/C keeps of a handle's plugin, in every release since 3.0: the
  first member of the handle's extension points to it. free() is its end.
*/
struct connection_handler {
  const struct ifo_client_plugin *plugin;
  void *data;
  my_bool active;
  my_bool free_data;
};

static struct connection_handler **handler_of(MYSQL *mysql)
{
  return (struct connection_handler **) mysql->extension;
}

const void *ifo_c_client_plugin(MYSQL *mysql)
{
  return *handler_of(mysql) ? (*handler_of(mysql))->plugin : NULL;
}

int ifo_c_client_attach(MYSQL *mysql, const struct ifo_client_plugin *plugin)
{
  struct connection_handler *handler= calloc(1, sizeof *handler);

  if (!handler)
    return 1;
  handler->plugin= plugin;
  *handler_of(mysql)= handler;
  return 0;
}

void ifo_c_client_detach(MYSQL *mysql)
{
  free(*handler_of(mysql));
  *handler_of(mysql)= NULL;
}

/*
  Stands in the place of our plugin while a handle logs in that must have TLS:
  commands that the login itself sends (the database, MYSQL_INIT_COMMAND) do not
  leave in clear.
*/
static int only_under_tls(MYSQL *mysql, int command, const char *argument, size_t length, char skip_check, void *more)
{
  (void) command, (void) argument, (void) length, (void) skip_check, (void) more;
  if (ifo_c_client_is_under_tls(mysql))
    return 0;
  (*handler_of(mysql))->data= mysql; /* for ifo_c_client_unguard() */
  return -1;
}

static const struct ifo_client_plugin guard= {
  .type= IFO_CLIENT_PLUGIN_TYPE,
  .interface_version= IFO_CLIENT_INTERFACE_VERSION,
  .name= "instant_failover",
  .close= ifo_rs_client_close,
  .set_connection= only_under_tls,
  .reconnect= ifo_rs_client_reconnect
};

int ifo_c_client_guard(MYSQL *mysql)
{
  if (!*handler_of(mysql))
    return ifo_c_client_attach(mysql, &guard);
  (*handler_of(mysql))->plugin= &guard;
  return 0;
}

int ifo_c_client_unguard(MYSQL *mysql, const void *plugin)
{
  int has_refused= (*handler_of(mysql))->data != NULL;

  (*handler_of(mysql))->data= NULL;
  (*handler_of(mysql))->plugin= plugin;
  if (!plugin)
    ifo_c_client_detach(mysql);
  return has_refused;
}

const char *ifo_c_client_program(MYSQL *mysql)
{
  int (*get)(MYSQL *, enum mysql_option, void *, ...)= mysql->methods->api->mysql_get_optionv;
  unsigned int count= 0;
  const char **names, **values, *program= NULL;

  get(mysql, MYSQL_OPT_CONNECT_ATTRS, NULL, NULL, &count);
  if (!count)
    return NULL;
  names= calloc(count, sizeof *names);
  values= calloc(count, sizeof *values);
  if (names && values)
  {
    get(mysql, MYSQL_OPT_CONNECT_ATTRS, &names, &values, &count);
    for (unsigned int n= 0; n < count; n++)
      if (!strcmp(names[n], "program_name"))
        program= values[n];
  }
  free(names);
  free(values);
  return program;
}

struct ifo_client_address ifo_c_client_default(MYSQL *mysql)
{
  struct ifo_client_address address= {mysql->options.host, mysql->options.unix_socket, mysql->options.port};
  return address;
}

/* In C, because only a function that Connector/C calls itself can tell from where. */
int ifo_c_client_init(char *error, size_t length, int argc, void *arguments)
{
  (void) error, (void) length, (void) argc, (void) arguments;
  ifo_rs_client_init(__builtin_return_address(0));
  return 0;
}

/*
  mariadb_reconnect() calls the plugin's reconnect, where there is one, instead
  of reconnecting. So that it does what it would without a plugin, it must not
  see that there is one.
*/
char ifo_c_client_reconnect(MYSQL *mysql, const struct ifo_client_address *address)
{
  struct connection_handler **plugin_place= handler_of(mysql), *plugin= *plugin_place;
  char *host= address->host ? strdup(address->host) : NULL;
  char *unix_socket= address->unix_socket ? strdup(address->unix_socket) : NULL;
  char *old_host= mysql->host, *old_unix_socket= mysql->unix_socket;
  unsigned int old_port= mysql->port;
  int was= put_off_cancellation(mysql);
  char failed;

  *plugin_place= NULL;
  mysql->host= host;
  mysql->unix_socket= unix_socket;
  mysql->port= address->port;
  failed= (address->host && !host) || (address->unix_socket && !unix_socket) ||
          mysql->methods->api->mariadb_reconnect(mysql);
  allow_cancellation(was);
  if (!failed)
  {
    /* The handle holds the new connection now, and what it held is freed. If the
       new one has no plugin, it was not redirected; the next one may be. */
    free(old_host);
    free(old_unix_socket);
    if (*handler_of(mysql))
      free(plugin);
    else
      *handler_of(mysql)= plugin;
    return 0;
  }
  mysql->host= old_host;
  mysql->unix_socket= old_unix_socket;
  mysql->port= old_port;
  *plugin_place= plugin;
  free(host);
  free(unix_socket);
  return 1;
}

int ifo_c_client_set_connection(MYSQL *mysql, int command, const char *argument, size_t length, char skip_check,
                                void *more)
{
  (void) mysql, (void) command, (void) argument, (void) length, (void) skip_check, (void) more;
  return 0;
}

#define SAME(ours, theirs) \
  _Static_assert(offsetof(struct ifo_client_plugin, ours) == offsetof(MARIADB_CONNECTION_PLUGIN, theirs), #ours)

SAME(type, type);
SAME(interface_version, interface_version);
SAME(name, name);
SAME(author, author);
SAME(description, desc);
SAME(version, version);
SAME(license, license);
SAME(mysql_api, mysql_api);
SAME(init, init);
SAME(deinit, deinit);
SAME(options, options);
SAME(connect, connect);
SAME(close, close);
SAME(set_optionsv, set_optionsv);
SAME(set_connection, set_connection);
SAME(reconnect, reconnect);
SAME(reset, reset);
_Static_assert(sizeof(struct ifo_client_plugin) == sizeof(MARIADB_CONNECTION_PLUGIN), "the same size");
_Static_assert((int) IFO_CLIENT_PLUGIN_TYPE == MARIADB_CLIENT_CONNECTION_PLUGIN, "the same type");
_Static_assert((int) IFO_CLIENT_INTERFACE_VERSION == MARIADB_CLIENT_CONNECTION_PLUGIN_INTERFACE_VERSION,
               "the same version");

#define WORD(table, member, n) _Static_assert(offsetof(struct table, member) == (n) * sizeof(void *), #member)

WORD(st_mariadb_methods, db_connect, 0);
WORD(st_mariadb_methods, db_read_query_result, IFO_METHODS_RESULT);
WORD(st_mariadb_methods, db_read_stmt_result, IFO_METHODS_RESULT_AGAIN);
WORD(st_mariadb_methods, api, IFO_METHODS);
WORD(st_mariadb_api, mysql_real_connect, IFO_API_CONNECT);
_Static_assert(sizeof(struct st_mariadb_api) == IFO_API * sizeof(void *), "all of its functions");

WORD(st_ma_pvio_methods, read, IFO_IO_READ);
WORD(st_mariadb_client_plugin_PVIO, name, 1);
WORD(st_mariadb_client_plugin_PVIO, methods, IFO_IO_PLUGIN);
_Static_assert((int) IFO_IO_PLUGIN_TYPE == MARIADB_CLIENT_PVIO_PLUGIN, "the type of such plugins");
_Static_assert((int) IFO_IO_PLUGIN_VERSION == MARIADB_CLIENT_PVIO_PLUGIN_INTERFACE_VERSION, "their version");
