/* What the plugin finds in a server. See host.h. */
#include "host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ER_ACCESS_DENIED_ERROR= 1045, ER_PLUGIN_IS_NOT_LOADED= 1524 };

void stop(const char *what, const char *detail)
{
  fprintf(stderr, "host: %s: %s\n", what, detail);
  exit(2);
}

/* ---- What the server exports ---- */

unsigned int mysqld_port, mysqld_extra_port;
char glob_hostname[]= "host.example";
static int listeners[2];  /* of the two ports */
static __thread struct THD *current;

MYSQL_THD _current_thd(void);
const char *thd_user_name(MYSQL_THD thd);
const char *thd_client_host(MYSQL_THD thd);
const char *thd_client_ip(MYSQL_THD thd);
int thd_current_command(MYSQL_THD thd);
long long thd_query_id(const MYSQL_THD thd);
unsigned long long thd_start_utime(const MYSQL_THD thd);

MYSQL_THD _current_thd(void) { return current; }
const char *thd_user_name(MYSQL_THD thd) { return thd->user; }
const char *thd_client_host(MYSQL_THD thd) { return thd->ip; }
const char *thd_client_ip(MYSQL_THD thd) { return thd->ip; }
int thd_current_command(MYSQL_THD thd) { return atomic_load_explicit(&thd->command, memory_order_relaxed); }
long long thd_query_id(const MYSQL_THD thd) { return thd->query_id; }
unsigned long long thd_start_utime(const MYSQL_THD thd) { return thd->commands; }
unsigned long thd_get_thread_id(const MYSQL_THD thd) { return thd->thread_id; }

/* ---- What it exports for HOLD and a drain ---- */

/* So few that logins are held, and others are too many. */
unsigned long max_connections= 6;
unsigned long thread_handling;
/* Set by other threads at any time, without a lock: in the server, too, it is one byte. */
volatile char abort_loop;
static atomic_uint shutdown_changes;

void set_shutdown(int begins)
{
  atomic_fetch_add_explicit(&shutdown_changes, 1, memory_order_relaxed);
  __atomic_store_n(&abort_loop, (char) begins, __ATOMIC_RELAXED);
}

unsigned int shutdowns(void)
{
  return atomic_load_explicit(&shutdown_changes, memory_order_relaxed);
}

int has_pool(void)
{
  return thread_handling == 2;
}

enum thd_kill_levels thd_kill_level(const MYSQL_THD thd)
{
  return atomic_load_explicit(&thd->killed, memory_order_relaxed) ? THD_ABORT_ASAP : THD_IS_NOT_KILLED;
}

const char *set_thd_proc_info(MYSQL_THD thd, const char *state, const char *function, const char *file,
                              unsigned int line)
{
  (void) function, (void) file, (void) line;
  if (thd != current)
    failed("set_thd_proc_info", "of another session");
  if (state && !strcmp(state, "Waiting for instant_failover_mode to change"))
    thd->outcome.held= 1;
  return NULL;
}

long long thd_test_options(const MYSQL_THD thd, long long options)
{
  return (long long) atomic_load_explicit(&thd->options, memory_order_relaxed) & options;
}

void thd_get_xid(const MYSQL_THD thd, MYSQL_XID *xid)
{
  memset(xid, 0, sizeof *xid);
  xid->formatID= atomic_load_explicit(&thd->xid_format, memory_order_relaxed);
}

/* As in the server: NULL is the current session, and a thread without one does not wait for anybody. */
void thd_wait_begin(MYSQL_THD thd, int type)
{
  (void) type;
  thd= thd ? thd : current;
  if (thd && thd->waits++)
    failed("thd_wait_begin", "twice");
}

void thd_wait_end(MYSQL_THD thd)
{
  thd= thd ? thd : current;
  if (thd && --thd->waits)
    failed("thd_wait_end", "without thd_wait_begin");
}

static void wait_begins(void)
{
  thd_wait_begin(NULL, THD_WAIT_NET);
}

static void wait_ends(void)
{
  thd_wait_end(NULL);
}

