/*
  The threads, and what is expected of each login. See host.h.

    host threads PLUGIN OTHER FIXED SECONDS   drives the plugin that long
    host pool PLUGIN OTHER FIXED SECONDS      with sessions in a pool of threads
    host --fault NAME PLUGIN                  does something wrong, for a sanitizer to find

  Ends with 0 if nothing was wrong, and everything happened at least once.
*/
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOGIN_THREADS= 4, PEERS= 12, SERVER_THREADS= 8, ER_INSTANT_FAILOVER= 4196 };

static atomic_int failures;
static atomic_int time_is_up;  /* 1 for clients, 2 for servers */

int is_time_up(void)
{
  return atomic_load_explicit(&time_is_up, memory_order_relaxed);
}

void failed(const char *what, const char *detail)
{
  if (atomic_fetch_add(&failures, 1) < 20)
    fprintf(stderr, "host: FAILED: %s: %s\n", what, detail);
}

/*
  Asked for by the thread sanitizer.

  It does not see the lock of the dynamic linker, under which the plugin copies the
  names of libraries and dlclose() frees them. For that it forgets who has read a
  name, but not the NUL at its end: a false report wherever the length of a path is
  a multiple of 8.
*/
const char *__tsan_default_suppressions(void)
{
  return "called_from_lib:/ld-linux-\n";
}

/* ---- What is in force ---- */

enum mode { OFF, ON, ALL, HOLD };

struct state {
  enum mode mode;
  int exempt_user;       /* "repl" is exempt */
  int exempt_host;       /* 192.0.2.1 is exempt */
  unsigned int target;   /* its number */
  int drain;
};

/*
  The states that the administrator brings about, one after the other. He notes one
  before he changes anything (possible), and says when it is in force and the one
  before is not any more (settled). What happens between two looks happened in one of
  the states from the first look's settled to the second look's possible, or while
  one of them became the next.

  Relaxed, because it must not put the plugin's own accesses into an order that
  they would not have without it. x86 keeps the order of loads and of stores.
*/
enum { HISTORY= 8192 };
static _Atomic uint32_t history[HISTORY];
static atomic_uint settled, possible;

static uint32_t word(const struct state *state)
{
  return state->target << 8 | (unsigned int) state->drain << 5 | (unsigned int) state->exempt_host << 4 |
         (unsigned int) state->exempt_user << 3 | (unsigned int) state->mode << 1 | 1;
}

static struct state state_of(uint32_t word)
{
  struct state state= {(enum mode) (word >> 1 & 3), word >> 3 & 1, word >> 4 & 1, word >> 8, word >> 5 & 1};
  return state;
}

static uint32_t state_number(unsigned int number)
{
  return atomic_load_explicit(&history[number % HISTORY], memory_order_relaxed);
}

/* Called by the administrator alone. */
static void intend(const struct state *state)
{
  unsigned int number= settings_possible() + 1;
  atomic_store_explicit(&history[number % HISTORY], word(state), memory_order_relaxed);
  atomic_store_explicit(&possible, number, memory_order_relaxed);
}

static void settle(void)
{
  atomic_store_explicit(&settled, settings_possible(), memory_order_relaxed);
}

unsigned int settings_settled(void)
{
  return atomic_load_explicit(&settled, memory_order_relaxed);
}

unsigned int settings_possible(void)
{
  return atomic_load_explicit(&possible, memory_order_relaxed);
}

/* Whether the states from one number to another can still be looked up. */
static int is_remembered(unsigned int first, unsigned int last)
{
  return last - first < HISTORY - 100;
}

/* One SET changes one variable after the other, in this order: so many of them have changed already. */
enum { SETTINGS= 5 };

static struct state between(struct state state, struct state next, int changed)
{
  if (changed > 0)
    state.exempt_user= next.exempt_user;
  if (changed > 1)
    state.exempt_host= next.exempt_host;
  if (changed > 2)
    state.target= next.target;
  if (changed > 3)
  {
    state.mode= next.mode;
    /* OFF ends the drain. */
    state.drain&= next.mode != OFF;
  }
  if (changed > 4)
    state.drain= next.drain;
  return state;
}

