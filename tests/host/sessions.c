/*
  Sessions that go on after their login, and their clients. See host.h.

  A client connects, logs in, and sends one command after the other; some of them
  inside transactions. It knows what was answered. When its connection ends, it
  judges whether that was right.
*/
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* net_retry_count: how often the server tries again to read when a signal comes. */
enum { NET_RETRY_COUNT= 10, WAIT_TIMEOUT= 60000, ER_PARSE_ERROR= 1064 };

/* sql/sql_class.h: what the server notes of a session with BEGIN or XA START, and with LOCK TABLES. */
#define OPTION_BEGIN (1UL << 20)
#define OPTION_TABLE_LOCK (1UL << 21)

enum kind { LOGIN, STATEMENT, FAILS, BEGIN, COMMIT, LOCK_TABLES, UNLOCK_TABLES, XA_START, XA_COMMIT, QUIT };

/* Of both directions, as long as any: a packet. */
struct packet { uint32_t kind, number; };

/* What client and server have in common beside the connection. Freed by the one who leaves last. */
struct connection {
  enum way_in way_in;
  const char *ip;
  const struct account *account;
  int socket;              /* the server's end, until the login */
  atomic_uint executed;    /* the number of the last command that was executed */
  atomic_int was_killed;
  atomic_int has_ended;    /* the server has done with it */
  atomic_int users;
  struct connection *next;
};

static void leave(struct connection *connection)
{
  if (atomic_fetch_sub(&connection->users, 1) == 1)
    free(connection);
}

/* ---- The server ---- */

/* Reads as sql/net_serv.cc and vio/viosocket.c do: 0 for the end. The callbacks must leave errno as it is. */
static int read_some(struct THD *thd, char *buffer, size_t size)
{
  int interrupted= 0;
  for (;;)
  {
    struct pollfd poll_for= {thd->socket, POLLIN | POLLPRI, 0};
    ssize_t length= recv(thd->socket, buffer, size, MSG_DONTWAIT);
    int ready;
    if (length >= 0)
      return (int) length;
    if (errno != EAGAIN)
      return 0;
    before_wait();
    ready= poll(&poll_for, 1, WAIT_TIMEOUT);
    after_wait();
    if (ready > 0)
      continue;
    if (errno != EINTR || ++interrupted > NET_RETRY_COUNT)
    {
      failed("a session ends", ready ? "interrupted too often" : "it waited too long");
      return 0;
    }
    count(&done.waits_interrupted);
  }
}

static int read_whole(struct THD *thd, struct packet *packet)
{
  for (size_t have= 0; have < sizeof *packet;)
  {
    int length= read_some(thd, (char *) packet + have, sizeof *packet - have);
    if (!length)
      return 1;
    have+= (size_t) length;
  }
  return 0;
}

static void execute(struct THD *thd, const struct packet *command, struct packet *answer)
{
  atomic_ulong *options= &thd->options;

  answer->kind= STATEMENT;
  answer->number= command->number;
  switch ((enum kind) command->kind) {
  case FAILS: answer->kind= FAILS; break;
  case BEGIN: atomic_fetch_or_explicit(options, OPTION_BEGIN, memory_order_relaxed); break;
  case COMMIT: atomic_fetch_and_explicit(options, ~OPTION_BEGIN, memory_order_relaxed); break;
  case LOCK_TABLES: atomic_fetch_or_explicit(options, OPTION_TABLE_LOCK, memory_order_relaxed); break;
  case UNLOCK_TABLES: atomic_fetch_and_explicit(options, ~OPTION_TABLE_LOCK, memory_order_relaxed); break;
  case XA_START:
    atomic_fetch_or_explicit(options, OPTION_BEGIN, memory_order_relaxed);
    atomic_store_explicit(&thd->xid_format, 1, memory_order_relaxed);
    break;
  case XA_COMMIT:
    atomic_store_explicit(&thd->xid_format, -1, memory_order_relaxed);
    atomic_fetch_and_explicit(options, ~OPTION_BEGIN, memory_order_relaxed);
    break;
  default: break;
  }
  pause_up_to(thd, 50);
  atomic_store_explicit(&thd->connection->executed, command->number, memory_order_relaxed);
}

