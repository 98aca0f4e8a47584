//! What is expected of the helpers among the examples.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use support::server::Server;
use support::wire;

use super::fake::{Fake, When};
use super::script::Script;
use super::{Notes, SOON, World, redirect, tools};

/// As many redirects as an attempt may follow.
const MAX_HOPS: usize = 8;

/// A `host:port` as the script wants it, and what it connects with.
struct Attempt<'a> {
    host: &'a str,
    port: u16,
    /// The authority's file, for TLS.
    authority: Option<&'a str>,
    init: Option<&'a str>,
}

impl Attempt<'_> {
    fn to(address: SocketAddr) -> Self {
        Self { host: "127.0.0.1", port: address.port(), authority: None, init: None }
    }

    /// The script's answer.
    fn make(&self, script: &mut Script) -> Result<String> {
        let port = self.port.to_string();
        let words = ["connect", self.host, &port, self.authority.unwrap_or("-"), self.init.unwrap_or("-")];
        let answer = script.ask(&words)?;
        ensure!(answer.took < SOON, "it took {:?}", answer.took);
        Ok(answer.text)
    }

    fn expect(&self, script: &mut Script, case: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let text = self.make(script)?;
        ensure!(wanted(&text), "{case}: got '{text}'");
        Ok(text)
    }
}

pub(super) fn check(world: &mut World, script: &mut Script, name: &str, notes: &mut Notes) -> Result<()> {
    parses_as_published(script)?;
    parses_as_the_server(world, script)?;
    follows(world, script)?;
    loops(world, script)?;
    tls(world, script)?;
    if !world.db1.has_data() {
        // The other cases are the same.
        notes.said.push("targets, one redirect, loops, TLS".to_owned());
        return Ok(());
    }
    limit(world, script)?;
    malformed(script)?;
    other_errors(world, script)?;
    initial_statements(world, script, name)?;
    default_port(script, notes)?;
    ipv6(script, notes)?;
    early(world, script, name)?;
    notes.said.push("all cases".to_owned());
    Ok(())
}

/// What it would do with a message.
fn target_in(script: &mut Script, message: &[u8]) -> Result<String> {
    use std::fmt::Write;
    let mut hex = String::new();
    for byte in message {
        write!(hex, "{byte:02x}")?;
    }
    let answer = script.ask(&["target", &hex])?.text;
    answer.strip_prefix("ok ").map(str::to_owned).with_context(|| format!("{message:?}: {answer}"))
}

/// The test vectors of `docs/protocol.md`.
fn parses_as_published(script: &mut Script) -> Result<()> {
    let file = support::project_root().join("docs/protocol-vectors.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let messages = vectors["messages"].as_array().context("no messages")?;
    ensure!(messages.len() > 100, "{} messages", messages.len());
    for vector in messages {
        let bytes = match (vector["message"].as_str(), vector["hex"].as_str()) {
            (Some(message), _) => message.as_bytes().to_vec(),
            (None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2).map(str::from_utf8);
                digits.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect::<Result<_>>()?
            }
            _ => bail!("neither message nor hex: {vector}"),
        };
        let expected = match &vector["target"] {
            Value::Object(target) => {
                format!("{} {}", target["host"].as_str().context("no host")?, target["port"])
            }
            // A helper leaves both to the library, which shows the error.
            _ => "none".to_owned(),
        };
        let found = target_in(script, &bytes)?;
        ensure!(found == expected, "'{found}' for {vector}");
    }
    Ok(())
}

/// Takes the same targets as the server, in the same form, whatever they look like.
fn parses_as_the_server(world: &mut World, script: &mut Script) -> Result<()> {
    const TIMES: usize = 3000;
    // The same in every run.
    let mut random = fastrand::Rng::with_seed(4196);
    world.redirect(None)?;
    world.one.query("SET NAMES utf8mb4")?;
    let mut valid = 0;
    for _ in 0..TIMES {
        let target = any_target(&mut random);
        let expected = match world.one.query(&format!("SET GLOBAL instant_failover_target = '{target}'")) {
            Ok(_) => {
                valid += 1;
                let shown = world.one.query("SELECT @@GLOBAL.instant_failover_target")?.concat().concat();
                let (host, port) = match shown.rsplit_once(':') {
                    Some((host, port)) if !shown.ends_with(']') => (host, port),
                    _ => (shown.as_str(), "3306"),
                };
                format!("{} {port}", host.trim_matches(['[', ']']))
            }
            Err(error) if error.downcast_ref::<wire::Error>().is_some_and(|error| error.code == 1231) => {
                "none".to_owned()
            }
            Err(error) => return Err(error.context(target)),
        };
        let found = target_in(script, format!("|text|{target}").as_bytes())?;
        ensure!(found == expected, "{target:?}: the server has '{expected}', the helper '{found}'");
    }
    ensure!((TIMES / 10..TIMES * 9 / 10).contains(&valid), "{valid} of {TIMES} targets were valid");
    Ok(())
}

