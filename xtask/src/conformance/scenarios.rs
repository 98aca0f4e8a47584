//! What is expected of connections, in every language.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use support::fake::{Fake, Pieces, When};
use support::free_port;

use super::language::Language;
use super::table::Table;
use super::world::{Adapter, By, DATABASE, MOVED, Options, Reply, Tls, WHERE, Way, World};

/// A case, tried by a single connection and by a pool.
struct Scenario {
    name: &'static str,
    run: fn(&mut Case) -> Result<()>,
}

/// The servers, an adapter, and how it connects.
struct Case<'a> {
    world: &'a mut World,
    land: Land<'a>,
    way: Way,
}

/// An adapter, started when it is needed.
struct Land<'a> {
    language: &'a Language,
    adapter: Option<Adapter>,
}

const fn scenario(name: &'static str, run: fn(&mut Case) -> Result<()>) -> Scenario {
    Scenario { name, run }
}

pub(super) const THREE_ROUNDS: &str = "a redirect after three rounds of authentication";

/// What their names begin with.
pub(super) const LISTS: &str = "a list of hosts";
pub(super) const LIST_WITH_DEAD: &str = "a list of hosts, the first is down";
pub(super) const LIST_WITH_REDIRECT_TO_DEAD: &str = "a list of hosts, the first redirects to a server that is down";
pub(super) const LIST_WITH_LOOP: &str = "a list of hosts that redirect to each other";
pub(super) const ADDED_TO_GREETING: &str = "TLS, and an error that an attacker adds to the greeting";

const SCENARIOS: &[Scenario] = &[
    scenario("no redirect", |case| {
        let here = case.here();
        case.lands(&Options::to(here), here.port())
    }),
    scenario("redirected by mariadbd, without TLS", |case| case.followed(By::Mariadbd, Tls::Off)),
    scenario("redirected by mariadbd, with TLS", |case| case.followed(By::Mariadbd, Tls::Require)),
    scenario("redirected by mariadbd, with verified TLS", |case| case.followed(By::Mariadbd, Tls::Verify)),
    scenario("redirected by the stand-in, without TLS", |case| case.followed(By::StandIn, Tls::Off)),
    scenario("redirected by the stand-in, with TLS", |case| case.followed(By::StandIn, Tls::Require)),
    scenario("redirected by the stand-in, with verified TLS", |case| case.followed(By::StandIn, Tls::Verify)),
    scenario("the database is that of the options", database),
    scenario("a redirect is not remembered", not_remembered),
    scenario("8 redirects are followed", |case| chain(case, 8)),
    scenario("9 redirects are not", |case| chain(case, 9)),
    scenario("a server that redirects to itself", to_itself),
    scenario("two servers that redirect to each other", to_each_other),
    scenario("code 4200 is followed", |case| followed_as_error(case, 4200)),
    scenario("an error with another code is passed on", |case| not_a_redirect(case, 1045, "|text|")),
    scenario("a message without the form is passed on", |case| not_a_redirect(case, 4196, "text|")),
    scenario("an error of a statement is passed on", error_of_statement),
    scenario("a malformed target", malformed),
    scenario("a target without a port", default_port),
    scenario("a target with an IPv6 address", ipv6),
    scenario("a target that is down", dead),
    scenario("the wrong password at the target", wrong_password),
    scenario("the target's certificate is for another name", wrong_name),
    scenario("from a server with TLS to one without", |case| to_plaintext(case, Tls::Require)),
    scenario("from a server with verified TLS to one without", |case| to_plaintext(case, Tls::Verify)),
    scenario("TLS, and an error in the place of the greeting", |case| before_tls(case, &When::InsteadOfGreeting)),
    scenario("TLS, and an error together with the greeting", |case| before_tls(case, &When::WithGreeting)),
    scenario("TLS, and a plaintext error after the request for TLS", |case| before_tls(case, &When::AfterTlsRequest)),
    scenario(ADDED_TO_GREETING, behind_greeting),
    scenario("a redirect after one more round of authentication", |case| after_rounds(case, When::AfterSwitch)),
    scenario(THREE_ROUNDS, |case| {
        let key = case.world.public_key.clone();
        after_rounds(case, When::AfterThreeRounds(key))
    }),
    scenario("a login that is held and then redirected", held),
    scenario("an idle session that is drained", drained),
    scenario("follow = never", |case| follow(case, "never", &[])),
    scenario("follow = verified", |case| follow(case, "verified", &[Tls::Verify])),
    scenario("follow = auto", |case| follow(case, "AUTO", &[Tls::Off, Tls::Require, Tls::Verify])),
    scenario("follow = always", |case| follow(case, "Always", &[Tls::Off, Tls::Require, Tls::Verify])),
    scenario("an unknown value of INSTANT_FAILOVER_FOLLOW", unknown_value),
    scenario("INSTANT_FAILOVER_FOLLOW, and the option instead", environment),
    scenario(LIST_WITH_DEAD, list_with_dead),
    scenario("a list of hosts, the first redirects to the second", list_with_redirect),
    scenario(LIST_WITH_REDIRECT_TO_DEAD, list_with_redirect_to_dead),
    scenario(LIST_WITH_LOOP, list_with_loop),
];