/* Calls fits with each state from first to last, until it says yes. */
static int any_state(unsigned int first, unsigned int last, int (*fits)(const struct state *, void *), void *argument)
{
  struct state state= state_of(state_number(first));

  if (fits(&state, argument))
    return 1;
  for (unsigned int n= first; n != last; n++)
    for (int changed= 1; changed <= SETTINGS; changed++)
    {
      state= between(state_of(state_number(n)), state_of(state_number(n + 1)), changed);
      if (fits(&state, argument))
        return 1;
    }
  return 0;
}

/* Whether that state redirects or holds a login. */
static int concerns(const struct state *state, const struct account *account, enum way_in way_in, const char *ip)
{
  int is_wanted= state->mode == ALL || ((state->mode == ON || state->mode == HOLD) && way_in == TCP);
  int is_exempt= (state->exempt_user && account->is_repl) || (state->exempt_host && ip && !strcmp(ip, "192.0.2.1"));
  return is_wanted && !is_exempt;
}

struct origin { const struct account *account; enum way_in way_in; const char *ip; };

static int drains(const struct state *state, void *argument)
{
  const struct origin *origin= argument;
  return state->drain && concerns(state, origin->account, origin->way_in, origin->ip);
}

static int does_not_drain(const struct state *state, void *argument)
{
  return !drains(state, argument);
}

int some_drain(unsigned int first, unsigned int last, const struct account *account, enum way_in way_in, const char *ip)
{
  struct origin origin= {account, way_in, ip};
  return !is_remembered(first, last) || any_state(first, last, drains, &origin);
}

int all_drain(unsigned int first, unsigned int last, const struct account *account, enum way_in way_in, const char *ip)
{
  struct origin origin= {account, way_in, ip};
  return is_remembered(first, last) && !any_state(first, last, does_not_drain, &origin);
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
  if (thd->hangs_up && !thd->is_change_user)
    return -1;
  if (is_moved(thd->account))
    return thd->outcome.plugin_missing ? -1 : read_target(thd->account->target);
  return state->mode != HOLD && concerns(state, thd->account, thd->way_in, thd->ip) ? (int) state->target : -1;
}

/* Whether a login in this state must wait for another one. */
static int must_wait(const struct THD *thd, const struct state *state)
{
  return state->mode == HOLD && !thd->is_change_user && concerns(state, thd->account, thd->way_in, thd->ip);
}

/* Whether a login was refused while it was held, or instead of it, and for a reason that there was. */
static int refused_in_hold(const struct THD *thd)
{
  switch (thd->outcome.error) {
  /* Even one that is held already: each change of a setting gives its place away. */
  case ER_CON_COUNT: return 1;
  case ER_CONNECTION_KILLED: return thd->outcome.held && thd->killed;
  case ER_NET_READ_ERROR: return thd->outcome.held && thd->has_left;
  case ER_SERVER_SHUTDOWN: return thd->outcome.held && (thd->shutdowns % 2 || thd->shutdowns != shutdowns());
  }
  return 0;
}

/* What is wrong with a login, whatever is in force. */
static const char *judge_alone(const struct THD *thd)
{
  const struct outcome *outcome= &thd->outcome;
  int redirected= outcome->error == ER_INSTANT_FAILOVER;
  int original_accepts= outcome->original_called && outcome->original < CR_ERROR;
  int number= redirected ? redirected_to(outcome->text) : -1;

  if (outcome->accepted && !original_accepts)
    return "let in, which the original did not";
  if (outcome->accepted && outcome->error)
    return "let in with an error";
  if (!outcome->accepted && original_accepts && !redirected && !refused_in_hold(thd))
    return "refused, which the original did not";
  if (outcome->not_cr_error)
    return "an error, but not CR_ERROR";
  if (outcome->gate_left)
    return "read_packet is not the server's";
  if (redirected && number < 0)
    return "half a redirect";
  if (is_moved(thd->account) && redirected && number != read_target(thd->account->target))
    return "an account's target is not its own";
  return NULL;
}

