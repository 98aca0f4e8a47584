/*
  The border between Connector/C and the Rust code. See shim.h, of which it is
  a part.
*/
#ifndef INSTANT_FAILOVER_CLIENT_SHIM_H
#define INSTANT_FAILOVER_CLIENT_SHIM_H

#include <stddef.h>

/* A connection handle, MYSQL. */
struct st_mysql;

/* Its connection, MARIADB_PVIO. */
struct st_ma_pvio;

/* What a program passes to mysql_real_connect(). */
struct ifo_client_login {
  const char *user;
  const char *password;
  const char *database;
  unsigned long flags;
};

/* Where to connect to, as Connector/C wants it. NULL and 0 are its defaults. */
struct ifo_client_address {
  const char *host;
  const char *unix_socket;
  unsigned int port;
};

/* How far a connection has come. */
enum ifo_client_phase {
  IFO_CONNECTING, /* no greeting yet */
  IFO_LOGGING_IN, /* the server has greeted, and has not let the client in */
  IFO_IN_SESSION  /* a command was sent */
};

struct ifo_client_error {
  unsigned int code;
  const char *text;      /* lives until the next call with the handle */
  const char *sqlstate;  /* likewise */
  enum ifo_client_phase phase;
};

/* TLS of the connection that was made or tried last, and what the program wants
   of it. */
struct ifo_client_tls {
  int in_use;
  int verify;                    /* MYSQL_OPT_SSL_VERIFY_SERVER_CERT */
  const char *fingerprint;       /* NULL for none, as the next */
  const char *fingerprint_list;
  int knows_status;              /* 3.4 and later */
  unsigned int status;           /* of the certificate: 0 if nothing is wrong */
};

/* Same layout as MARIADB_CONNECTION_PLUGIN. */
struct ifo_client_plugin {
  int type;
  unsigned int interface_version;
  const char *name;
  const char *author;
  const char *description;
  unsigned int version[3];
  const char *license;
  void *mysql_api;
  int (*init)(char *error, size_t length, int argc, void *arguments); /* the last is a va_list */
  int (*deinit)(void);
  int (*options)(const char *option, const void *value);
  struct st_mysql *(*connect)(struct st_mysql *mysql, const char *host, const char *user, const char *password,
                              const char *database, unsigned int port, const char *unix_socket,
                              unsigned long flags);
  void (*close)(struct st_mysql *mysql);
  void *set_optionsv;
  int (*set_connection)(struct st_mysql *mysql, int command, const char *argument, size_t length,
                        char skip_check, void *more);
  char (*reconnect)(struct st_mysql *mysql);
  void *reset;
};

enum { IFO_CLIENT_PLUGIN_TYPE = 103, IFO_CLIENT_INTERFACE_VERSION = 0x0100 };

/* Connects a handle: in each copy of Connector/C, one function of the table of
   methods that its handles refer to. */
typedef struct st_mysql *(*ifo_client_connect_fn)(struct st_mysql *mysql, const char *host, const char *user,
                                                  const char *password, const char *database, unsigned int port,
                                                  const char *unix_socket, unsigned long flags);

/* How a handle is connected by default. */
struct ifo_client_begin {
  ifo_client_connect_fn original; /* Connector/C's own function; NULL if it is not known, and the handle has an error */
  int is_untouched;               /* as without us */
};

/* What that table looks like, in words: IFO_METHODS functions, of which the one
   that connects is the first and two are the same, and then a pointer to a table
   of IFO_API functions, of which one is mysql_real_connect(). All releases since
   3.0 have these; some have more behind them. */
enum {
  IFO_METHODS = 18,
  IFO_METHODS_RESULT = 4,
  IFO_METHODS_RESULT_AGAIN = 9,
  IFO_API = 115,
  IFO_API_CONNECT = 28
};

/* Reads a connection, as read() does. */
typedef ptrdiff_t (*ifo_client_read_fn)(struct st_ma_pvio *pvio, unsigned char *buffer, size_t length);