/// Tries a language in all of them.
pub(super) fn check(language: &Language, world: &mut World, table: &mut Table) -> Result<()> {
    let mut case = Case { world, land: Land { language, adapter: None }, way: Way::Single };
    for scenario in SCENARIOS {
        for way in Way::ALL {
            case.world.calm()?;
            case.way = way;
            let result = (scenario.run)(&mut case).and_then(|()| case.land.rest(way));
            if result.is_err() {
                // It may have stopped answering.
                case.land.adapter = None;
            }
            table.note(language, scenario.name, result.with_context(|| format!("by a {}", way.name())));
        }
    }
    case.world.calm()
}

impl Land<'_> {
    /// Ends an adapter that has a pool.
    fn rest(&mut self, way: Way) -> Result<()> {
        if way == Way::Pool { self.adapter.take().map_or(Ok(()), Adapter::end) } else { Ok(()) }
    }

    fn adapter(&mut self, world: &World) -> Result<&mut Adapter> {
        if self.adapter.is_none() {
            self.adapter = Some(Adapter::start(self.language, world, None)?);
        }
        self.adapter.as_mut().context("no adapter")
    }
}

impl Case<'_> {
    /// The address of the mariadbd that redirects.
    fn here(&self) -> SocketAddr {
        self.world.address(By::Mariadbd)
    }

    fn land(&mut self, options: &Options) -> Result<Reply> {
        self.ask(options, WHERE)
    }

    fn ask(&mut self, options: &Options, sql: &str) -> Result<Reply> {
        let adapter = self.land.adapter(self.world)?;
        let reply = adapter.ask(self.world, self.way, options, sql);
        reply.with_context(|| adapter.errors())
    }

    fn lands(&mut self, options: &Options, port: u16) -> Result<()> {
        self.land(options)?.is(&port.to_string())
    }

    /// It must land on the target.
    fn arrives(&mut self, options: &Options) -> Result<()> {
        let port = self.world.target.address().port();
        self.lands(options, port)
    }

    /// The redirect is followed, and the target is reached with TLS if the program wants that.
    fn followed(&mut self, by: By, tls: Tls) -> Result<()> {
        const CIPHER: &str =
            "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'";
        let target = self.world.target_name();
        self.world.redirect(by, &target)?;
        let options = Options::with_tls(self.world.address(by), tls);
        self.arrives(&options)?;
        let has_tls = if tls == Tls::Off { "0" } else { "1" };
        self.ask(&options, CIPHER)?.is(has_tls).context("TLS at the target")
    }

    fn to_target(&self) -> String {
        format!("|text|{}", self.world.target.address())
    }
}

/// A server without data that answers a login with this message of a redirect.
fn redirecting(message: &str, when: When) -> Result<Fake> {
    Ok(Fake::start(4196, message, when)?)
}

/// Where an error is expected.
fn soon(options: Options) -> Options {
    Options { timeout: 3, ..options }
}

fn database(case: &mut Case) -> Result<()> {
    let target = case.world.target_name();
    case.world.redirect(By::Mariadbd, &target)?;
    let options = Options { database: Some(DATABASE), ..Options::to(case.here()) };
    case.ask(&options, "SELECT DATABASE()")?.is(DATABASE)
}

fn not_remembered(case: &mut Case) -> Result<()> {
    let (here, target) = (case.here(), case.world.target_name());
    case.world.redirect(By::Mariadbd, &target)?;
    case.arrives(&Options::to(here))?;
    case.world.calm()?;
    case.lands(&Options::to(here), here.port())
}