/* What is wrong with a login that was made in that state alone. */
static const char *judge_in(const struct THD *thd, const struct state *state)
{
  const struct outcome *outcome= &thd->outcome;
  int redirected= outcome->error == ER_INSTANT_FAILOVER;
  int original_accepts= outcome->original_called && outcome->original < CR_ERROR;
  int is_unhooked= outcome->plugin_is_new || outcome->plugin_missing;
  int number= redirected ? redirected_to(outcome->text) : -1;
  int expected= must_go_to(thd, state);

  if (expected < 0 && redirected)
    return "redirected, though nothing says so";
  if (expected >= 0 && !redirected && is_unhooked)
    return NULL;
  if (expected >= 0 && number != expected)
    return "not redirected to where the settings say";
  if (must_wait(thd, state) && outcome->accepted && !is_unhooked)
    return "let in, though it must wait";
  if (!must_wait(thd, state) && original_accepts && !outcome->accepted && !redirected)
    return "refused as if it were held";
  return NULL;
}

static int is_right_in(const struct state *state, void *thd)
{
  return !judge_in(thd, state);
}

/* What is wrong with a login that was made between the states with these numbers. */
static const char *judge(struct THD *thd, unsigned int first, unsigned int last)
{
  const char *wrong= judge_alone(thd);
  struct state state= state_of(state_number(first));

  if (wrong)
    return wrong;
  if (first == last)
    return judge_in(thd, &state);
  return !is_remembered(first, last) || any_state(first, last, is_right_in, thd)
           ? NULL : "not answered as any settings say that were in force meanwhile";
}

/* From ON to HOLD with another target: one that lies between is right, one that nobody has set is not. */
static void test_judge_of_changes(void)
{
  static const struct { const char *text; int is_wrong; } cases[]= {
    {"|Go to 'host5.example:10005'.|host5.example:10005", 0}, {"|Go to 'host6.example:10006'.|host6.example:10006", 0},
    {"|Go to 'host7.example:10007'.|host7.example:10007", 1},
  };
  const struct state on= {.mode= ON, .target= 5}, hold= {.mode= HOLD, .target= 6};
  struct THD thd= {.account= &accounts[0], .outcome= {.error= ER_INSTANT_FAILOVER}};

  intend(&on);
  settle();
  intend(&hold);
  for (size_t n= 0; n < sizeof cases / sizeof *cases; n++)
  {
    strcpy(thd.outcome.text, cases[n].text);
    if ((judge(&thd, settings_settled(), settings_possible()) != NULL) != cases[n].is_wrong)
      failed("the judge is wrong", cases[n].text);
  }
  thd.outcome= (struct outcome) {.accepted= 1, .original_called= 1, .original= CR_OK};
  if (!judge(&thd, settings_settled(), settings_possible()))
    failed("the judge is wrong", "about a login that neither state lets in");
}

/* A judge who finds nothing wrong is no use. */
static void test_judge(void)
{
  static const char right[]= "|Go to 'host5.example:10005'.|host5.example:10005";
  const struct state on= {.mode= ON, .target= 5}, off= {.target= 5}, hold= {.mode= HOLD, .target= 5};
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
    {{.accepted= 1, .original_called= 1, .original= CR_OK}, &hold, 1},
    {{.original_called= 1, .original= CR_ERROR, .error= 1045}, &hold, 0},
    {{.error= ER_INSTANT_FAILOVER}, &hold, 1},
    {{.original_called= 1, .original= CR_OK, .error= ER_CON_COUNT}, &hold, 0},
    {{.original_called= 1, .original= CR_OK, .error= ER_CON_COUNT}, &off, 1},
    {{.original_called= 1, .original= CR_OK, .error= ER_CONNECTION_KILLED, .held= 1}, &hold, 1},
    {{.original_called= 1, .original= CR_OK, .error= ER_NET_READ_ERROR, .held= 1}, &hold, 1},
    {{.original_called= 1, .original= CR_OK, .error= ER_SERVER_SHUTDOWN, .held= 1}, &hold, 1},
    {{.original_called= 1, .original= CR_OK, .error= 2013, .held= 1}, &hold, 1},
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
    if ((judge_alone(&thd) || (cases[n].state && judge_in(&thd, cases[n].state))) != cases[n].is_wrong)
      failed("the judge is wrong", right);
  }
  thd.outcome= (struct outcome) {.error= ER_INSTANT_FAILOVER};
  for (size_t n= 0; n < sizeof halves / sizeof *halves; n++)
  {
    strcpy(thd.outcome.text, halves[n]);
    if (!judge_alone(&thd))
      failed("the judge is wrong", halves[n]);
  }
  test_judge_of_changes();
}