/// Something close to a target: never empty, which the server takes for none, and without quotes.
fn any_target(random: &mut fastrand::Rng) -> String {
    const HOSTS: &[&str] = &[
        "db2",
        "db_2.Example.com",
        "192.0.2.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "127.0.0.0x1",
        "[::1]",
        "[::]",
        "[2001:DB8:0:0:1:0:0:1]",
        "[fe80::1]",
        "[ff02::1]",
        "[1:2:3:4:5:6:7::]",
        "[::ffff:192.0.2.1]",
        "[::ffff:e000:1]",
        "[::ffff:0.0.0.0]",
        "[1:2:3:4:5:6:192.0.2.1]",
    ];
    const PIECES: &[&str] = &[
        ":", "::", ".", "0", "00", "1", "9", "255", "256", "a", "f", "G", "x", "0x", "-", "_", "[", "]", "ffff:", ":0",
        "%1", " ", "/", "é", "+",
    ];
    let mut target = (*random.choice(HOSTS).unwrap_or(&"db2")).to_owned();
    match random.u8(..4) {
        // Groups of every kind.
        0 => {
            let groups: Vec<_> = (0..random.usize(6..=9))
                .map(|_| match random.u8(..8) {
                    0 => String::new(),
                    1 => format!("{}.0.2.{}", random.u8(..), random.u8(..)),
                    2..5 => "0".to_owned(),
                    _ => format!("{:x}", random.u16(..)),
                })
                .collect();
            target = format!("[{}]", groups.join(":"));
        }
        1 => target = format!("{}.{}.{}.{}", random.u8(..), random.u16(..300), random.u8(..), random.u8(..)),
        _ => {}
    }
    if random.bool() {
        target = format!("{target}:{}", random.u32(..70_000));
    }
    for _ in 0..random.u8(..3) {
        let places: Vec<_> = target.char_indices().map(|(place, _)| place).collect();
        let place = *random.choice(&places).unwrap_or(&0);
        if random.bool() {
            target.insert_str(place, random.choice(PIECES).unwrap_or(&"a"));
        } else if target.chars().count() > 1 {
            target.remove(place);
        }
    }
    target
}

/// One hop, and back again when the redirect is over.
fn follows(world: &mut World, script: &mut Script) -> Result<()> {
    let (db1, db2) = (world.db1.address(), world.db2.address().to_string());
    for (target, wanted, redirects) in [
        (None, "ok db1 db1 db1 plain", 0),
        (Some(db2.as_str()), "ok db2 db2 db2 plain", 1),
        (None, "ok db1 db1 db1 plain", 0),
    ] {
        world.redirect(target)?;
        let before = world.redirects()?;
        Attempt::to(db1).expect(script, &format!("redirected to {target:?}"), |text| text == wanted)?;
        let sent = world.redirects()? - before;
        ensure!(sent == redirects, "redirected to {target:?}: {sent} redirects");
    }
    Ok(())
}

/// A to A, and A to B to A: the error names the chain.
fn loops(world: &mut World, script: &mut Script) -> Result<()> {
    let (db1, db2) = (world.db1.address(), world.db2.address());
    world.redirect(Some(&db1.to_string()))?;
    let before = world.redirects()?;
    let chain = format!("{db1} -> {db1}");
    Attempt::to(db1).expect(script, "to itself", |text| is_error(text, 4196) && text.contains(&chain))?;
    let sent = world.redirects()? - before;
    ensure!(sent == 1, "to itself: {sent} redirects");

    // Names of hosts do not depend on case.
    let (name, shouted) = (format!("localhost:{}", db1.port()), format!("LOCALHOST:{}", db1.port()));
    world.redirect(Some(&shouted))?;
    let chain = format!("{name} -> {name}");
    let attempt = Attempt { host: "localhost", ..Attempt::to(db1) };
    attempt.expect(script, &shouted, |text| is_error(text, 4196) && text.to_lowercase().contains(&chain))?;

    // Nor does an address depend on how it is written.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let message = format!("|text|[::ffff:{}]:{}", free.ip(), free.port());
    let itself = Fake::start_on(free, 4196, &message, When::AfterLogin)?;
    let chain = format!("{free} -> {free}");
    Attempt::to(free).expect(script, &message, |text| is_error(text, 4196) && text.contains(&chain))?;
    ensure!(itself.logins() == 1, "{message}: {} logins", itself.logins());

    world.redirect(Some(&db2.to_string()))?;
    redirect(&mut world.two, Some(&db1.to_string()))?;
    let before = world.redirects()?;
    let chain = format!("{db1} -> {db2} -> {db1}");
    let result = Attempt::to(db1).expect(script, "back", |text| is_error(text, 4196) && text.contains(&chain));
    redirect(&mut world.two, None)?;
    result?;
    let sent = world.redirects()? - before;
    ensure!(sent == 1, "back: {sent} redirects");
    Ok(())
}

