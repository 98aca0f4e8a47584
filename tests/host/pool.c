/*
  Sessions in a pool of threads, and the events of every session. See host.h.

  As in the server, an idle session has no thread: it waits in epoll, once and for
  the next edge. A thread takes it, reads one command, executes it, and puts the
  session back.
*/
#include "host.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Events ---- */

/*
  What all plugins want. Ours sets and clears bits in other threads; the server reads
  it before each event, whole. Its plain read has the order of ours on x86: a session
  that finds no bit has ended after our plugin had its last look at it.
*/
unsigned long mysql_global_audit_mask[MYSQL_AUDIT_CLASS_MASK_SIZE];

/* Of all that follows, as in the server. */
static pthread_mutex_t LOCK_plugin= PTHREAD_MUTEX_INITIALIZER;
static enum { ABSENT, READY, LEAVING } state;
static int users;  /* sessions that have it */

/* The server changes and compares it without a lock; our plugin adds to it, too. */
unsigned int global_plugin_version= 1;

static int plugin_version(void)
{
  return (int) __atomic_load_n(&global_plugin_version, __ATOMIC_RELAXED);
}
static atomic_uint audit_version= 1;

unsigned int audit_changes(void)
{
  return atomic_load_explicit(&audit_version, memory_order_relaxed);
}

static struct st_maria_plugin *plugin(void)
{
  return plugin_under_test() - 1;
}

static const struct st_mysql_audit *audit(void)
{
  return plugin()->info;
}

static unsigned long wanted_by_all(void)
{
  return __atomic_load_n(mysql_global_audit_mask, __ATOMIC_ACQUIRE);
}

static unsigned long wanted_by_ours(void)
{
  return __atomic_load_n(audit()->class_mask, __ATOMIC_ACQUIRE);
}

void count_plugin_change(void)
{
  __atomic_fetch_add(&global_plugin_version, 1, __ATOMIC_RELAXED);
}

/* Called with the lock, once nobody uses it any more. */
static void remove_audit(void)
{
  state= ABSENT;
  if (plugin()->deinit(NULL))
    failed("deinit of the other plugin", "returned an error");
  /* There is no other. */
  __atomic_store_n(mysql_global_audit_mask, 0, __ATOMIC_RELAXED);
  count(&done.audit_removals);
}

int install_audit(void)
{
  int is_done;

  pthread_mutex_lock(&LOCK_plugin);
  if ((is_done= state == ABSENT))
  {
    if (!wanted_by_ours())
      failed("INSTALL", "of a plugin that wants no event");
    if (plugin()->init(NULL))
      failed("INSTALL", "of the other plugin");
    __atomic_fetch_or(mysql_global_audit_mask, wanted_by_ours(), __ATOMIC_RELAXED);
    state= READY;
    atomic_fetch_add_explicit(&audit_version, 1, memory_order_relaxed);
    count(&done.audit_installs);
  }
  pthread_mutex_unlock(&LOCK_plugin);
  count_plugin_change();
  return is_done;
}

/* As in the server, it is put off while a session has the plugin. */
int uninstall_audit(void)
{
  int is_done;

  pthread_mutex_lock(&LOCK_plugin);
  if (state == READY)
  {
    atomic_fetch_add_explicit(&audit_version, 1, memory_order_relaxed);
    state= LEAVING;
  }
  if (state == LEAVING)
  {
    if (users)
      count(&done.audit_removals_put_off);
    else
      remove_audit();
  }
  is_done= state == ABSENT;
  pthread_mutex_unlock(&LOCK_plugin);
  count_plugin_change();
  return is_done;
}

int has_audit(void)
{
  int has;
  pthread_mutex_lock(&LOCK_plugin);
  has= state == READY;
  pthread_mutex_unlock(&LOCK_plugin);
  return has;
}

/* A session looks for plugins once for each class, and not for one that wants a class it has looked for before. */
static void acquire(struct THD *thd, unsigned long class)
{
  if (thd->audit_classes & class)
    return;
  pthread_mutex_lock(&LOCK_plugin);
  if (state == READY && wanted_by_ours() & class && !(wanted_by_ours() & thd->audit_classes) && !thd->uses_audit)
  {
    thd->uses_audit= 1;
    users++;
  }
  pthread_mutex_unlock(&LOCK_plugin);
  thd->audit_classes|= class;
  thd->audit_version= plugin_version();
}

static void notify(struct THD *thd, unsigned int class, const void *event)
{
  unsigned long mask= 1UL << class;

  if (!(wanted_by_all() & mask))
    return;
  acquire(thd, mask);
  if (thd->uses_audit && wanted_by_ours() & mask)
  {
    audit()->event_notify(thd, class, event);
    count(&done.events);
  }
}

static void notify_general(struct THD *thd, unsigned int subclass, int error)
{
  struct mysql_event_general event= {.event_subclass= subclass, .general_error_code= error,
                                     .general_thread_id= thd->thread_id};
  notify(thd, MYSQL_AUDIT_GENERAL_CLASS, &event);
}