/*
  Two pointers that every session reads, and that may be replaced while it waits: it
  calls one of before and one of after. In the server they are plain pointers.
*/
typedef void (*callback)(void);
static callback before_io_wait= wait_begins, after_io_wait= wait_ends;

void vio_set_wait_callback(void (*before)(void), void (*after)(void));
void vio_set_wait_callback(void (*before)(void), void (*after)(void))
{
  __atomic_store_n(&before_io_wait, before, __ATOMIC_RELAXED);
  __atomic_store_n(&after_io_wait, after, __ATOMIC_RELAXED);
}

void before_wait(void)
{
  __atomic_load_n(&before_io_wait, __ATOMIC_RELAXED)();
}

void after_wait(void)
{
  __atomic_load_n(&after_io_wait, __ATOMIC_RELAXED)();
}

/* ---- Statements and errors ---- */

/* Lives until the statement ends. */
char *thd_strmake(MYSQL_THD thd, const char *text, size_t size)
{
  char *copy= malloc(size + 1);
  memcpy(copy, text, size);
  copy[size]= 0;
  thd->allocated[thd->allocations++]= copy;
  return copy;
}

/* The first error of a session wins. */
void my_message(unsigned int error, const char *text, unsigned long flags)
{
  (void) flags;
  if (current->outcome.error)
    return;
  current->outcome.error= error;
  snprintf(current->outcome.text, sizeof current->outcome.text, "%s", text);
}

/* Warnings and the log: formatted, and forgotten. */
void my_printf_error(unsigned int error, const char *format, unsigned long flags, ...)
{
  char text[512];
  va_list arguments;

  (void) error, (void) flags;
  va_start(arguments, flags);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (strstr(text, "internal error in"))
    failed("the log says", text);
}

/* ---- Builtin plugins ---- */

static int greets_first(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  unsigned char *packet;
  if (vio->write_packet(vio, (const unsigned char *) "a scramble of twenty", 20) || vio->read_packet(vio, &packet) < 0)
    return CR_ERROR;
  return original_outcome(vio, info);
}

static int reads_first(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  unsigned char *packet;
  return vio->read_packet(vio, &packet) < 0 ? CR_ERROR : original_outcome(vio, info);
}

static struct st_mysql_auth native= {
  MYSQL_AUTHENTICATION_INTERFACE_VERSION, "mysql_native_password", greets_first, NULL, NULL
};
static const struct st_mysql_auth local= {
  MYSQL_AUTHENTICATION_INTERFACE_VERSION, NULL, reads_first, NULL, NULL
};
static int no_authentication;

#define END {0, NULL, NULL, NULL, NULL, 0, NULL, NULL, 0, NULL, NULL, NULL, 0}
#define BUILTIN(type, info, name) \
  {type, (void *) &info, name, "", "", PLUGIN_LICENSE_BSD, NULL, NULL, 1, NULL, NULL, "1", \
   MariaDB_PLUGIN_MATURITY_STABLE}

static struct st_maria_plugin native_plugin[]= {BUILTIN(MYSQL_AUTHENTICATION_PLUGIN, native, "native"), END};
static struct st_maria_plugin engine_plugin[]= {BUILTIN(MYSQL_STORAGE_ENGINE_PLUGIN, no_authentication, "engine"), END};
static struct st_maria_plugin local_plugin[]= {BUILTIN(MYSQL_AUTHENTICATION_PLUGIN, local, "local"), END};

struct st_maria_plugin *mysql_mandatory_plugins[]= {native_plugin, NULL};
struct st_maria_plugin *mysql_optional_plugins[]= {engine_plugin, local_plugin, NULL};

struct st_mysql_auth *default_plugin(void)
{
  return &native;
}

/* ---- Libraries with other plugins ---- */

enum { LIBRARIES= 2 };

static struct library {
  const char *name, *path;
  void *handle;
  const struct st_mysql_auth *descriptor;  /* NULL while it is not installed */
  int users;                               /* logins inside it */
  uint64_t number;                         /* how many had been loaded, it included */
} libraries[LIBRARIES]= {{.name= "other"}, {.name= "fixed"}};

