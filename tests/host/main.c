/*
  The threads, and what is expected of each login. See host.h.

    host PLUGIN OTHER FIXED SECONDS    drives the plugin that long
    host --fault NAME PLUGIN           does something wrong, for a sanitizer to find

  Ends with 0 if nothing was wrong, and everything happened at least once.
*/
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOGIN_THREADS= 4, ER_WRONG_VALUE_FOR_VAR= 1231, ER_INSTANT_FAILOVER= 4196 };

static atomic_int failures;
static atomic_int time_is_up;

void failed(const char *what, const char *detail)
{
  if (atomic_fetch_add(&failures, 1) < 20)
    fprintf(stderr, "host: FAILED: %s: %s\n", what, detail);
}

/*
  Asked for by the thread sanitizer. It does not see the lock of the dynamic
  linker, under which the plugin copies the names of libraries and dlclose()
  frees them. For that it forgets who has read a name, but not the NUL at its
  end: a false report wherever the length of a path is a multiple of 8.
*/
const char *__tsan_default_suppressions(void)
{
  return "called_from_lib:/ld-linux-\n";
}

/* ---- What is in force ---- */

enum mode { OFF, ON, ALL };

struct state {
  enum mode mode;
  int exempt_user;       /* "repl" is exempt */
  int exempt_host;       /* 192.0.2.1 is exempt */
  unsigned int target;   /* its number */
};

/*
  The state that the administrator has brought about, in one word; 0 while it
  changes. No two are alike. A login that finds the same word before and after
  was made in that state alone.

  Relaxed, because it must not put the plugin's own accesses into an order that
  they would not have without it. x86 keeps the order of loads and of stores.
*/
static _Atomic uint64_t in_force;

static uint64_t word(const struct state *state, uint64_t number)
{
  return number << 32 | state->target << 8 | (unsigned int) state->exempt_host << 4 |
         (unsigned int) state->exempt_user << 3 | (unsigned int) state->mode << 1 | 1;
}

static struct state state_of(uint64_t word)
{
  struct state state= {(enum mode) (word >> 1 & 3), word >> 3 & 1, word >> 4 & 1, word >> 8 & 0xffffff};
  return state;
}

static void announce(uint64_t word)
{
  atomic_store_explicit(&in_force, word, memory_order_relaxed);
}

static uint64_t now_in_force(void)
{
  return atomic_load_explicit(&in_force, memory_order_relaxed);
}

/* ---- Judging a login ---- */

static const struct account accounts[]= {
  {"app", {"native"}, {1}, 0, NULL},
  {"wrong", {"native"}, {0}, 0, NULL},
  {"repl", {"native"}, {1}, 1, NULL},
  {"local", {"local"}, {1}, 0, NULL},
  {"localwrong", {"local"}, {0}, 0, NULL},
  {"other", {"other"}, {1}, 0, NULL},
  {"otherwrong", {"other"}, {0}, 0, NULL},
  {"fixed", {"fixed"}, {1}, 0, NULL},
  {"repl", {"fixed"}, {1}, 1, NULL},
  {"two", {"other", "local"}, {0, 1}, 0, NULL},
  {"moved", {"instant_failover"}, {0}, 0, "host99.example:10099"},
};
enum { ACCOUNTS= sizeof accounts / sizeof *accounts };

static int is_moved(const struct account *account)
{
  return account->target != NULL;
}

/* What a client is told: |text with the target|target. The number of the target, or -1. */
static int redirected_to(const char *text)
{
  const char *target= strrchr(text, '|');
  const char *first= target ? strstr(text, target + 1) : NULL;
  return text[0] == '|' && target != text && first && first < target ? read_target(target + 1) : -1;
}

/* Where a login in this state must be sent; -1 for nowhere. */
static int must_go_to(const struct THD *thd, const struct state *state)
{
  int redirects= state->mode == ALL || (state->mode == ON && thd->way_in == TCP);
  int exempt= (state->exempt_user && thd->account->is_repl) ||
              (state->exempt_host && thd->ip && !strcmp(thd->ip, "192.0.2.1"));

  if (thd->hangs_up && !thd->is_change_user)
    return -1;
  if (is_moved(thd->account))
    return thd->outcome.plugin_missing ? -1 : read_target(thd->account->target);
  return redirects && !exempt ? (int) state->target : -1;
}

