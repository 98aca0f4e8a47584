/*
  A host for the plugin: it plays mariadbd, small enough to be built with
  sanitizers, and drives the plugin from many threads at once.

    server.c   what the plugin finds in a server: sessions, errors, channels,
               builtin plugins, and the ways a server calls a plugin
    main.c     the threads, and what is expected of each login
    sessions.c sessions that go on after their login, with a thread of their
               own; their clients, and what is expected of each session's end
    pool.c     sessions in a pool of threads, and the events of each session
    other.c    libraries with other authentication plugins, which come and go

  The structs are those of MariaDB's own headers.
*/
#ifndef HOST_H
#define HOST_H

#include <mysql/plugin_audit.h>
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
  int held;            /* it waited in HOLD */
  char text[512];
};

struct connection;

/* A session. The channel stands first: a plugin gets a pointer to it. */
struct THD {
  MYSQL_PLUGIN_VIO vio;
  MYSQL_SERVER_AUTH_INFO info;
  const struct account *account;
  enum way_in way_in;
  const char *ip;
  int socket;             /* the server's end of the connection; -1 where there is none */
  int client;             /* the client's end, in a login without a client of its own; else -1 */
  struct connection *connection;  /* of a session that goes on after its login; else NULL */
  char *user;             /* NULL until the client has sent it */
  char *packets[8];       /* what was read, each on the heap in its exact size */
  int packets_read;
  int method;             /* which of the account's is being tried */
  int restart;            /* the default plugin does not fit the account */
  int hangs_up;           /* the client goes away instead of introducing itself */
  int has_left;           /* the client has closed its end before the login */
  unsigned int shutdowns; /* how many there had been when the login began */
  int is_change_user;
  /*
    Other threads read these: KILL writes the first, the keeper of the plugin reads
    the others. In the server they are plain fields that change whenever the
    session likes, as SHOW PROCESSLIST finds them. So no order is promised here.
  */
  atomic_int killed;
  atomic_int command;
  atomic_ulong options;
  atomic_long xid_format;
  int waits;              /* between thd_wait_begin() and thd_wait_end() */
  unsigned long audit_classes;  /* the classes of events for which it has looked for plugins */
  int audit_version;            /* and how many plugins had come and gone by then */
  int uses_audit;               /* it has found ours */
  unsigned long thread_id;
  long long query_id;
  unsigned long long commands;  /* how many it has begun: another number for each, as the time is */
  uint64_t libraries_known;
  void *allocated[8];     /* memory of the statement */
  int allocations;
  unsigned int seed;
  struct outcome outcome;
};

/* ---- server.c ---- */

enum { ER_CON_COUNT= 1040, ER_SERVER_SHUTDOWN= 1053, ER_NET_READ_ERROR= 1158, ER_CONNECTION_KILLED= 1927 };

/* With sessions in a pool of threads, or not. */
void start_server(int pool);
int has_pool(void);
/* Both ends of a new connection. */
void connect_client(enum way_in way_in, int *server, int *client);
/* A session that this thread serves. It has no connection. */
void new_session(struct THD *thd);
/* Another thread may end it by kill_one(). */
void list_session(struct THD *thd);
/* Closes its connection, too. */
void end_session(struct THD *thd);
/* This thread goes on with that session, or with none. */
void attach(struct THD *thd);
/* KILL of one of the sessions that are open. */
void kill_one(struct THD *killer);
void stop(const char *what, const char *detail);

/* The server shuts down, or does not after all. */
void set_shutdown(int begins);
/* How often either was done. */
unsigned int shutdowns(void);

/* What the server does before and after it waits for a client. */
void before_wait(void);
void after_wait(void);
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

/* The value of the mode, as SHOW VARIABLES reads it. */
int mode_is(const char *mode);

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

/* ---- sessions.c ---- */

/* A client that connects again and again, and the thread that serves it if there is no pool. */
void *peer(void *seed);
void *server_thread(void *unused);
void test_judge_of_endings(void);
/* Reads a command and executes it: 0 if the session is to go on. */
int do_command(struct THD *thd);
/* The login of a new connection; NULL if it failed, and all is closed. */
struct THD *begin_session(struct connection *connection, unsigned int seed);
void finish_session(struct THD *thd);

/* ---- pool.c ---- */

void start_pool(void);
void *pool_worker(void *seed);
void add_to_pool(int socket, struct connection *connection);
/* Events, if anybody wants them. */
void notify_command(struct THD *thd, int error);
void notify_connect(struct THD *thd);
void notify_disconnect(struct THD *thd);
/* Gives back the plugins that get events, if others have come or gone. */
void release_audit_if_required(struct THD *thd);
void free_audit(struct THD *thd);
/* INSTALL and UNINSTALL of the plugin that gets events. 0 if it is not done. */
int install_audit(void);
int uninstall_audit(void);
/* Installed, and not being removed. */
int has_audit(void);
/* How often it has been installed or removed; even while it is installed. */
unsigned int audit_changes(void);
/* Another plugin has come or gone. */
void count_plugin_change(void);

/* ---- main.c ---- */

void failed(const char *what, const char *detail);
int is_time_up(void);
void pause_up_to(struct THD *thd, unsigned int microseconds);
void log_in_and_judge(struct THD *thd, const struct account *account, int is_change_user);

/* The settings that were in force for sure, and those that may be by now. */
unsigned int settings_settled(void);
unsigned int settings_possible(void);
/* Whether any settings between these drain sessions of that account, which came from there. */
int some_drain(unsigned int first, unsigned int last, const struct account *account, enum way_in way_in,
               const char *ip);
/* Whether all of them do. */
int all_drain(unsigned int first, unsigned int last, const struct account *account, enum way_in way_in,
              const char *ip);

/* What must have happened at least once: everywhere, with threads of their own, and in a pool. */
#define COUNTS(X) X(logins) X(change_users) X(let_in) X(refused) X(redirected) X(redirected_change_users) X(hung_up) \
  X(judged_in_one_state) X(judged_while_redirecting) X(judged_while_holding) X(changes) X(values_refused) X(installs) \
  X(installs_while_draining) X(libraries) X(shows) X(held) X(held_and_let_in) X(held_and_redirected) \
  X(held_and_killed) X(held_and_hung_up) X(held_at_shutdown) X(too_many_held) X(hold_timeouts) X(sessions) \
  X(statements) X(failed_statements) X(transactions) X(transactions_while_draining) X(drained) X(not_executed) \
  X(sessions_killed)
#define THREAD_COUNTS(X) X(waits_interrupted)
#define POOL_COUNTS(X) X(audit_installs) X(audit_removals) X(audit_removals_put_off) X(events) X(releases) \
  X(drains_refused) X(readings_ended)
#define FIELD(name) atomic_ulong name;
extern struct counts { COUNTS(FIELD) THREAD_COUNTS(FIELD) POOL_COUNTS(FIELD) } done;
void count(atomic_ulong *counter);

#endif