/* Of the list above, as in the server. */
static pthread_mutex_t LOCK_plugin= PTHREAD_MUTEX_INITIALIZER;
static uint64_t libraries_loaded;

void name_library(int number, const char *path)
{
  libraries[number].path= path;
}

void load_library(int number)
{
  struct library *library= &libraries[number];
  void *handle= dlopen(library->path, RTLD_NOW);
  const struct st_maria_plugin *plugin= handle ? dlsym(handle, "_maria_plugin_declarations_") : NULL;

  if (!plugin)
    stop(library->path, dlerror());
  pthread_mutex_lock(&LOCK_plugin);
  library->handle= handle;
  library->descriptor= plugin->info;
  library->number= ++libraries_loaded;
  pthread_mutex_unlock(&LOCK_plugin);
  count_plugin_change();
}

/* As in the server, it is unmapped when the last login has left it. */
static struct library *find_library(const char *name)
{
  for (int n= 0; n < LIBRARIES; n++)
    if (!strcmp(libraries[n].name, name))
      return &libraries[n];
  return NULL;
}

/* As the server's plugin_status(const char *, size_t, int): 0 for yes, 1 for no. */
int plugin_status(const char *name, size_t length, int type) __asm__("_Z13plugin_statusPKcmi");
int plugin_status(const char *name, size_t length, int type)
{
  const struct library *library= find_library(name);
  int is_there;

  if (length != strlen(name))
    failed("plugin_status", name);
  if (type == MYSQL_AUDIT_PLUGIN)
    return !has_audit();
  pthread_mutex_lock(&LOCK_plugin);
  is_there= !library || library->descriptor;
  pthread_mutex_unlock(&LOCK_plugin);
  return !is_there;
}

void unload_library(int number)
{
  struct library *library= &libraries[number];

  count_plugin_change();
  pthread_mutex_lock(&LOCK_plugin);
  library->descriptor= NULL;
  while (library->users)
  {
    pthread_mutex_unlock(&LOCK_plugin);
    sched_yield();
    pthread_mutex_lock(&LOCK_plugin);
  }
  pthread_mutex_unlock(&LOCK_plugin);
  dlclose(library->handle);
}

/* The server reads the whole pointer again for every login. It orders nothing by that, so neither do we. */
static int call(const struct st_mysql_auth *plugin, struct THD *thd)
{
  return __atomic_load_n(&plugin->authenticate_user, __ATOMIC_RELAXED)(&thd->vio, &thd->info);
}

const char *not_restored(void)
{
  const char *name= NULL;

  if (__atomic_load_n(&native.authenticate_user, __ATOMIC_RELAXED) != greets_first)
    return "native";
  if (__atomic_load_n(&local.authenticate_user, __ATOMIC_RELAXED) != reads_first)
    return "local";
  pthread_mutex_lock(&LOCK_plugin);
  for (int n= 0; n < LIBRARIES; n++)
  {
    const struct st_mysql_auth *descriptor= libraries[n].descriptor;
    if (descriptor && (void *) __atomic_load_n(&descriptor->authenticate_user, __ATOMIC_RELAXED) !=
                      dlsym(libraries[n].handle, "authenticate"))
      name= libraries[n].name;
  }
  pthread_mutex_unlock(&LOCK_plugin);
  return name;
}

/* ---- A channel ---- */

unsigned int random_below(struct THD *thd, unsigned int limit)
{
  return (unsigned int) rand_r(&thd->seed) % limit;
}

/* Lets other threads in, as a client does that is somewhere else. */
static void wait_for_client(struct THD *thd)
{
  struct timespec time= {0, 1000L * random_below(thd, 200)};
  if (random_below(thd, 2))
    nanosleep(&time, NULL);
}

static void introduce(struct THD *thd)
{
  const struct account *account= thd->account;

  thd->user= strdup(account->user);
  thd->info.user_name= thd->user;
  thd->info.user_name_length= (unsigned int) strlen(thd->user);
  thd->info.auth_string= account->target ? account->target : "";
  thd->info.auth_string_length= (unsigned long) strlen(thd->info.auth_string);
  strcpy(thd->info.authenticated_as, account->user);
}