/* What is wrong with a login, made in the state of that word, or in none that is known (0). */
static const char *judge(const struct THD *thd, uint64_t word)
{
  const struct outcome *outcome= &thd->outcome;
  int redirected= outcome->error == ER_INSTANT_FAILOVER;
  int original_accepts= outcome->original_called && outcome->original < CR_ERROR;
  int number= redirected ? redirected_to(outcome->text) : -1;
  struct state state= state_of(word);
  int expected= must_go_to(thd, &state);

  if (outcome->accepted && !original_accepts)
    return "let in, which the original did not";
  if (outcome->accepted && outcome->error)
    return "let in with an error";
  if (!outcome->accepted && original_accepts && !redirected)
    return "refused, which the original did not";
  if (outcome->not_cr_error)
    return "an error, but not CR_ERROR";
  if (outcome->gate_left)
    return "read_packet is not the server's";
  if (redirected && number < 0)
    return "half a redirect";
  if (is_moved(thd->account) && redirected && number != read_target(thd->account->target))
    return "an account's target is not its own";
  if (!word)
    return NULL;
  if (expected < 0 && redirected)
    return "redirected, though nothing says so";
  if (expected >= 0 && !redirected && (outcome->plugin_is_new || outcome->plugin_missing))
    return NULL;
  if (expected >= 0 && number != expected)
    return "not redirected to where the settings say";
  return NULL;
}

/* A judge who finds nothing wrong is no use. */
static void test_judge(void)
{
  static const char right[]= "|Go to 'host5.example:10005'.|host5.example:10005";
  const struct state on= {ON, 0, 0, 5}, off= {OFF, 0, 0, 5};
  const struct {
    struct outcome outcome;
    const struct state *state;
    int is_wrong;
  } cases[]= {
    {{.accepted= 1, .original_called= 1, .original= CR_OK}, &off, 0},
    {{.accepted= 1, .original_called= 1, .original= CR_OK}, &on, 1},
    {{.accepted= 1, .original_called= 1, .original= CR_ERROR}, NULL, 1},
    {{.accepted= 1}, NULL, 1},
    {{.accepted= 1, .original_called= 1, .original= CR_OK, .error= ER_INSTANT_FAILOVER}, NULL, 1},
    {{.original_called= 1, .original= CR_OK, .error= 1045}, NULL, 1},
    {{.original_called= 1, .original= CR_ERROR, .error= 1045}, &off, 0},
    {{.original_called= 1, .original= CR_ERROR, .error= 1045}, &on, 1},
    {{.error= ER_INSTANT_FAILOVER}, &on, 0},
    {{.error= ER_INSTANT_FAILOVER}, NULL, 0},
    {{.error= ER_INSTANT_FAILOVER}, &off, 1},
    {{.error= ER_INSTANT_FAILOVER, .not_cr_error= 1}, &on, 1},
    {{.error= ER_INSTANT_FAILOVER, .gate_left= 1}, &on, 1},
  };
  static const char *const halves[]= {
    "", "|", "||", "|Go away.|host5.example:10005", "|Go to 'host4.example:10004'.|host5.example:10005",
    "|Go to 'host5.example:10004'.|host5.example:10004", "|Go to 'host5.example:10005'.|host5.example:1000",
    "|Go to '(null)'.|(null)", "Go to 'host5.example:10005'.|host5.example:10005"
  };
  struct THD thd= {.account= &accounts[0]};
  struct st_mysql_auth *plugin= default_plugin();
  const struct st_mysql_auth as_it_was= *plugin;

  plugin->authenticate_user= NULL;
  if (!not_restored())
    failed("the judge is wrong", "a plugin is not restored");
  *plugin= as_it_was;
  for (size_t n= 0; n < sizeof cases / sizeof *cases; n++)
  {
    thd.outcome= cases[n].outcome;
    strcpy(thd.outcome.text, right);
    if ((judge(&thd, cases[n].state ? word(cases[n].state, 1) : 0) != NULL) != cases[n].is_wrong)
      failed("the judge is wrong", right);
  }
  thd.outcome= (struct outcome) {.error= ER_INSTANT_FAILOVER};
  for (size_t n= 0; n < sizeof halves / sizeof *halves; n++)
  {
    strcpy(thd.outcome.text, halves[n]);
    if (!judge(&thd, 0))
      failed("the judge is wrong", halves[n]);
  }
}

/* ---- What was done ---- */

#define COUNTS(X) X(logins) X(change_users) X(let_in) X(refused) X(redirected) X(redirected_change_users) X(hung_up) \
  X(judged_in_one_state) X(judged_while_redirecting) X(changes) X(values_refused) X(installs) X(libraries) X(shows)
#define FIELD(name) atomic_ulong name;
static struct { COUNTS(FIELD) } done;