fn chain(case: &mut Case, length: usize) -> Result<()> {
    let mut fakes: Vec<Fake> = Vec::new();
    for _ in 0..length {
        let next = fakes.last().map_or(case.world.target.address(), Fake::address);
        fakes.push(redirecting(&format!("|text|{next}"), When::AfterLogin)?);
    }
    let first = Options::to(fakes.last().context("no fake")?.address());
    if length <= 8 {
        case.arrives(&first)
    } else {
        case.land(&soon(first))?.is_error(case.way, 4196, &["Too many instant failovers (>= 8)", " -> "])
    }
}

fn to_itself(case: &mut Case) -> Result<()> {
    let here = case.here();
    case.world.redirect(By::Mariadbd, &here.to_string())?;
    let chain = format!("{here} -> {here}");
    case.land(&soon(Options::to(here)))?.is_error(case.way, 4196, &["Redirect loop", &chain])
}

fn to_each_other(case: &mut Case) -> Result<()> {
    let (here, there) = (case.here(), case.world.target.address());
    case.world.redirect(By::Mariadbd, &there.to_string())?;
    case.world.redirect_back(&here.to_string())?;
    let chain = format!("{here} -> {there} -> {here}");
    case.land(&soon(Options::to(here)))?.is_error(case.way, 4196, &["Redirect loop", &chain])
}

fn followed_as_error(case: &mut Case, code: u16) -> Result<()> {
    let fake = Fake::start(code, &case.to_target(), When::AfterLogin)?;
    case.arrives(&Options::to(fake.address()))
}

fn not_a_redirect(case: &mut Case, code: u16, before: &str) -> Result<()> {
    let message = format!("{before}{}", case.world.target.address());
    let fake = Fake::start(code, &message, When::AfterLogin)?;
    case.land(&soon(Options::to(fake.address())))?.is_error(case.way, code.into(), &[&message])
}

fn error_of_statement(case: &mut Case) -> Result<()> {
    let message = case.to_target();
    let signal = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '{message}'");
    let here = Options::to(case.here());
    case.ask(&here, &signal)?.is_error(case.way, 4196, &[&message])
}

fn malformed(case: &mut Case) -> Result<()> {
    for target in ["db2:0", "0.0.0.0", "127.0.0.1:3306/demo", "db2 "] {
        let fake = redirecting(&format!("|text|{target}"), When::AfterLogin)?;
        let reply = case.land(&soon(Options::to(fake.address())))?;
        reply.is_error(case.way, 4196, &["invalid redirect target", target.trim()])?;
    }
    Ok(())
}

/// Where a target without a port leads: to a server that says so.
fn default_port(case: &mut Case) -> Result<()> {
    const HOST: &str = "127.48.17.5";
    let _there = Fake::start_on(format!("{HOST}:3306").parse()?, 1045, "arrived", When::AfterLogin)
        .with_context(|| format!("cannot listen on {HOST}:3306; stop the server that uses port 3306"))?;
    let fake = redirecting(&format!("|text|{HOST}"), When::AfterLogin)?;
    case.land(&soon(Options::to(fake.address())))?.is_error(case.way, 1045, &["arrived"])
}

fn ipv6(case: &mut Case) -> Result<()> {
    let target = format!("[{}]:{}", Ipv6Addr::LOCALHOST, case.world.target.address().port());
    case.world.redirect(By::Mariadbd, &target)?;
    let here = case.here();
    case.arrives(&Options::to(here))
}

/// An address where nothing listens: a port that was free a moment ago.
fn nowhere() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free_port()?).into())
}

fn dead(case: &mut Case) -> Result<()> {
    let free = nowhere()?;
    case.world.redirect(By::Mariadbd, &free.to_string())?;
    let here = case.here();
    case.land(&soon(Options::to(here)))?.is_any_error()
}

fn wrong_password(case: &mut Case) -> Result<()> {
    let target = case.world.target_name();
    let here = Options { user: MOVED, ..Options::to(case.here()) };
    case.lands(&here, here.port)?;
    case.world.redirect(By::Mariadbd, &target)?;
    case.land(&soon(here))?.is_error(case.way, 1045, &["Access denied"])
}

fn wrong_name(case: &mut Case) -> Result<()> {
    let port = case.world.elsewhere.address().port();
    case.world.redirect(By::Mariadbd, &format!("localhost:{port}"))?;
    let here = case.here();
    // It accepts clients that do not verify its certificate.
    case.lands(&Options::with_tls(here, Tls::Require), port)?;
    case.land(&soon(Options::with_tls(here, Tls::Verify)))?.is_any_error()
}