/* A connection that is to be read. */
struct ifo_client_stream {
  const void *io;         /* its table of functions: no two copies of Connector/C have the same */
  int is_login_in_clear;  /* whether ifo_c_client_try() is connecting the handle, and TLS has not begun */
  int is_greeting_due;    /* if so: whether the server has not greeted */
  unsigned int position;  /* and how far it was read, as was noted; 0 is not at all */
};

/* How it is read. */
struct ifo_client_read {
  ifo_client_read_fn original; /* Connector/C's own function; NULL if it is not known */
  size_t length;               /* at most */
  unsigned int position;       /* how far it was read */
  int is_noted;                /* ifo_rs_client_was_read() wants to know what was read */
};

/* Where that function is: in a table of at least IFO_IO functions. A plugin of
   Connector/C's own has it: an int, the type; an unsigned int, the version of
   such plugins; a pointer to its name; and the table is a later word. All
   releases since 3.0 have these; what is behind `read` in the table differs. */
enum {
  IFO_IO = 10,
  IFO_IO_READ = 2,
  IFO_IO_PLUGIN = 11,
  IFO_IO_PLUGIN_TYPE = 101,
  IFO_IO_PLUGIN_VERSION = 0x0100
};

/* ---- What Rust calls ---- */

/* Connector/C calls it when it has loaded the plugin: for those that the
   environment names inside pthread_once(), before there is any handle, and under
   the lock of its plugins. Returns 0. */
int ifo_c_client_init(char *error, size_t length, int argc, void *arguments);

/* The table of functions of the Connector/C that a handle belongs to: no two
   copies have the same. */
const void *ifo_c_client_api(struct st_mysql *mysql);
/* The function that its handles connect by now. */
ifo_client_connect_fn ifo_c_client_method(struct st_mysql *mysql);
/* Connects by that function, or another one; 1 if the client is in. */
int ifo_c_client_connect(struct st_mysql *mysql, const struct ifo_client_address *address,
                         const struct ifo_client_login *login, ifo_client_connect_fn connect);
/* The same, and tells how far it came, see ifo_c_client_error(). The handle
   keeps its options whatever happens. */
int ifo_c_client_try(struct st_mysql *mysql, const struct ifo_client_address *address,
                     const struct ifo_client_login *login, ifo_client_connect_fn connect);

/* Stands in the place of the function that connects: mysql_real_connect() for any
   host. */
struct st_mysql *ifo_c_client_connect_by_default(struct st_mysql *mysql, const char *host, const char *user,
                                                 const char *password, const char *database, unsigned int port,
                                                 const char *unix_socket, unsigned long flags);

/* Stands in front of that function of Connector/C's. */
ptrdiff_t ifo_c_client_read(struct st_ma_pvio *pvio, unsigned char *buffer, size_t length);
struct ifo_client_stream ifo_c_client_stream(struct st_ma_pvio *pvio);
/* Notes how far a login in clear was read. */
void ifo_c_client_set_position(struct st_ma_pvio *pvio, unsigned int position);
/* Whether one was noted for a handle that ifo_c_client_try() could not connect. */
int ifo_c_client_has_position(struct st_mysql *mysql);

/* Whether the handle has a connection. */
int ifo_c_client_is_connected(struct st_mysql *mysql);
/* Whether it has one under TLS. */
int ifo_c_client_is_under_tls(struct st_mysql *mysql);
/* Whether the program wants to keep the options of a handle that fails to
   connect. */
int ifo_c_client_keeps_options(unsigned long flags);
/* Whether the handle is used by the functions that do not block. */
int ifo_c_client_is_async(struct st_mysql *mysql);
/* Frees the options of a handle that is not, as Connector/C does. */
void ifo_c_client_drop_options(struct st_mysql *mysql);

