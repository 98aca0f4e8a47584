/*
  Connector/C's side of the client plugin: its structs, and nothing that decides.
  See client_shim.h for the border and src/client/ for what happens behind it.

  All calls go through the tables that the handle brings along. Many programs
  hold Connector/C as a static library, and export none of its functions.
*/
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <mysql.h>
#include <mysql/client_plugin.h>

#include "client_shim.h"

/* Set before a connection is tried. Every command sets affected_rows, the login
   itself only if it succeeds; the greeting sets thread_id, to more than 0. */
#define NO_COMMAND_YET 0x1f0ULL
#define NO_GREETING_YET 0

int ifo_c_client_connect(MYSQL *mysql, const struct ifo_client_address *address, const struct ifo_client_login *login)
{
  mysql->affected_rows= NO_COMMAND_YET;
  mysql->thread_id= NO_GREETING_YET;
  return mysql->methods->db_connect(mysql, address->host, login->user, login->password, login->database,
                                    address->port, address->unix_socket,
                                    login->flags | CLIENT_REMEMBER_OPTIONS) != NULL;
}

struct ifo_client_error ifo_c_client_error(MYSQL *mysql)
{
  struct ifo_client_error error= {mysql->net.last_errno, mysql->net.last_error, mysql->net.sqlstate,
                                  mysql->affected_rows != NO_COMMAND_YET ? IFO_IN_SESSION :
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
  mariadb_reconnect() calls the plugin's reconnect, where there is one, instead
  of reconnecting. So that it does what it would without a plugin, it must not
  see that there is one: the first member of the handle's extension, in every
  Connector/C since 3.0.
*/
char ifo_c_client_reconnect(MYSQL *mysql, const struct ifo_client_address *address)
{
  void **plugin_place= (void **) mysql->extension;
  void *plugin= *plugin_place;
  char *host= strdup(address->host);
  char *unix_socket= address->unix_socket ? strdup(address->unix_socket) : NULL;
  char *old_host= mysql->host, *old_unix_socket= mysql->unix_socket;
  unsigned int old_port= mysql->port;
  char failed;

  *plugin_place= NULL;
  mysql->host= host;
  mysql->unix_socket= unix_socket;
  mysql->port= address->port;
  failed= !host || mysql->methods->api->mariadb_reconnect(mysql);
  if (!failed)
  {
    /* The handle holds the new connection now, and what it held is freed. */
    free(old_host);
    free(old_unix_socket);
    free(plugin);
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