/// Eight redirects are followed, nine are not.
fn limit(world: &mut World, script: &mut Script) -> Result<()> {
    let mut next = world.db2.address();
    let mut chain = Vec::new();
    for _ in 0..=MAX_HOPS {
        chain.push(Fake::start(4196, &format!("|text|{next}"), When::AfterLogin)?);
        next = chain.last().context("just pushed")?.address();
    }
    let first_of = |length: usize| Attempt::to(chain[length - 1].address());
    first_of(MAX_HOPS).expect(script, "8 redirects", |text| text == "ok db2 db2 db2 plain")?;
    let before = chain[0].logins();
    first_of(MAX_HOPS + 1).expect(script, "9 redirects", |text| is_error(text, 4196) && text.contains(" -> "))?;
    let tried = chain[0].logins() - before;
    ensure!(tried == 1, "9 redirects: the last server but one was tried {tried} times");
    Ok(())
}

/// Each is refused as it stands, and nobody is called.
fn malformed(script: &mut Script) -> Result<()> {
    const TARGETS: &[&str] = &[
        "",
        " ",
        "db2 ",
        " db2",
        ":3306",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:+1",
        "127.0.0.1:-1",
        "127.0.0.1:03306",
        "127.0.0.1: 1",
        "127.0.0.1:1:2",
        "127.0.0.1:1x",
        "127.0.0.1:1\n",
        "127.0.0.1\n",
        "127.0.0.1:999999999999",
        "127.1",
        "127.0.0.256",
        "127.0.0.01",
        "db.1",
        "0x7f000001",
        "db.0x7f",
        "2130706433",
        "::1",
        "::1:3306",
        "[::1",
        "[::1]1",
        "[::1]:",
        "[::1]:0",
        "[]",
        "[127.0.0.1]",
        "[::1%1]",
        "::1]",
        "[[::1]]",
        "a+b",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[ff02::1]",
        "[::ffff:0.0.0.0]",
        "[::ffff:224.0.0.1]",
        "[::ffff:255.255.255.255]",
        "[00001::]",
        "[::1.02.3.4]",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "user@127.0.0.1",
        "127.0.0.1/",
        "127.0.0.1:1/demo",
        "mysql://127.0.0.1",
        "127.0.0.1,127.0.0.2",
        "d\u{e9}",
        "127.0.0.\u{661}",
        "127.0.0.1:\u{661}",
    ];
    let long = [format!("{}.example", "a".repeat(64)), format!("{}a", "a.".repeat(127))];
    for target in TARGETS.iter().copied().chain(long.iter().map(String::as_str)) {
        let message = format!("|Go away.|{target}");
        let fake = Fake::start(4196, &message, When::AfterLogin)?;
        // White space in an answer is made uniform.
        let shown = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = shown.split("\\n").next().unwrap_or_default();
        Attempt::to(fake.address())
            .expect(script, &format!("to {target:?}"), |text| is_error(text, 4196) && text.contains(shown))?;
        ensure!(fake.logins() == 1, "to {target:?}: {} logins", fake.logins());
    }
    Ok(())
}

/// Redirects are 4196 and 4200, in this form, while connecting; everything else is not.
fn other_errors(world: &mut World, script: &mut Script) -> Result<()> {
    let db2 = world.db2.address();
    let (redirect, tempting) = (format!("|text|{db2}"), format!("text|{db2}"));
    for (code, message, is_followed) in [
        (4200, redirect.as_str(), true),
        (4196, &format!("|text | with ||| bars|{db2}"), true),
        (4196, &tempting, false),
        (4196, &format!("|{db2}"), false),
        (4196, &format!(" {redirect}"), false),
        (4196, "Sequence 'a.b' table structure is invalid", false),
        (1045, &redirect, false),
        (4195, &redirect, false),
    ] {
        let fake = Fake::start(code, message, When::AfterLogin)?;
        let case = format!("{code} {message:?}");
        Attempt::to(fake.address()).expect(script, &case, |text| {
            if is_followed {
                text == "ok db2 db2 db2 plain"
            } else {
                is_error(text, code) && text.contains(message.trim())
            }
        })?;
    }
    Ok(())
}