fn to_plaintext(case: &mut Case, tls: Tls) -> Result<()> {
    let without = Fake::start(1045, "arrived without TLS", When::AfterLogin)?;
    case.world.redirect(By::Mariadbd, &format!("localhost:{}", without.address().port()))?;
    let here = case.here();
    case.land(&soon(Options::with_tls(here, tls)))?.is_any_error()?;
    ensure!(without.logins() == 0, "the user name was sent to a server without TLS");
    // It would have been seen.
    case.land(&soon(Options::with_tls(here, Tls::Off)))?.is_error(case.way, 1045, &["arrived"])?;
    ensure!(without.logins() > 0, "a login without TLS was not seen");
    Ok(())
}

fn before_tls(case: &mut Case, when: &When) -> Result<()> {
    let message = format!("|text|{}", case.world.target_name());
    for tls in [Tls::Require, Tls::Verify] {
        for follow in [None, Some("always")] {
            let fake = redirecting(&message, when.clone())?;
            let options = Options { follow, ..soon(Options::with_tls(fake.address(), tls)) };
            case.land(&options)?.is_any_error().with_context(|| format!("{tls:?}, follow {follow:?}"))?;
            ensure!(fake.connections() > 0, "it did not connect");
        }
    }
    Ok(())
}

/// It must not be believed. Some drivers report it, and some never see it.
fn behind_greeting(case: &mut Case) -> Result<()> {
    let message = format!("|text|{}", case.world.target_name());
    let target = case.world.target.address().port().to_string();
    for tls in [Tls::Require, Tls::Verify] {
        for follow in [None, Some("always")] {
            let fake = redirecting(&message, When::BehindGreetingOf(case.here(), Pieces::One))?;
            let options = Options { follow, ..soon(Options::with_tls(fake.address(), tls)) };
            let reply = case.land(&options)?;
            ensure!(fake.connections() > 0, "it did not connect");
            ensure!(reply != Reply::Ok(Some(target.clone())), "followed with {tls:?}, follow {follow:?}");
        }
    }
    Ok(())
}

fn after_rounds(case: &mut Case, when: When) -> Result<()> {
    let fake = redirecting(&case.to_target(), when)?;
    case.arrives(&Options::to(fake.address()))
}

fn held(case: &mut Case) -> Result<()> {
    let (target, here) = (case.world.target_name(), case.here());
    case.world.sql("SET GLOBAL instant_failover_mode = HOLD")?;
    let adapter = case.land.adapter(case.world)?;
    let id = adapter.open(case.world, case.way, &Options::to(here))?;
    adapter.send_query(case.way, &id, WHERE)?;
    case.world.wait_until("Instant_failover_held", |held| held > 0)?;
    case.world.redirect(By::Mariadbd, &target)?;
    let opened = adapter.answer()?;
    let reply = adapter.answer()?;
    ensure!(matches!(opened, Reply::Ok(_)), "{opened:?}");
    adapter.close(case.way, &id)?;
    reply.is(&case.world.target.address().port().to_string())
}

/// The next use may be told that the connection is lost; the one after it must reach the target.
fn drained(case: &mut Case) -> Result<()> {
    let (target, here, way) = (case.world.target_name(), case.here(), case.way);
    let adapter = case.land.adapter(case.world)?;
    let options = Options::to(here);
    let mut id = adapter.open(case.world, way, &options)?;
    adapter.answer()?;
    adapter.query(way, &id, WHERE)?.is(&here.port().to_string())?;
    case.world.sql(&format!(
        "SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = ON, instant_failover_drain = ON"
    ))?;
    case.world.wait_until("Instant_failover_sessions", |sessions| sessions == 0)?;
    let mut reply = adapter.query(way, &id, WHERE)?;
    if let Reply::Error { .. } = reply {
        if way == Way::Single {
            adapter.close(case.way, &id)?;
            id = adapter.open(case.world, way, &options)?;
            adapter.answer()?;
        }
        reply = adapter.query(way, &id, WHERE)?;
    }
    adapter.close(case.way, &id)?;
    reply.is(&case.world.target.address().port().to_string())
}