static void count(atomic_ulong *counter)
{
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void print_what_was_done(void)
{
#define PRINT(name) printf("%s %lu\n", #name, done.name); if (!done.name) failed("it never happened", #name);
  COUNTS(PRINT)
}

/* ---- Threads ---- */

static void pause_up_to(struct THD *thd, unsigned int microseconds)
{
  struct timespec time= {0, 1000L * random_below(thd, microseconds)};
  nanosleep(&time, NULL);
}

static void log_in_and_judge(struct THD *thd, int is_change_user)
{
  const struct account *account= &accounts[random_below(thd, ACCOUNTS)];
  uint64_t before= now_in_force(), after;
  const char *wrong;

  log_in(thd, account, is_change_user);
  after= now_in_force();
  wrong= judge(thd, before == after ? before : 0);
  if (wrong)
  {
    char detail[800];
    snprintf(detail, sizeof detail, "user %s, plugin %s, way in %d, change user %d, state %llx to %llx, error %u %s",
             account->user, account->methods[0], (int) thd->way_in, is_change_user, (unsigned long long) before,
             (unsigned long long) after, thd->outcome.error, thd->outcome.text);
    failed(wrong, detail);
  }
  count(is_change_user ? &done.change_users : &done.logins);
  if (thd->outcome.error == ER_INSTANT_FAILOVER)
    count(is_change_user ? &done.redirected_change_users : &done.redirected);
  else
    count(thd->outcome.accepted ? &done.let_in : thd->hangs_up ? &done.hung_up : &done.refused);
  if (before && before == after)
  {
    count(&done.judged_in_one_state);
    if (state_of(before).mode != OFF)
      count(&done.judged_while_redirecting);
  }
}

static void *clients(void *seed)
{
  static const char *const addresses[]= {"192.0.2.1", "2001:db8::1", "fe80::1%eth0", "198.51.100.7"};
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};

  while (!time_is_up)
  {
    new_session(&thd);
    thd.way_in= (enum way_in) random_below(&thd, 3);
    thd.ip= thd.way_in == SOCKET ? NULL : addresses[random_below(&thd, 4)];
    thd.hangs_up= !random_below(&thd, 10);
    log_in_and_judge(&thd, 0);
    if (thd.outcome.accepted)
      for (int n= 0; n < 3; n++)
        log_in_and_judge(&thd, 1);
    end_session(&thd);
  }
  return NULL;
}

/* Changes the target, the mode and the exemptions, and installs the plugin again. */
static void *administrator(void *seed)
{
  static const char *const modes[]= {"OFF", "ON", "ALL"};
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};
  struct state state= {OFF, 0, 0, 0};
  const char *plugin;

  for (uint64_t number= 1; !time_is_up; number++)
  {
    char target[64];
    announce(0);
    if (!random_below(&thd, 10))
    {
      uninstall(&thd);
      if ((plugin= not_restored()))
        failed("uninstalled, and still hooked", plugin);
      state= (struct state) {OFF, 0, 0, 0};
      announce(word(&state, number++));
      pause_up_to(&thd, 5000);
      announce(0);
      if ((plugin= not_restored()))
        failed("hooked after it was uninstalled", plugin);
      install(&thd);
      count(&done.installs);
    }
    else
    {
      state.mode= (enum mode) random_below(&thd, 3);
      state.exempt_user= (int) random_below(&thd, 2);
      state.exempt_host= (int) random_below(&thd, 2);
      state.target= 1 + random_below(&thd, 50);
      write_target(target, sizeof target, state.target);
      const struct setting settings[]= {
        {"exempt_users", state.exempt_user ? "dba,repl" : ""},
        {"exempt_hosts", state.exempt_host ? "10.0.0.0/8,192.0.2.1" : "10.0.0.0/8"},
        {"target", target},
        {"mode", modes[state.mode]},
      };
      if (set_global(&thd, settings, 4))
        failed("a good setting was refused", target);
      count(&done.changes);
    }
    announce(word(&state, number));
    pause_up_to(&thd, random_below(&thd, 2) ? 200 : 5000);
  }
  return NULL;
}

/* Another session, whose settings change nothing for the administrator. */
static void *meddler(void *seed)
{
  static const struct setting good[]= {
    {"message", "Go to '%s'."}, {"message", "%s is where it is now"}, {"message", "Not here: %s."}
  };
  static const struct setting bad[]= {
    {"mode", "PERHAPS"}, {"target", "no host"}, {"message", "a|b"}, {"exempt_hosts", "300.1.1.1"},
    {"exempt_users", "a,,b"}
  };
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};

  while (!time_is_up)
  {
    const struct setting *setting= &bad[random_below(&thd, sizeof bad / sizeof *bad)];
    if (set_global(&thd, &good[random_below(&thd, sizeof good / sizeof *good)], 1) > 0)
      failed("a good setting was refused", "message");
    switch (set_global(&thd, setting, 1)) {
    case 0:
      failed("a wrong value was taken", setting->value);
      break;
    case 1:
      count(&done.values_refused);
    }
    pause_up_to(&thd, 1000);
  }
  return NULL;
}