/* ---- What was done ---- */

struct counts done;

void count(atomic_ulong *counter)
{
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void print_what_was_done(void)
{
#define PRINT(name) printf("%s %lu\n", #name, done.name); if (!done.name) failed("it never happened", #name);
  COUNTS(PRINT)
  if (has_pool())
  {
    POOL_COUNTS(PRINT)
  }
  else
  {
    THREAD_COUNTS(PRINT)
  }
}

/* ---- Threads ---- */

void pause_up_to(struct THD *thd, unsigned int microseconds)
{
  struct timespec time= {0, 1000L * random_below(thd, microseconds)};
  nanosleep(&time, NULL);
}

static void count_outcome(const struct THD *thd, int is_change_user)
{
  const struct outcome *outcome= &thd->outcome;

  count(is_change_user ? &done.change_users : &done.logins);
  if (outcome->error == ER_INSTANT_FAILOVER)
    count(is_change_user ? &done.redirected_change_users : &done.redirected);
  else
    count(outcome->accepted ? &done.let_in : thd->hangs_up ? &done.hung_up : &done.refused);
  if (outcome->error == ER_CON_COUNT)
    count(&done.too_many_held);
  if (!outcome->held)
    return;
  count(&done.held);
  count(outcome->accepted ? &done.held_and_let_in :
        outcome->error == ER_INSTANT_FAILOVER ? &done.held_and_redirected :
        outcome->error == ER_CONNECTION_KILLED ? &done.held_and_killed :
        outcome->error == ER_SERVER_SHUTDOWN ? &done.held_at_shutdown : &done.held_and_hung_up);
}

void log_in_and_judge(struct THD *thd, const struct account *account, int is_change_user)
{
  unsigned int first= settings_settled(), last;
  const char *wrong;

  thd->shutdowns= shutdowns();
  log_in(thd, account, is_change_user);
  last= settings_possible();
  wrong= judge(thd, first, last);
  if (wrong)
  {
    char detail[800];
    snprintf(detail, sizeof detail,
             "user %s, plugin %s, way in %d, change user %d, held %d, settings %u (%x) to %u (%x), error %u %s",
             account->user, account->methods[0], (int) thd->way_in, is_change_user, thd->outcome.held, first,
             state_number(first), last, state_number(last), thd->outcome.error, thd->outcome.text);
    failed(wrong, detail);
  }
  count_outcome(thd, is_change_user);
  if (first == last)
  {
    enum mode mode= state_of(state_number(first)).mode;
    count(&done.judged_in_one_state);
    if (mode != OFF)
      count(mode == HOLD ? &done.judged_while_holding : &done.judged_while_redirecting);
  }
}

static const struct account *any_account(struct THD *thd)
{
  return &accounts[random_below(thd, ACCOUNTS)];
}

/* The client has sent all, and goes away while it is held. */
static void leave_early(struct THD *thd)
{
  close(thd->client);
  thd->client= -1;
  thd->has_left= 1;
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
    connect_client(thd.way_in, &thd.socket, &thd.client);
    list_session(&thd);
    if (!random_below(&thd, 10))
      leave_early(&thd);
    log_in_and_judge(&thd, any_account(&thd), 0);
    if (thd.outcome.accepted)
      for (int n= 0; n < 3; n++)
        log_in_and_judge(&thd, any_account(&thd), 1);
    end_session(&thd);
  }
  return NULL;
}

/* SET GLOBAL of all that a state has. 0 if it was refused, and nothing has changed. */
static int set_state(struct THD *thd, const struct state *state, const char *timeout)
{
  static const char *const modes[]= {"OFF", "ON", "ALL", "HOLD"};
  char target[64];
  const struct setting settings[]= {
    {"hold_timeout", timeout},
    {"exempt_users", state->exempt_user ? "dba,repl" : ""},
    {"exempt_hosts", state->exempt_host ? "10.0.0.0/8,192.0.2.1" : "10.0.0.0/8"},
    {"target", target},
    {"mode", modes[state->mode]},
    {"drain", state->drain ? "ON" : "OFF"},
  };

  write_target(target, sizeof target, state->target);
  return !set_global(thd, settings, 6);
}