void notify_command(struct THD *thd, int error)
{
  if (!error)
    notify_general(thd, MYSQL_AUDIT_GENERAL_RESULT, 0);
  notify_general(thd, MYSQL_AUDIT_GENERAL_STATUS, error);
}

void notify_connect(struct THD *thd)
{
  struct mysql_event_connection event= {.event_subclass= MYSQL_AUDIT_CONNECTION_CONNECT, .thread_id= thd->thread_id};
  notify(thd, MYSQL_AUDIT_CONNECTION_CLASS, &event);
}

void notify_disconnect(struct THD *thd)
{
  struct mysql_event_connection event= {.event_subclass= MYSQL_AUDIT_CONNECTION_DISCONNECT,
                                        .thread_id= thd->thread_id};
  notify(thd, MYSQL_AUDIT_CONNECTION_CLASS, &event);
}

void free_audit(struct THD *thd)
{
  if (thd->uses_audit)
  {
    audit()->release_thd(thd);
    count(&done.releases);
    pthread_mutex_lock(&LOCK_plugin);
    if (!--users && state == LEAVING)
      remove_audit();
    pthread_mutex_unlock(&LOCK_plugin);
    thd->audit_classes= 0;
    thd->audit_version= -1;
  }
  thd->uses_audit= 0;
}

/* Not after every command: only if plugins have come or gone since it looked for them. */
void release_audit_if_required(struct THD *thd)
{
  if (thd->audit_version != plugin_version())
    free_audit(thd);
}

/* ---- A system that takes its time ---- */

/*
  Instead of the system's functions. The plugin has what a client sends dropped, before
  it closes the reading half of the connection. Here that is forgotten every other time,
  as if the server had read it before, and something has often come meanwhile.
*/
int setsockopt(int socket, int level, int option, const void *value, socklen_t length)
{
  static atomic_uint times;

  if (level == SOL_SOCKET && option == SO_ATTACH_FILTER && atomic_fetch_add(&times, 1) % 2)
    return 0;
  return (int) syscall(SYS_setsockopt, socket, level, option, value, length);
}

int shutdown(int socket, int how)
{
  struct pollfd poll_for= {socket, POLLIN, 0};

  if (how == SHUT_RD)
  {
    count(&done.readings_ended);
    if (poll(&poll_for, 1, 20) > 0)
      count(&done.slipped_in);
  }
  return (int) syscall(SYS_shutdown, socket, how);
}

/* ---- The pool ---- */

/* A connection that waits in epoll: before its login, or with the session behind it. */
struct waiting {
  int socket;
  struct connection *connection;  /* before the login */
  struct THD *thd;
  atomic_int turns;  /* tells a sanitizer that one thread takes it after another: it does not see EPOLL_CTL_MOD */
};

static int epoll;

void start_pool(void)
{
  epoll= epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0)
    stop("no epoll", "");
}

static int wait_for(struct waiting *waiting, int how)
{
  struct epoll_event event= {EPOLLIN | EPOLLET | EPOLLRDHUP | EPOLLERR | EPOLLONESHOT, {.ptr= waiting}};
  int socket= waiting->socket;

  atomic_fetch_add_explicit(&waiting->turns, 1, memory_order_release);
  /* Not epoll_ctl(): a sanitizer would take what the next thread does with the socket for a race with its end. */
  return (int) syscall(SYS_epoll_ctl, epoll, how, socket, &event);
}

void add_to_pool(int socket, struct connection *connection)
{
  struct waiting *waiting= calloc(1, sizeof *waiting);

  waiting->socket= socket;
  waiting->connection= connection;
  if (wait_for(waiting, EPOLL_CTL_ADD))
    stop("no epoll", "for a connection");
}

static void end(struct waiting *waiting)
{
  struct THD *thd= waiting->thd;
  free(waiting);
  if (thd)
    finish_session(thd);
}

/* There is something to read, or the end of what there is. */
static void process(struct waiting *waiting, unsigned int seed)
{
  atomic_load_explicit(&waiting->turns, memory_order_acquire);
  if (!waiting->thd)
    waiting->thd= begin_session(waiting->connection, seed);
  else
  {
    attach(waiting->thd);
    if (atomic_load_explicit(&waiting->thd->killed, memory_order_relaxed))
      return end(waiting);
    release_audit_if_required(waiting->thd);
    if (do_command(waiting->thd))
      return end(waiting);
  }
  if (!waiting->thd)
    return free(waiting);
  attach(NULL);
  if (wait_for(waiting, EPOLL_CTL_MOD))
    stop("no epoll", "for a session");
}

void *pool_worker(void *seed)
{
  struct THD random= {.seed= (unsigned int) (uintptr_t) seed};
  struct epoll_event event;

  for (;;)
  {
    int found= epoll_wait(epoll, &event, 1, 10);
    if (found > 0)
      process(event.data.ptr, random_below(&random, 1000000));
    else if (is_time_up() > 1)
      return NULL;
  }
}