int do_command(struct THD *thd)
{
  struct packet command, answer;

  if (read_whole(thd, &command) || command.kind == QUIT)
    return 1;
  thd->commands++;
  atomic_store_explicit(&thd->command, COM_QUERY, memory_order_relaxed);
  execute(thd, &command, &answer);
  /* In this order: the answer, the events, and only then it is idle. */
  send(thd->socket, &answer, sizeof answer, MSG_NOSIGNAL);
  notify_command(thd, answer.kind == FAILS ? ER_PARSE_ERROR : 0);
  atomic_store_explicit(&thd->command, COM_SLEEP, memory_order_relaxed);
  return atomic_load_explicit(&thd->killed, memory_order_relaxed);
}

struct THD *begin_session(struct connection *connection, unsigned int seed)
{
  struct THD *thd= calloc(1, sizeof *thd);
  struct packet packet= {LOGIN, 0};

  thd->seed= seed;
  new_session(thd);
  thd->socket= connection->socket;
  thd->connection= connection;
  thd->way_in= connection->way_in;
  thd->ip= connection->ip;
  list_session(thd);
  if (!read_whole(thd, &packet))
    log_in_and_judge(thd, connection->account, 0);
  if (!thd->outcome.accepted)
  {
    finish_session(thd);
    return NULL;
  }
  notify_connect(thd);
  packet.kind= STATEMENT;
  send(thd->socket, &packet, sizeof packet, MSG_NOSIGNAL);
  atomic_store_explicit(&thd->command, COM_SLEEP, memory_order_relaxed);
  count(&done.sessions);
  return thd;
}

void finish_session(struct THD *thd)
{
  struct connection *connection= thd->connection;

  attach(thd);
  if (atomic_load_explicit(&thd->killed, memory_order_relaxed))
    atomic_store_explicit(&connection->was_killed, 1, memory_order_relaxed);
  end_session(thd);
  free(thd);
  atomic_store_explicit(&connection->has_ended, 1, memory_order_relaxed);
  leave(connection);
}

/* Connections for threads that serve one session after the other, as the server's cache of threads does. */
static struct connection *queue;
static pthread_mutex_t LOCK_queue= PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t COND_queue= PTHREAD_COND_INITIALIZER;

static void hand_over(struct connection *connection)
{
  if (has_pool() && connection->way_in != EXTRA_PORT)
    return add_to_pool(connection->socket, connection);
  pthread_mutex_lock(&LOCK_queue);
  connection->next= queue;
  queue= connection;
  pthread_cond_signal(&COND_queue);
  pthread_mutex_unlock(&LOCK_queue);
}

static struct connection *next_connection(void)
{
  struct connection *connection;

  pthread_mutex_lock(&LOCK_queue);
  while (!queue && is_time_up() < 2)
  {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec++;
    pthread_cond_timedwait(&COND_queue, &LOCK_queue, &limit);
  }
  connection= queue;
  if (connection)
    queue= connection->next;
  pthread_mutex_unlock(&LOCK_queue);
  return connection;
}

void *server_thread(void *seed)
{
  struct THD random= {.seed= (unsigned int) (uintptr_t) seed};
  struct connection *connection;

  while ((connection= next_connection()))
  {
    struct THD *thd= begin_session(connection, random_below(&random, 1000000));
    if (!thd)
      continue;
    do
      release_audit_if_required(thd);
    while (!do_command(thd));
    finish_session(thd);
  }
  return NULL;
}

/* ---- Judging the end of a session ---- */