/*
  Sessions must be quiet for 50 ms in the first second of a drain; then any idle session is ended. In a pool it takes
  250 ms more.
*/
static void pause_for_drain(struct THD *thd)
{
  switch (random_below(thd, 20)) {
  case 0: sleep(1); break;
  case 1: case 2: case 3: case 4: return pause_up_to(thd, 1000);
  }
  pause_up_to(thd, has_pool() ? 600000 : 300000);
}

static void change_settings(struct THD *thd, struct state *state)
{
  const struct state before= *state;

  /* After a drain all are let in, or there would be no sessions for the next one. */
  state->mode= state->drain ? OFF : (enum mode) random_below(thd, 4);
  state->exempt_user= (int) random_below(thd, 2);
  state->exempt_host= (int) random_below(thd, 2);
  state->target= 1 + random_below(thd, 50);
  state->drain= state->mode != OFF && random_below(thd, 2);
  intend(state);
  if (!set_state(thd, state, "10"))
  {
    if (!state->drain || !has_pool())
      failed("good settings were refused", thd->outcome.text);
    count(&done.drains_refused);
    *state= before;
    intend(state);
  }
  settle();
  count(&done.changes);
  if (state->mode == HOLD && !random_below(thd, 10))
  {
    set_shutdown(1);
    pause_up_to(thd, 200000);
    set_shutdown(0);
  }
  if (state->drain)
    pause_for_drain(thd);
  else if (before.drain)
    pause_up_to(thd, 50000);
}

/* HOLD until it ends by its timeout. */
static void hold_too_long(struct THD *thd, struct state *state)
{
  struct state hold= *state;

  hold.mode= HOLD;
  hold.drain= !has_pool();
  hold.target= 1;
  intend(&hold);
  state->mode= OFF;
  state->drain= 0;
  state->target= 1;
  intend(state);
  if (!set_state(thd, &hold, "1"))
    failed("HOLD was refused", "");
  for (int n= 0; !mode_is("OFF"); n++)
  {
    struct timespec time= {0, 1000000};
    if (n == 20000)
      failed("HOLD", "does not end");
    if (n >= 20000)
      break;
    nanosleep(&time, NULL);
  }
  settle();
  count(&done.hold_timeouts);
}

static void install_sessions(struct THD *thd)
{
  new_session(thd);
  install_audit();
  end_session(thd);
}

/* UNINSTALL and INSTALL of either plugin of the library, or of both, whatever is going on. */
static void install_again(struct THD *thd, struct state *state)
{
  int was_draining= state->drain;
  const char *plugin;

  if (!random_below(thd, 2))
    uninstall_audit();
  if (!random_below(thd, 3))
    return;
  *state= (struct state) {.mode= OFF};
  intend(state);
  uninstall(thd);
  if ((plugin= not_restored()))
    failed("uninstalled, and still hooked", plugin);
  settle();
  pause_up_to(thd, 5000);
  if ((plugin= not_restored()))
    failed("hooked after it was uninstalled", plugin);
  install(thd);
  count(&done.installs);
  if (was_draining)
    count(&done.installs_while_draining);
}

/* Changes the settings, and installs the plugins again. */
static void *administrator(void *seed)
{
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};
  struct state state= {.mode= OFF};

  while (!time_is_up)
  {
    switch (random_below(&thd, 20)) {
    case 0: case 1: install_again(&thd, &state); break;
    case 2:
      if (!random_below(&thd, 3))
        hold_too_long(&thd, &state);
      break;
    default:
      change_settings(&thd, &state);
      if (state.drain && !random_below(&thd, 4))
        install_again(&thd, &state);
    }
    if (!has_audit() && !random_below(&thd, 4))
      install_sessions(&thd);
    pause_up_to(&thd, random_below(&thd, 2) ? 200 : 5000);
  }
  /* Nobody is held any more. */
  state= (struct state) {.mode= OFF, .target= 1};
  intend(&state);
  if (!set_state(&thd, &state, "10"))
    failed("OFF was refused", thd.outcome.text);
  settle();
  return NULL;
}

