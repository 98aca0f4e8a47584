/*
  A host for the plugin: it plays mariadbd, small enough to be built with
  sanitizers, and drives the plugin from many threads at once.

    server.c   what the plugin finds in a server: sessions, errors, channels,
               builtin plugins, and the ways a server calls a plugin
    main.c     the threads, and what is expected of each login
    other.c    libraries with other authentication plugins, which come and go

  The structs are those of MariaDB's own headers.
*/
#ifndef HOST_H
#define HOST_H

#include <mysql/plugin_auth.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum way_in { TCP, EXTRA_PORT, SOCKET };

enum { METHODS= 2 };

struct account {
  const char *user;
  const char *methods[METHODS];  /* names of plugins, tried one after the other */
  char accepts[METHODS];         /* whether each lets the client in */
  char is_repl;                  /* named in exempt_users, when that is set */
  const char *target;            /* the text after USING */
};

/* What the server makes of a login. */
struct outcome {
  int accepted;
  int original;        /* what the last original plugin returned */
  int original_called;
  int gate_left;       /* the channel was not given back as it was */
  int not_cr_error;    /* a redirect was returned as another refusal than CR_ERROR */
  int plugin_missing;  /* the account's plugin is not installed */
  int plugin_is_new;   /* it came after the client had said who it is */
  unsigned int error;  /* the first, 0 for none */
  char text[512];
};

/* A session. The channel stands first: a plugin gets a pointer to it. */
struct THD {
  MYSQL_PLUGIN_VIO vio;
  MYSQL_SERVER_AUTH_INFO info;
  const struct account *account;
  enum way_in way_in;
  const char *ip;
  char *user;             /* NULL until the client has sent it */
  char *packets[8];       /* what was read, each on the heap in its exact size */
  int packets_read;
  int method;             /* which of the account's is being tried */
  int restart;            /* the default plugin does not fit the account */
  int hangs_up;           /* the client goes away instead of introducing itself */
  int is_change_user;
  unsigned long thread_id;
  long long query_id;
  uint64_t libraries_known;
  void *allocated[8];     /* memory of the statement */
  int allocations;
  unsigned int seed;
  struct outcome outcome;
};

/* ---- server.c ---- */

void start_server(void);
void new_session(struct THD *thd);
void end_session(struct THD *thd);
unsigned int random_below(struct THD *thd, unsigned int limit);

/* A new connection, or COM_CHANGE_USER in an open session. */
void log_in(struct THD *thd, const struct account *account, int is_change_user);
/* What every original plugin returns, those in other.c too. */
int original_outcome(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info);

/* The plugin under test. */
void load_plugin(const char *path);
struct st_maria_plugin *plugin_under_test(void);
void *symbol_of_plugin(const char *name);
void install(struct THD *thd);
void uninstall(struct THD *thd);
struct setting { const char *name, *value; };
/* One SET GLOBAL: 0, or 1 where a value was refused; -1 where the plugin is not installed. */
int set_global(struct THD *thd, const struct setting *settings, int count);
/* SHOW VARIABLES and SHOW STATUS: a description of what is wrong, NULL where nothing is. */
const char *show(struct THD *thd);

/* Other plugins. */
void name_library(int number, const char *path);
void load_library(int number);
void unload_library(int number);
/* The name of a plugin whose function is not its own; NULL where there is none. */
const char *not_restored(void);
struct st_mysql_auth *default_plugin(void);

/* The target of a redirect with this number: "host7.example:10007". */
void write_target(char *buffer, size_t size, unsigned int number);
/* Reads one, up to its end; returns its number, or -1. */
int read_target(const char *text);

/* ---- main.c ---- */

void failed(const char *what, const char *detail);

#endif