struct ending {
  unsigned int answered;   /* the number of the last command whose answer has come */
  unsigned int executed;   /* the number of the last command that was executed */
  int in_transaction;      /* as the client knows it */
  int may_be_drained;      /* some settings that were in force meanwhile say so */
  int was_killed;          /* or the server shut down */
  int is_known_limit;      /* in a pool: a statement has just failed, or the plugin with the events is removed */
};

/* What is wrong with a session that the server has ended. */
static const char *judge_ending(const struct ending *ending)
{
  if (ending->was_killed)
    return NULL;
  if (ending->executed > ending->answered)
    return "a statement was executed, and its answer never sent";
  if (ending->in_transaction && !ending->is_known_limit)
    return "a transaction was cut";
  if (!ending->may_be_drained)
    return "a session was ended, though nothing says so";
  return NULL;
}

void test_judge_of_endings(void)
{
  static const struct { struct ending ending; int is_wrong; } cases[]= {
    {{.answered= 5, .executed= 5, .may_be_drained= 1}, 0},
    {{.answered= 5, .executed= 5}, 1},
    {{.answered= 5, .executed= 6, .may_be_drained= 1}, 1},
    {{.answered= 5, .executed= 5, .may_be_drained= 1, .in_transaction= 1}, 1},
    {{.answered= 5, .executed= 6, .in_transaction= 1, .was_killed= 1}, 0},
    {{.answered= 5, .executed= 5, .may_be_drained= 1, .in_transaction= 1, .is_known_limit= 1}, 0},
    {{.answered= 5, .executed= 6, .may_be_drained= 1, .in_transaction= 1, .is_known_limit= 1}, 1},
  };
  for (size_t n= 0; n < sizeof cases / sizeof *cases; n++)
    if ((judge_ending(&cases[n].ending) != NULL) != cases[n].is_wrong)
      failed("the judge is wrong", "about the end of a session");
}

/* ---- The client ---- */

struct client {
  struct THD random;       /* for random numbers alone */
  struct connection *connection;
  int socket;
  unsigned int sent, answered;
  int in_transaction;
  int last_failed;
  unsigned int audit_changes;  /* when the transaction began */
  int is_slow;
  unsigned int first;      /* the settings at its login */
  unsigned int shutdowns;  /* at its login */
};

/* 0 once it is answered; 1 if the connection has ended. */
static int ask(struct client *client, enum kind kind)
{
  struct packet packet= {kind, ++client->sent};

  send(client->socket, &packet, sizeof packet, MSG_NOSIGNAL);
  if (recv(client->socket, &packet, sizeof packet, MSG_WAITALL) != sizeof packet)
    return 1;
  if (packet.number != client->sent)
    failed("a client", "got the answer to another command");
  client->answered= packet.number;
  client->last_failed= packet.kind == FAILS;
  count(packet.kind == FAILS ? &done.failed_statements : &done.statements);
  return 0;
}

static void judge_and_report(struct client *client)
{
  struct connection *connection= client->connection;
  struct ending ending= {.answered= client->answered, .in_transaction= client->in_transaction};
  const char *wrong;

  for (int n= 0; !atomic_load_explicit(&connection->has_ended, memory_order_relaxed); n++)
  {
    struct timespec time= {0, 1000000};
    if (n == 20000)
      failed("a session", "goes on without a connection");
    if (n >= 20000)
      return;
    nanosleep(&time, NULL);
  }
  ending.executed= atomic_load_explicit(&connection->executed, memory_order_relaxed);
  ending.was_killed= atomic_load_explicit(&connection->was_killed, memory_order_relaxed);
  ending.may_be_drained= some_drain(client->first, settings_possible(), connection->account, connection->way_in,
                                    connection->ip);
  /* A transaction that began just before its session was to end is carried on, but not through a shutdown. */
  ending.was_killed|= shutdowns() != client->shutdowns;
  ending.is_known_limit= has_pool() && connection->way_in == TCP &&
                         (client->last_failed || client->audit_changes % 2 ||
                          client->audit_changes != audit_changes());
  wrong= judge_ending(&ending);
  if (wrong)
  {
    char detail[200];
    snprintf(detail, sizeof detail, "way in %d, sent %u, executed %u, answered %u, settings %u to %u",
             (int) connection->way_in, client->sent, ending.executed, ending.answered, client->first,
             settings_possible());
    failed(wrong, detail);
  }
  if (atomic_load_explicit(&connection->was_killed, memory_order_relaxed))
    count(&done.sessions_killed);
  else
    count(&done.drained);
  if (client->sent != client->answered && client->sent != ending.executed)
    count(&done.not_executed);
}