static int read_packet(MYSQL_PLUGIN_VIO *vio, unsigned char **packet)
{
  struct THD *thd= (struct THD *) vio;
  size_t length= 1 + random_below(thd, 40);

  wait_for_client(thd);
  if (!thd->user)
  {
    if (thd->hangs_up)
    {
      my_message(ER_NET_READ_ERROR, "Got an error reading communication packets", 0);
      return -1;
    }
    introduce(thd);
    pthread_mutex_lock(&LOCK_plugin);
    thd->libraries_known= libraries_loaded;
    pthread_mutex_unlock(&LOCK_plugin);
    if (strcmp(thd->account->methods[0], "native"))
    {
      thd->restart= 1;
      return -1;
    }
  }
  if (thd->packets_read == sizeof thd->packets / sizeof *thd->packets)
    stop("a plugin reads too much", thd->user);
  *packet= memset(malloc(length), 'p', length);
  thd->packets[thd->packets_read++]= (char *) *packet;
  return (int) length;
}

static int write_packet(MYSQL_PLUGIN_VIO *vio, const unsigned char *packet, int length)
{
  char sent[64];
  (void) vio;
  memcpy(sent, packet, (size_t) length);
  return 0;
}

/* Newer servers write more than the struct of these headers holds: 11.8 writes 12 bytes. */
static void info(MYSQL_PLUGIN_VIO *vio, MYSQL_PLUGIN_VIO_INFO *info)
{
  const struct THD *thd= (struct THD *) vio;
  memset(info, 0, 12);
  info->protocol= thd->way_in == SOCKET ? MYSQL_VIO_SOCKET : MYSQL_VIO_TCP;
  info->socket= thd->socket;
}

/* ---- A session ---- */

static atomic_ulong threads= 1;
static atomic_llong queries;

/* The sessions that may be killed, as in the server's list of threads. The lock is held while one is. */
enum { MOST_SESSIONS= 64 };
static struct THD *sessions[MOST_SESSIONS];
static pthread_mutex_t LOCK_sessions= PTHREAD_MUTEX_INITIALIZER;

void attach(struct THD *thd)
{
  current= thd;
}

void new_session(struct THD *thd)
{
  thd->vio.read_packet= read_packet;
  thd->vio.write_packet= write_packet;
  thd->vio.info= info;
  thd->thread_id= atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
  thd->info.thd= thd;
  thd->socket= thd->client= -1;
  thd->xid_format= -1;
  thd->audit_version= -1;
  thd->command= COM_CONNECT;
  attach(thd);
}

void list_session(struct THD *thd)
{
  int n= 0;

  pthread_mutex_lock(&LOCK_sessions);
  while (n < MOST_SESSIONS && sessions[n])
    n++;
  if (n == MOST_SESSIONS)
    stop("too many sessions", "");
  sessions[n]= thd;
  pthread_mutex_unlock(&LOCK_sessions);
}

static void unlist_session(struct THD *thd)
{
  pthread_mutex_lock(&LOCK_sessions);
  for (int n= 0; n < MOST_SESSIONS; n++)
    if (sessions[n] == thd)
      sessions[n]= NULL;
  pthread_mutex_unlock(&LOCK_sessions);
}

/* The server wakes a session that waits for its client by closing both directions of its connection. */
void kill_one(struct THD *killer)
{
  struct THD *thd;

  pthread_mutex_lock(&LOCK_sessions);
  thd= sessions[random_below(killer, MOST_SESSIONS)];
  if (thd)
  {
    atomic_store_explicit(&thd->killed, 1, memory_order_relaxed);
    if (thd->connection)
      shutdown(thd->socket, SHUT_RDWR);
  }
  pthread_mutex_unlock(&LOCK_sessions);
}

static void free_packets(struct THD *thd)
{
  while (thd->packets_read)
    free(thd->packets[--thd->packets_read]);
}