/* Installs and uninstalls other plugins. */
static void *librarian(void *seed)
{
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};
  int loaded[2]= {0, 0};

  while (!time_is_up)
  {
    int number= (int) random_below(&thd, 2);
    if (loaded[number])
      unload_library(number);
    else
    {
      load_library(number);
      count(&done.libraries);
    }
    loaded[number]= !loaded[number];
    pause_up_to(&thd, 3000);
  }
  for (int number= 0; number < 2; number++)
    if (!loaded[number])
      load_library(number);
  return NULL;
}

static void *watcher(void *seed)
{
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};

  while (!time_is_up)
  {
    const char *wrong= show(&thd);
    if (wrong)
      failed("SHOW", wrong);
    count(&done.shows);
    pause_up_to(&thd, 500);
  }
  return NULL;
}

static int drive(char **paths, unsigned int seconds)
{
  struct THD thd= {.seed= 1};
  pthread_t threads[LOGIN_THREADS + 4];
  void *(*const others[])(void *)= {administrator, meddler, librarian, watcher};
  const char *plugin;

  load_plugin(paths[0]);
  name_library(0, paths[1]);
  name_library(1, paths[2]);
  install(&thd);
  for (uintptr_t n= 0; n < LOGIN_THREADS + 4; n++)
    if (pthread_create(&threads[n], NULL, n < LOGIN_THREADS ? clients : others[n - LOGIN_THREADS], (void *) (n + 1)))
      failed("no thread", "");
  sleep(seconds);
  time_is_up= 1;
  for (size_t n= 0; n < LOGIN_THREADS + 4; n++)
    pthread_join(threads[n], NULL);
  uninstall(&thd);
  if ((plugin= not_restored()))
    failed("uninstalled, and still hooked", plugin);
  unload_library(0);
  unload_library(1);
  print_what_was_done();
  return failures != 0;
}

/* ---- Faults, for the sanitizers to find ---- */

static volatile int zero;

static char *freed_memory(void)
{
  char *volatile memory= malloc(16);  /* or the compiler finds it */
  memset(memory, 'a', 16);
  free(memory);
  return memory;
}

static char shared[16]= "host1:3306";

static void *write_shared(void *unused)
{
  (void) unused;
  for (int n= 0; n < 1000 && !time_is_up; n++)
    shared[4]= (char) ('1' + n % 9);
  return NULL;
}

static int (*account_check)(const char *, size_t);

static void *plugin_reads_shared(void *unused)
{
  (void) unused;
  for (int n= 0; n < 1000; n++)
    account_check(shared, 10);
  return NULL;
}

static void race(void *(*with)(void *))
{
  pthread_t one, two;
  pthread_create(&one, NULL, write_shared, NULL);
  pthread_create(&two, NULL, with, NULL);
  pthread_join(one, NULL);
  pthread_join(two, NULL);
}

/* In the host itself, in the plugin's Rust code, and in its C code. */
static int fault(const char *name, const char *path)
{
  struct THD thd= {.seed= 1};
  const struct st_mysql_auth *auth;

  load_plugin(path);
  install(&thd);
  auth= plugin_under_test()->info;
  account_check= (int (*)(const char *, size_t)) symbol_of_plugin("ifo_rs_account_check");
  new_session(&thd);
  if (!strcmp(name, "overflow"))
    printf("%d\n", zero + 0x7fffffff + 1);
  else if (!strcmp(name, "freed"))
    printf("%d\n", freed_memory()[zero]);
  else if (!strcmp(name, "freed-rust"))
    account_check(freed_memory(), 16);
  else if (!strcmp(name, "misaligned-c"))
    auth->authenticate_user((MYSQL_PLUGIN_VIO *) ((char *) &thd.vio + 1), &thd.info);
  else if (!strcmp(name, "leak"))
    memset(malloc(100), 'a', 100);
  else if (!strcmp(name, "race"))
    race(write_shared);
  else if (!strcmp(name, "race-rust"))
    race(plugin_reads_shared);
  else
    fprintf(stderr, "host: no such fault: %s\n", name);
  return 0;
}

int main(int argc, char **argv)
{
  /* A hang is a failure too. */
  alarm(120 + (argc == 5 ? (unsigned int) atoi(argv[4]) : 0));
  start_server();
  test_judge();
  if (argc == 4 && !strcmp(argv[1], "--fault"))
    return fault(argv[2], argv[3]);
  if (argc != 5)
  {
    fprintf(stderr, "usage: host PLUGIN OTHER FIXED SECONDS\n");
    return 2;
  }
  return drive(argv + 1, (unsigned int) atoi(argv[4]));
}