/* Another session, whose settings change nothing for the administrator. */
static void *meddler(void *seed)
{
  static const struct setting good[]= {
    {"message", "Go to '%s'."}, {"message", "%s is where it is now"}, {"message", "Not here: %s."},
    {"note", ""}, {"note", "fenced by ann"}
  };
  static const struct setting bad[]= {
    {"mode", "PERHAPS"}, {"target", "no host"}, {"message", "a|b"}, {"exempt_hosts", "300.1.1.1"},
    {"exempt_users", "a,,b"}, {"hold_timeout", "0"}, {"hold_timeout", "3601"}, {"drain", "SOME"}, {"note", "a\nb"}
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

/* Looks at what the server shows, and now and then kills a session. */
static void *watcher(void *seed)
{
  struct THD thd= {.seed= (unsigned int) (uintptr_t) seed};

  while (!time_is_up)
  {
    const char *wrong= show(&thd);
    if (wrong)
      failed("SHOW", wrong);
    count(&done.shows);
    if (!random_below(&thd, 150))
      kill_one(&thd);
    pause_up_to(&thd, 500);
  }
  return NULL;
}

enum { MOST_THREADS= LOGIN_THREADS + PEERS + SERVER_THREADS + 8 };
static struct { pthread_t threads[MOST_THREADS]; int count; } clients_side, servers_side;

static void start(pthread_t *threads, int *count, void *(*function)(void *), int how_many)
{
  static uintptr_t seed;
  for (int n= 0; n < how_many; n++)
    if (pthread_create(&threads[(*count)++], NULL, function, (void *) ++seed))
      stop("no thread", "");
}

static void join(const pthread_t *threads, int count)
{
  for (int n= 0; n < count; n++)
    pthread_join(threads[n], NULL);
}

static int drive(char **paths, unsigned int seconds)
{
  struct THD thd= {.seed= 1};
  void *(*const others[])(void *)= {administrator, meddler, librarian, watcher};
  const char *plugin;

  load_plugin(paths[0]);
  name_library(0, paths[1]);
  name_library(1, paths[2]);
  intend(&(struct state) {.mode= OFF});
  settle();
  install(&thd);
  install_sessions(&thd);
  if (has_pool())
  {
    start_pool();
    start(servers_side.threads, &servers_side.count, pool_worker, SERVER_THREADS);
  }
  start(servers_side.threads, &servers_side.count, server_thread, PEERS);
  start(clients_side.threads, &clients_side.count, clients, LOGIN_THREADS);
  start(clients_side.threads, &clients_side.count, peer, PEERS);
  for (size_t n= 0; n < sizeof others / sizeof *others; n++)
    start(clients_side.threads, &clients_side.count, others[n], 1);
  sleep(seconds);
  time_is_up= 1;
  join(clients_side.threads, clients_side.count);
  time_is_up= 2;
  join(servers_side.threads, servers_side.count);
  uninstall(&thd);
  if ((plugin= not_restored()))
    failed("uninstalled, and still hooked", plugin);
  if (!uninstall_audit())
    failed("uninstalled", "and still used by a session that has ended");
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

/* A session in a pool of threads that is freed without a word, while the keeper looks at it. */
static void free_session(struct THD *administrator)
{
  const struct state hold= {.mode= HOLD, .target= 1, .drain= 1};
  struct THD *thd= calloc(1, sizeof *thd);

  install_sessions(administrator);
  new_session(thd);
  thd->ip= "198.51.100.7";
  connect_client(TCP, &thd->socket, &thd->client);
  log_in(thd, &accounts[0], 0);
  thd->command= COM_SLEEP;
  set_state(administrator, &hold, "10");
  free(thd->user);
  free(thd);
  sleep(2);
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
  else if (!strcmp(name, "freed-session"))
    free_session(&thd);
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
  alarm(120 + (argc == 6 ? (unsigned int) atoi(argv[5]) : 0));
  start_server(argc > 1 && (!strcmp(argv[1], "pool") || (argc == 4 && !strcmp(argv[2], "freed-session"))));
  test_judge();
  test_judge_of_endings();
  if (argc == 4 && !strcmp(argv[1], "--fault"))
    return fault(argv[2], argv[3]);
  if (argc != 6)
  {
    fprintf(stderr, "usage: host threads|pool PLUGIN OTHER FIXED SECONDS\n");
    return 2;
  }
  return drive(argv + 2, (unsigned int) atoi(argv[5]));
}