static void new_statement(struct THD *thd)
{
  memset(&thd->outcome, 0, sizeof thd->outcome);
  thd->query_id= atomic_fetch_add_explicit(&queries, 1, memory_order_relaxed);
}

/* As the server does it: the connection is closed, the plugins are told, and only then the session is freed. */
void end_session(struct THD *thd)
{
  unsigned int seed= thd->seed;

  unlist_session(thd);
  if (thd->socket >= 0)
  {
    close(thd->socket);
    notify_disconnect(thd);
  }
  free_audit(thd);
  if (thd->client >= 0)
    close(thd->client);
  free_packets(thd);
  free(thd->user);
  if (thd->waits)
    failed("a session ends", "inside a wait");
  memset(thd, 0, sizeof *thd);
  thd->seed= seed;
  attach(NULL);
}

/* ---- The plugin under test ---- */

static void *plugin_handle;
static struct st_maria_plugin *plugin;
/* Held by users of the plugin itself; the server counts users instead. Logins that are only watched do not. */
static pthread_rwlock_t plugin_in_use= PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static int installed;
static pthread_mutex_t LOCK_global_system_variables= PTHREAD_MUTEX_INITIALIZER;

/* A variable as the server sees it: what follows the header depends on its type. */
struct variable {
  MYSQL_PLUGIN_VAR_HEADER;
  union {
    struct { char **value, *default_value; } text;
    struct { unsigned int *value, default_value; } number;
    struct { char *value, default_value; } boolean;
  };
};

static int type_of(const struct variable *variable)
{
  /* PLUGIN_VAR_TYPEMASK in sql/sql_plugin.h. */
  return variable->flags & 127;
}

static void *place_of(const struct variable *variable)
{
  return type_of(variable) == PLUGIN_VAR_STR ? (void *) variable->text.value :
         type_of(variable) == PLUGIN_VAR_INT ? (void *) variable->number.value : (void *) variable->boolean.value;
}

static void set_default(const struct variable *variable)
{
  switch (type_of(variable)) {
  case PLUGIN_VAR_STR: *variable->text.value= variable->text.default_value; break;
  case PLUGIN_VAR_INT: *variable->number.value= variable->number.default_value; break;
  case PLUGIN_VAR_BOOL: *variable->boolean.value= variable->boolean.default_value; break;
  default: stop("a variable of another type", variable->name);
  }
}

void load_plugin(const char *path)
{
  plugin_handle= dlopen(path, RTLD_NOW);
  plugin= plugin_handle ? dlsym(plugin_handle, "_maria_plugin_declarations_") : NULL;
  if (!plugin)
    stop(path, dlerror());
  /* The first is the one that gets events. */
  plugin++;
}

struct st_maria_plugin *plugin_under_test(void)
{
  return plugin;
}

void *symbol_of_plugin(const char *name)
{
  return dlsym(plugin_handle, name);
}

void install(struct THD *thd)
{
  new_session(thd);
  new_statement(thd);
  pthread_rwlock_wrlock(&plugin_in_use);
  for (struct st_mysql_sys_var **variable= plugin->system_vars; *variable; variable++)
    set_default((struct variable *) *variable);
  if (plugin->init(NULL))
    stop("the plugin does not start", "");
  installed= 1;
  pthread_rwlock_unlock(&plugin_in_use);
  count_plugin_change();
  end_session(thd);
}

void uninstall(struct THD *thd)
{
  new_session(thd);
  new_statement(thd);
  pthread_rwlock_wrlock(&plugin_in_use);
  installed= 0;
  if (plugin->deinit(NULL))
    failed("deinit", "returned an error");
  pthread_rwlock_unlock(&plugin_in_use);
  count_plugin_change();
  end_session(thd);
}

/* A value as SET has it: on the heap, in its exact size, with no NUL behind it. */
struct value {
  struct st_mysql_value interface;
  const char *text;
  int length;
};

static const char *value_of(struct st_mysql_value *value, char *buffer, int *length)
{
  (void) buffer;
  *length= ((struct value *) value)->length;
  return ((struct value *) value)->text;
}