/// Which servers are followed with a value of the option.
fn follow(case: &mut Case, value: &'static str, followed: &[Tls]) -> Result<()> {
    let target = case.world.target_name();
    case.world.redirect(By::Mariadbd, &target)?;
    for tls in [Tls::Off, Tls::Require, Tls::Verify] {
        let options = Options { follow: Some(value), ..Options::with_tls(case.here(), tls) };
        let result = if followed.contains(&tls) {
            case.arrives(&options)
        } else {
            let reply = case.land(&soon(options))?;
            if value == "never" { unchanged(case, &reply, &target) } else { names_cure(case, &reply, &target, true) }
        };
        result.with_context(|| format!("TLS: {tls:?}"))?;
    }
    Ok(())
}

/// The server's error, and no more.
fn unchanged(case: &Case, reply: &Reply, target: &str) -> Result<()> {
    reply.is_error(case.way, 4196, &[target])?;
    ensure!(!reply.message().contains("not followed"), "it was annotated: {}", reply.message());
    Ok(())
}

/// The server's error, with the rule and what to do, such as `(not followed: the connection has no TLS (setting=verified); ..., or
/// setting=always)`. The setting is the one that has the rule: another would have no effect.
fn names_cure(case: &Case, reply: &Reply, target: &str, by_option: bool) -> Result<()> {
    reply.is_error(case.way, 4196, &[target, "not followed"])?;
    let message = reply.message();
    let (before, after) = message
        .split_once("verified)")
        .or_else(|| message.split_once("Verified)"))
        .with_context(|| format!("it does not name the rule: {message}"))?;
    let setting = before.rsplit('(').next().unwrap_or_default();
    let cures = ["always", "Always"].map(|always| format!("or {setting}{always}"));
    ensure!(cures.iter().any(|cure| after.contains(cure)), "the cure is not that of {setting}: {message}");
    ensure!(
        by_option != setting.starts_with("INSTANT_FAILOVER_FOLLOW"),
        "the rule is not that of {setting}: {message}"
    );
    Ok(())
}

fn unknown_value(case: &mut Case) -> Result<()> {
    let target = case.world.target_name();
    case.world.redirect(By::Mariadbd, &target)?;
    let mut adapter = Adapter::start(case.land.language, case.world, Some("perhaps"))?;
    let reply = adapter.land(case.world, case.way, &soon(Options::to(case.here())))?;
    reply.is_error(
        case.way,
        4196,
        &[&target, "INSTANT_FAILOVER_FOLLOW", "perhaps", "never, verified, auto or always"],
    )?;
    adapter.end()
}

fn environment(case: &mut Case) -> Result<()> {
    let target = case.world.target_name();
    case.world.redirect(By::Mariadbd, &target)?;
    let mut adapter = Adapter::start(case.land.language, case.world, Some("0"))?;
    let here = Options::to(case.here());
    let reply = adapter.land(case.world, case.way, &soon(here.clone()))?;
    unchanged(case, &reply, &target)?;
    let reply = adapter.land(case.world, case.way, &Options { follow: Some("auto"), ..here.clone() })?;
    reply.is(&case.world.target.address().port().to_string()).context("with the option")?;
    adapter.end()?;
    let mut adapter = Adapter::start(case.land.language, case.world, Some("verified"))?;
    let reply = adapter.land(case.world, case.way, &soon(here))?;
    names_cure(case, &reply, &target, false)?;
    adapter.end()
}

fn list_with_dead(case: &mut Case) -> Result<()> {
    let list = Options::to_list([nowhere()?, case.world.target.address()]);
    case.arrives(&list)
}

fn list_with_redirect(case: &mut Case) -> Result<()> {
    let (here, there) = (case.here(), case.world.target.address());
    case.world.redirect(By::Mariadbd, &there.to_string())?;
    case.arrives(&Options::to_list([here, there]))
}

/// The redirect leads nowhere, so the next host of the list is tried.
fn list_with_redirect_to_dead(case: &mut Case) -> Result<()> {
    let (here, there) = (case.here(), case.world.target.address());
    case.world.redirect(By::Mariadbd, &nowhere()?.to_string())?;
    case.arrives(&Options::to_list([here, there]))
}

fn list_with_loop(case: &mut Case) -> Result<()> {
    let (here, there) = (case.here(), case.world.target.address());
    case.world.redirect(By::Mariadbd, &there.to_string())?;
    case.world.redirect_back(&here.to_string())?;
    case.land(&soon(Options::to_list([here, there])))?.is_error(case.way, 4196, &["Redirect loop"])
}