/*
  Most clients come back at once; some think longer than a session must be quiet to be ended politely, and now and then
  one thinks longer than it takes to close an idle session in a pool.
*/
static void think(struct client *client)
{
  struct THD *random= &client->random;
  pause_up_to(random, !random_below(random, 30) ? 600000 : client->is_slow ? 150000 : 200);
}

static int transact(struct client *client)
{
  static const enum kind begins[]= {BEGIN, LOCK_TABLES, XA_START}, ends[]= {COMMIT, UNLOCK_TABLES, XA_COMMIT};
  const struct connection *connection= client->connection;
  unsigned int kind= random_below(&client->random, 3), first= settings_settled();

  client->audit_changes= audit_changes();
  if (ask(client, begins[kind]))
    return 1;
  client->in_transaction= 1;
  for (unsigned int n= random_below(&client->random, 5); n; n--)
  {
    think(client);
    if (ask(client, random_below(&client->random, 5) ? STATEMENT : FAILS))
      return 1;
  }
  think(client);
  if (ask(client, ends[kind]))
    return 1;
  client->in_transaction= 0;
  count(&done.transactions);
  if (all_drain(first, settings_possible(), connection->account, connection->way_in, connection->ip))
    count(&done.transactions_while_draining);
  return 0;
}

/* From login to end. */
static void live(struct client *client)
{
  struct packet packet= {LOGIN, 0};

  send(client->socket, &packet, sizeof packet, MSG_NOSIGNAL);
  if (recv(client->socket, &packet, sizeof packet, MSG_WAITALL) != sizeof packet)
    return;
  client->shutdowns= shutdowns();
  for (unsigned int n= random_below(&client->random, 200); n && !is_time_up(); n--)
  {
    think(client);
    if (random_below(&client->random, 3) ? ask(client, random_below(&client->random, 10) ? STATEMENT : FAILS)
                                         : transact(client))
    {
      judge_and_report(client);
      return;
    }
  }
  if (random_below(&client->random, 2))
  {
    packet.kind= QUIT;
    send(client->socket, &packet, sizeof packet, MSG_NOSIGNAL);
  }
}

void *peer(void *seed)
{
  static const struct account accounts[]= {
    {"app", {"native"}, {1}, 0, NULL}, {"local", {"local"}, {1}, 0, NULL}, {"repl", {"native"}, {1}, 1, NULL},
  };
  static const char *const addresses[]= {"192.0.2.1", "198.51.100.7"};
  struct client client= {.random= {.seed= (unsigned int) (uintptr_t) seed}};

  while (!is_time_up())
  {
    struct connection *connection= calloc(1, sizeof *connection);
    unsigned int way_in= random_below(&client.random, 5);

    connection->users= 2;
    connection->account= &accounts[random_below(&client.random, 8) % 3];
    connection->way_in= way_in > SOCKET ? TCP : (enum way_in) way_in;
    connection->ip= connection->way_in == SOCKET ? NULL : addresses[random_below(&client.random, 2)];
    client.connection= connection;
    client.sent= client.answered= 0;
    client.in_transaction= 0;
    client.is_slow= !random_below(&client.random, 3);
    client.first= settings_settled();
    connect_client(connection->way_in, &connection->socket, &client.socket);
    hand_over(connection);
    live(&client);
    close(client.socket);
    leave(connection);
  }
  return NULL;
}