/* The plugin that Connector/C calls for this handle, NULL for none. */
const void *ifo_c_client_plugin(struct st_mysql *mysql);
/* Makes ours that plugin. Returns 0, or 1 where there is no memory. */
int ifo_c_client_attach(struct st_mysql *mysql, const struct ifo_client_plugin *plugin);
/* The handle has no plugin then. */
void ifo_c_client_detach(struct st_mysql *mysql);

/* Until the next call, the handle sends no command in clear: the one that a login
   sends fails. For a handle with no plugin, or ours. Returns 0, or 1 where there
   is no memory. */
int ifo_c_client_guard(struct st_mysql *mysql);
/* It has this plugin again, NULL for none. Whether a command was refused. */
int ifo_c_client_unguard(struct st_mysql *mysql, const void *plugin);

/* The connect attribute program_name; NULL if there is none. */
const char *ifo_c_client_program(struct st_mysql *mysql);
/* Where a handle connects to if the program says nothing: option files. */
struct ifo_client_address ifo_c_client_default(struct st_mysql *mysql);

struct ifo_client_error ifo_c_client_error(struct st_mysql *mysql);
void ifo_c_client_set_error(struct st_mysql *mysql, unsigned int code, const char *sqlstate, const char *text);

struct ifo_client_tls ifo_c_client_tls(struct st_mysql *mysql);
/* The fingerprint that the program wants, NULL for none. Returns what the handle
   has then: NULL also where there is no memory. */
const char *ifo_c_client_set_fingerprint(struct st_mysql *mysql, const char *fingerprint);
/* Ends the session of a handle that is connected. */
void ifo_c_client_disconnect(struct st_mysql *mysql);

/* Whether TCP, a Unix socket or neither was asked for: MYSQL_OPT_PROTOCOL. */
unsigned int ifo_c_client_protocol(struct st_mysql *mysql);
void ifo_c_client_set_protocol(struct st_mysql *mysql, unsigned int protocol);
unsigned int ifo_c_client_tcp(void);

/* A pointer of ours that the handle keeps, through reconnects too. */
void *ifo_c_client_data(struct st_mysql *mysql);
/* Returns 0, or 1 where there is no memory. */
int ifo_c_client_set_data(struct st_mysql *mysql, void *data);

/* What Connector/C does when a connection is lost, with the place it connects
   to exchanged for this one. Returns 0 if there is a new session. */
char ifo_c_client_reconnect(struct st_mysql *mysql, const struct ifo_client_address *address);

/* Connector/C calls it before every command, with no check for NULL. Lets the
   command pass. */
int ifo_c_client_set_connection(struct st_mysql *mysql, int command, const char *argument, size_t length,
                                char skip_check, void *more);

/* ---- What C calls: the functions of the plugin, see client_plugin.h ---- */

struct st_mysql *ifo_rs_client_connect(struct st_mysql *mysql, const char *host, const char *user,
                                       const char *password, const char *database, unsigned int port,
                                       const char *unix_socket, unsigned long flags);
/* How to connect a handle by default. */
struct ifo_client_begin ifo_rs_client_begin(struct st_mysql *mysql, const struct ifo_client_address *place);
/* That has failed. 1 if it was redirected, and is connected to another server. */
int ifo_rs_client_refused(struct st_mysql *mysql, const struct ifo_client_address *place,
                          const struct ifo_client_login *login);
/* How to read so much of a connection, and what was read then: a number of bytes,
   0 or less for none. */
struct ifo_client_read ifo_rs_client_read(struct st_ma_pvio *pvio, size_t length);
void ifo_rs_client_was_read(struct st_ma_pvio *pvio, unsigned int position, const unsigned char *buffer, ptrdiff_t got);
/* The plugin was loaded by the code at this place. */
void ifo_rs_client_init(const void *caller);
void ifo_rs_client_close(struct st_mysql *mysql);
char ifo_rs_client_reconnect(struct st_mysql *mysql);
int ifo_rs_client_options(const char *option, const void *value);

#endif