static struct variable *find_variable(const char *name)
{
  for (struct st_mysql_sys_var **variable= plugin->system_vars; *variable; variable++)
    if (!strcmp(((struct variable *) *variable)->name, name))
      return (struct variable *) *variable;
  stop("no such variable", name);
  return NULL;
}

static int check(struct THD *thd, const struct setting *setting, void *save)
{
  struct variable *variable= find_variable(setting->name);
  struct value value= {.interface= {.val_str= value_of}, .length= (int) strlen(setting->value)};
  char *text= malloc((size_t) value.length);
  int result;

  memcpy(text, setting->value, (size_t) value.length);
  value.text= text;
  result= variable->check(thd, (struct st_mysql_sys_var *) variable, save, &value.interface);
  free(text);
  return result;
}

int set_global(struct THD *thd, const struct setting *settings, int count)
{
  double saved[8];
  int result= 0;

  new_session(thd);
  new_statement(thd);
  pthread_rwlock_rdlock(&plugin_in_use);
  if (!installed)
    result= -1;
  for (int n= 0; n < count && !result; n++)
    result= check(thd, &settings[n], &saved[n]);
  if (!result)
  {
    pthread_mutex_lock(&LOCK_global_system_variables);
    for (int n= 0; n < count; n++)
    {
      struct variable *variable= find_variable(settings[n].name);
      variable->update(thd, (struct st_mysql_sys_var *) variable, place_of(variable), &saved[n]);
    }
    pthread_mutex_unlock(&LOCK_global_system_variables);
  }
  pthread_rwlock_unlock(&plugin_in_use);
  while (thd->allocations)
    free(thd->allocated[--thd->allocations]);
  if (!result && thd->outcome.error)
    result= 1;
  if (result == 1 && !thd->outcome.error)
    failed("a value was refused", "without an error");
  end_session(thd);
  return result;
}

/*
  The mode, the timeout and the drain change under the server's eyes when HOLD ends
  by its timeout. The server reads each whole: a pointer, 4 bytes, one byte.
*/
static const char *read_text(const char *name)
{
  return __atomic_load_n(find_variable(name)->text.value, __ATOMIC_RELAXED);
}

static const char *wrong_value(const struct variable *variable)
{
  const char *text;
  unsigned int number;
  char is_on;

  switch (type_of(variable)) {
  case PLUGIN_VAR_STR:
    text= read_text(variable->name);
    return text && strlen(text) <= 1000 ? NULL : "a variable has no value";
  case PLUGIN_VAR_INT:
    number= __atomic_load_n(variable->number.value, __ATOMIC_RELAXED);
    return number >= 1 && number <= 3600 ? NULL : "a number is out of range";
  default:
    is_on= __atomic_load_n(variable->boolean.value, __ATOMIC_RELAXED);
    return is_on == 0 || is_on == 1 ? NULL : "neither on nor off";
  }
}

static const char *show_variables(void)
{
  static const char *const modes[]= {"OFF", "ON", "ALL", "HOLD"};
  const char *wrong= NULL, *target, *mode;
  int is_mode= 0;

  pthread_mutex_lock(&LOCK_global_system_variables);
  for (struct st_mysql_sys_var **variable= plugin->system_vars; *variable && !wrong; variable++)
    wrong= wrong_value((struct variable *) *variable);
  target= read_text("target");
  mode= read_text("mode");
  for (int n= 0; n < 4; n++)
    is_mode|= !strcmp(mode, modes[n]);
  if (!wrong && !is_mode)
    wrong= "not a mode";
  if (!wrong && *target && read_target(target) < 0)
    wrong= "half a target";
  pthread_mutex_unlock(&LOCK_global_system_variables);
  return wrong;
}

int mode_is(const char *mode)
{
  int is;
  pthread_mutex_lock(&LOCK_global_system_variables);
  is= !strcmp(read_text("mode"), mode);
  pthread_mutex_unlock(&LOCK_global_system_variables);
  return is;
}