/// The caller's own initial statements run where the attempt ends, and their errors are no redirects.
fn initial_statements(world: &mut World, script: &mut Script, name: &str) -> Result<()> {
    if name == "mysql2_follow" {
        // It has no such option.
        return Ok(());
    }
    let (db1, db2) = (world.db1.address(), world.db2.address());
    let message = format!("|text|{db2}");
    let signal = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '{message}'");
    let with = |init| Attempt { init: Some(init), ..Attempt::to(db1) };
    world.redirect(None)?;
    with(&signal).expect(script, &signal, |text| is_error(text, 4196) && text.contains(&message))?;
    world.redirect(Some(&db2.to_string()))?;
    let change = "UPDATE this_server SET name = 'initialised'";
    let result = with(change).expect(script, change, |text| text == "ok initialised initialised initialised plain");
    world.two.query("UPDATE demo.this_server SET name = 'db2'")?;
    result.map(drop)
}

/// A target without a port is at 3306, wherever the redirect came from.
fn default_port(script: &mut Script, notes: &mut Notes) -> Result<()> {
    const HOST: &str = "127.48.17.5";
    match Fake::start_on(format!("{HOST}:3306").parse()?, 1045, "arrived", When::AfterLogin) {
        Ok(_there) => arrives(script, HOST),
        Err(error) => {
            notes.skipped.push(format!("a target without a port: {HOST}:3306: {error}"));
            Ok(())
        }
    }
}

fn ipv6(script: &mut Script, notes: &mut Notes) -> Result<()> {
    match Fake::start_on((Ipv6Addr::LOCALHOST, 0).into(), 1045, "arrived", When::AfterLogin) {
        Ok(there) => arrives(script, &there.address().to_string()),
        Err(error) => {
            notes.skipped.push(format!("a target with an IPv6 address: {error}"));
            Ok(())
        }
    }
}

fn arrives(script: &mut Script, target: &str) -> Result<()> {
    let fake = Fake::start(4196, &format!("|text|{target}"), When::AfterLogin)?;
    Attempt::to(fake.address()).expect(script, target, |text| is_error(text, 1045) && text.contains("arrived"))?;
    Ok(())
}

/// The caller's TLS settings hold at the hop: a certificate of the authority, and for the host of the hop.
fn tls(world: &mut World, script: &mut Script) -> Result<()> {
    let authority = world.home.path().join(tools::AUTHORITY).display().to_string();
    let localhost = |server: &Server| format!("localhost:{}", server.address().port());
    let other = world.db3.address();
    let (db1, db2) = (world.db1.address().port(), localhost(&world.db2));
    let attempt = Attempt { host: "localhost", port: db1, authority: Some(&authority), init: None };

    world.redirect(None)?;
    attempt.expect(script, "TLS", |text| text == "ok db1 db1 db1 tls")?;
    world.redirect(Some(&db2))?;
    attempt.expect(script, "TLS kept", |text| text == "ok db2 db2 db2 tls")?;

    // The third server is there, and lets clients in that do not ask for a certificate of its name.
    Attempt::to(other).expect(script, "without TLS", |text| text == "ok db3 db3 db3 plain")?;
    world.redirect(Some(&format!("localhost:{}", other.port())))?;
    let is_refused = |text: &str| text.starts_with("error ") && !is_error(text, 4196) && !text.contains("db3");
    attempt.expect(script, "certificate of another name", |text| {
        is_refused(text) && ["ertificate", "ltname", "ostname"].iter().any(|word| text.contains(word))
    })?;

    let without = Fake::start(1045, "arrived without TLS", When::AfterLogin)?;
    world.redirect(Some(&format!("localhost:{}", without.address().port())))?;
    attempt.expect(script, "a server without TLS", |text| is_refused(text) && !text.contains("arrived"))?;
    ensure!(without.logins() == 0, "a server without TLS was told the user");
    Attempt::to(without.address()).expect(script, "control", |text| text.contains("arrived"))?;
    ensure!(without.logins() == 1, "the control was not seen");
    Ok(())
}

/// What comes before TLS is not to be trusted by those who asked for TLS.
fn early(world: &mut World, script: &mut Script, name: &str) -> Result<()> {
    let authority = world.home.path().join(tools::AUTHORITY).display().to_string();
    let message = format!("|text|localhost:{}", world.db2.address().port());
    for when in [When::InsteadOfGreeting, When::WithGreeting] {
        let fake = Fake::start(4196, &message, when)?;
        let attempt =
            Attempt { host: "localhost", port: fake.address().port(), authority: Some(&authority), init: None };
        // The crate `mysql` does not tell an error in the place of the greeting from one inside TLS. README.md says so.
        let is_limit = name == "mysql_follow" && when == When::InsteadOfGreeting;
        let wanted = if is_limit { "ok db2 db2 db2 tls" } else { "error " };
        attempt.expect(script, &format!("{when:?}"), |text| text.starts_with(wanted))?;
    }
    Ok(())
}

fn is_error(text: &str, code: u16) -> bool {
    text.starts_with(&format!("error {code} "))
}