/* The server copies an entry before it calls a function, and reads numbers whole. */
static const char *show_status(struct THD *thd)
{
  for (const struct st_mysql_show_var *var= plugin->status_vars; var->name; var++)
  {
    char buffer[SHOW_VAR_FUNC_BUFF_SIZE];
    struct st_mysql_show_var copy= *var;
    if (var->type != SHOW_FUNC)
    {
      unsigned long long number= __atomic_load_n((unsigned long long *) var->value, __ATOMIC_RELAXED);
      if (number > 1000000000)
        return var->name;
      continue;
    }
    ((mysql_show_var_func) (intptr_t) var->value)(thd, &copy, buffer, NULL, SHOW_OPT_GLOBAL);
    if (copy.type == SHOW_ULONGLONG)
    {
      if (*(unsigned long long *) copy.value > 1000000)
        return var->name;
    }
    else if (copy.type != SHOW_CHAR || (*(char *) copy.value && strlen(copy.value) != strlen("2026-11-22T03:04:05Z")))
      return var->name;
  }
  return NULL;
}

const char *show(struct THD *thd)
{
  const char *wrong= NULL;

  new_session(thd);
  new_statement(thd);
  pthread_rwlock_rdlock(&plugin_in_use);
  if (installed && !(wrong= show_variables()))
    wrong= show_status(thd);
  pthread_rwlock_unlock(&plugin_in_use);
  end_session(thd);
  return wrong;
}

/* ---- A login ---- */

int original_outcome(MYSQL_PLUGIN_VIO *vio, MYSQL_SERVER_AUTH_INFO *info)
{
  struct THD *thd= (struct THD *) vio;
  int accepts= thd->account->accepts[thd->method];

  if (info != &thd->info)
    failed("a plugin", "was called with other arguments");
  thd->outcome.original_called= 1;
  return thd->outcome.original= !accepts ? CR_ERROR : random_below(thd, 2) ? CR_OK : CR_OK_HANDSHAKE_COMPLETE;
}

/* Calls one of the account's plugins. */
static int call_method(struct THD *thd, const char *name)
{
  struct library *library;
  const struct st_mysql_auth *descriptor;
  int result;

  if (!strcmp(name, "native"))
    return call(&native, thd);
  if (!strcmp(name, "local"))
    return call(&local, thd);
  if (!strcmp(name, "instant_failover"))
  {
    pthread_rwlock_rdlock(&plugin_in_use);
    thd->outcome.plugin_missing= !installed;
    result= installed ? call(plugin->info, thd) : CR_ERROR;
    pthread_rwlock_unlock(&plugin_in_use);
    return result;
  }
  library= find_library(name);
  pthread_mutex_lock(&LOCK_plugin);
  descriptor= library->descriptor;
  library->users+= descriptor != NULL;
  thd->outcome.plugin_missing= descriptor == NULL;
  thd->outcome.plugin_is_new= library->number > thd->libraries_known;
  pthread_mutex_unlock(&LOCK_plugin);
  if (!descriptor)
    return CR_ERROR;
  result= call(descriptor, thd);
  pthread_mutex_lock(&LOCK_plugin);
  library->users--;
  pthread_mutex_unlock(&LOCK_plugin);
  return result;
}

void log_in(struct THD *thd, const struct account *account, int is_change_user)
{
  struct outcome *outcome= &thd->outcome;
  int result= CR_ERROR;

  new_statement(thd);
  free_packets(thd);
  free(thd->user);
  thd->user= NULL;
  thd->account= account;
  thd->is_change_user= is_change_user;
  atomic_store_explicit(&thd->command, is_change_user ? COM_CHANGE_USER : COM_CONNECT, memory_order_relaxed);
  thd->method= 0;
  thd->libraries_known= 0;
  thd->restart= is_change_user;
  if (is_change_user)
    introduce(thd);
  else
    result= call(&native, thd);
  if (outcome->error && result != CR_ERROR)
    outcome->not_cr_error= 1;
  if (thd->restart)
  {
    for (; thd->method < METHODS && account->methods[thd->method]; thd->method++)
    {
      outcome->error= 0;
      outcome->original_called= outcome->plugin_missing= outcome->plugin_is_new= 0;
      result= call_method(thd, account->methods[thd->method]);
      if (outcome->error && result != CR_ERROR)
        outcome->not_cr_error= 1;
      if (result < CR_ERROR)
        break;
    }
  }
  outcome->accepted= result < CR_ERROR;
  outcome->gate_left= thd->vio.read_packet != read_packet;
  if (!outcome->accepted && !outcome->error)
    my_message(outcome->plugin_missing ? ER_PLUGIN_IS_NOT_LOADED : ER_ACCESS_DENIED_ERROR, "Access denied", 0);
}

/* ---- Targets ---- */

void write_target(char *buffer, size_t size, unsigned int number)
{
  snprintf(buffer, size, "host%u.example:%u", number, 10000 + number);
}

int read_target(const char *text)
{
  unsigned int host, port;
  int length= 0;
  if (sscanf(text, "host%u.example:%u%n", &host, &port, &length) != 2 || text[length] || port != 10000 + host)
    return -1;
  return (int) host;
}

/* ---- Descriptors ---- */

/*
  A descriptor begins and ends by the system's own calls, here and in the plugin. The
  thread sanitizer would take any use of one that another thread closes for a race. The
  plugin knows that a descriptor may have been closed, and given to something else: see
  src/server/sessions/socket.rs.
*/

int close(int descriptor)
{
  return (int) syscall(SYS_close, descriptor);
}

/* The plugin makes no file. */
int open64(const char *path, int flags, ...)
{
  return (int) syscall(SYS_openat, AT_FDCWD, path, flags);
}

int closedir(DIR *directory)
{
  int (*system_closedir)(DIR *);
  *(void **) &system_closedir= dlsym(RTLD_NEXT, "closedir");
  return system_closedir(directory);
}

int socket(int domain, int type, int protocol)
{
  return (int) syscall(SYS_socket, domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int pair[2])
{
  return (int) syscall(SYS_socketpair, domain, type, protocol, pair);
}

int connect(int socket, const struct sockaddr *address, socklen_t length)
{
  return (int) syscall(SYS_connect, socket, address, length);
}

int accept(int listener, struct sockaddr *address, socklen_t *length)
{
  return (int) syscall(SYS_accept4, listener, address, length, 0);
}

/* ---- Start ---- */

static unsigned int listen_on(int *listener)
{
  struct sockaddr_in address= {.sin_family= AF_INET, .sin_addr= {htonl(INADDR_LOOPBACK)}};
  socklen_t length= sizeof address;
  *listener= socket(AF_INET, SOCK_STREAM, 0);
  if (bind(*listener, (struct sockaddr *) &address, length) || listen(*listener, 10) ||
      getsockname(*listener, (struct sockaddr *) &address, &length))
    stop("no port", "127.0.0.1");
  return ntohs(address.sin_port);
}

void connect_client(enum way_in way_in, int *server, int *client)
{
  static pthread_mutex_t lock= PTHREAD_MUTEX_INITIALIZER;
  /* Closed without a trace: ports would run out. */
  const struct linger linger= {1, 0};
  struct sockaddr_in address;
  socklen_t length= sizeof address;
  int pair[2];

  if (way_in == SOCKET)
  {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
      stop("no connection", strerror(errno));
    *server= pair[0];
    *client= pair[1];
    return;
  }
  /* One after the other, so that each gets its own. */
  pthread_mutex_lock(&lock);
  getsockname(listeners[way_in], (struct sockaddr *) &address, &length);
  *client= socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(*client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  if (connect(*client, (struct sockaddr *) &address, length) || (*server= accept(listeners[way_in], NULL, NULL)) < 0)
    stop("no connection", strerror(errno));
  pthread_mutex_unlock(&lock);
}

void start_server(int pool)
{
  thread_handling= pool ? 2 : 0;
  mysqld_port= listen_on(&listeners[TCP]);
  mysqld_extra_port= listen_on(&listeners[EXTRA_PORT]);
}
