//! The parsers: where do errors lead?

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use failover::{Follow, FollowError, Next};
use serde_json::Value;
use support::project_root;
use tempfile::NamedTempFile;

use super::language::Language;
use crate::common::script::Script;

pub(super) const SCENARIO: &str = "targets are parsed as by the server, circles and the limit found";

/// Random messages.
const TIMES: usize = 100_000;
/// The same in every run.
const SEED: u64 = 4196;
/// Sent before the answers are read.
const AHEAD: usize = 100;

/// Errors of one attempt to connect.
struct Attempt {
    origin: String,
    errors: Vec<(u16, Vec<u8>)>,
}

impl Attempt {
    fn one(message: Vec<u8>) -> Self {
        Self { origin: "db1:3306".to_owned(), errors: vec![(4196, message)] }
    }

    /// As an adapter reads it.
    fn line(&self) -> String {
        let mut line = self.origin.clone();
        for (code, message) in &self.errors {
            let _ = write!(line, "\t{code}:");
            for byte in message {
                let _ = write!(line, "{byte:02x}");
            }
        }
        line
    }

    /// As the project's own parser sees it.
    fn outcome(&self) -> String {
        let mut follow = Follow::from(self.origin.as_str());
        let mut last = Next::NoRedirect;
        for (code, message) in &self.errors {
            last = follow.refused(*code, message);
        }
        match last {
            Next::GoTo(target) => format!("{}:{}", target.host(), target.port()),
            Next::Stop(FollowError::Circle { .. }) => "circle".to_owned(),
            Next::Stop(FollowError::TooMany { .. }) => "too many".to_owned(),
            Next::Stop(FollowError::BadTarget { .. }) => "malformed".to_owned(),
            Next::NoRedirect => "ordinary".to_owned(),
        }
    }
}

/// Compares a language's parser with the vectors, and with the project's own.
pub(super) fn check(language: &Language) -> Result<()> {
    let stderr = NamedTempFile::new()?;
    let mut script = Script::start(&mut language.adapter(&["parse"])?, stderr.path())?;
    let result = compare(&mut script).with_context(|| script.errors());
    result.and_then(|()| script.end())
}

fn compare(script: &mut Script) -> Result<()> {
    let vectors = vectors()?;
    for (attempt, expected) in &vectors {
        // The vectors say what the project's own parser does, too.
        ensure!(attempt.outcome() == *expected, "the project's own parser: '{}' for {expected}", attempt.outcome());
    }
    let mut random = fastrand::Rng::with_seed(SEED);
    let messages: Vec<_> = vectors.iter().flat_map(|(attempt, _)| &attempt.errors).map(|(_, bytes)| bytes).collect();
    let attempts: Vec<_> = (0..TIMES).map(|_| any_attempt(&messages, &mut random)).collect();
    let followed = attempts.iter().filter(|attempt| attempt.outcome().contains(':')).count();
    ensure!((TIMES / 10..TIMES * 9 / 10).contains(&followed), "{followed} of {TIMES} random messages are redirects");

    let all: Vec<_> = vectors.iter().map(|(attempt, _)| attempt).chain(&attempts).collect();
    let (mut wrong, mut first) = (0, None);
    for some in all.chunks(AHEAD) {
        for attempt in some {
            script.send(&attempt.line())?;
        }
        for attempt in some {
            let (found, expected) = (script.answer()?, attempt.outcome());
            if found != expected {
                wrong += 1;
                first.get_or_insert_with(|| {
                    let shown =
                        attempt.errors.iter().map(|(code, bytes)| format!("{code} \"{}\"", bytes.escape_ascii()));
                    format!(
                        "'{found}' instead of '{expected}' for {}: {}",
                        attempt.origin,
                        shown.collect::<Vec<_>>().join(", ")
                    )
                });
            }
        }
    }
    println!("         {} vectors, {TIMES} random messages with seed {SEED}: {wrong} differ", vectors.len());
    match first {
        None => Ok(()),
        Some(first) => bail!("{wrong} outcomes differ; the first: {first}"),
    }
}

/// The test vectors of `docs/protocol.md`, each with its outcome.
fn vectors() -> Result<Vec<(Attempt, String)>> {
    let file = project_root().join("docs/protocol-vectors.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let mut all = Vec::new();
    for vector in vectors["messages"].as_array().context("no messages")? {
        let bytes = match (vector["message"].as_str(), vector["hex"].as_str()) {
            (Some(message), _) => message.as_bytes().to_vec(),
            (None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2).map(str::from_utf8);
                digits.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect::<Result<_>>()?
            }
            _ => bail!("neither message nor hex: {vector}"),
        };
        let outcome = match &vector["target"] {
            Value::Object(target) => {
                let host = target["host"].as_str().context("no host")?;
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                format!("{host}:{}", target["port"])
            }
            Value::String(malformed) => malformed.clone(),
            _ => "ordinary".to_owned(),
        };
        all.push((Attempt::one(bytes), outcome));
    }
    for vector in vectors["attempts"].as_array().context("no attempts")? {
        let mut errors = Vec::new();
        for error in vector["errors"].as_array().context("no errors")? {
            let code = error[0].as_u64().and_then(|code| u16::try_from(code).ok()).context("no code")?;
            errors.push((code, error[1].as_str().context("no message")?.as_bytes().to_vec()));
        }
        let origin = vector["origin"].as_str().context("no origin")?.to_owned();
        all.push((Attempt { origin, errors }, vector["outcome"].as_str().context("no outcome")?.to_owned()));
    }
    ensure!(all.len() > 100, "{} vectors", all.len());
    Ok(all)
}

/// Mostly one error; now and then as many redirects as an attempt may follow, and one more.
fn any_attempt(messages: &[&Vec<u8>], random: &mut fastrand::Rng) -> Attempt {
    const ORIGINS: &[&str] = &["db1:3306", "DB2.example:3307", "[::1]:3306", "[2001:db8::1]:3306", "/run/mysqld.sock"];
    let count = match random.u8(..20) {
        0 => random.usize(2..=9),
        1..5 => 2,
        _ => 1,
    };
    let mut errors = Vec::new();
    for number in 0..count {
        let code = *random.choice(&[4196, 4196, 4196, 4196, 4200, 1045, 0]).unwrap_or(&4196);
        let is_last = number + 1 == count;
        errors.push(match random.u8(..8) {
            // A circle, perhaps.
            0 if is_last => (4196, format!("|again|{}", random.choice(ORIGINS).unwrap_or(&"db1")).into_bytes()),
            1 if is_last => (4196, format!("|again|HOP{}.example", random.u8(..9)).into_bytes()),
            _ if is_last => (code, any_message(messages, random)),
            // An attempt does not go on after anything but a redirect that is followed.
            _ => (4196, format!("|text|hop{number}.example").into_bytes()),
        });
    }
    Attempt { origin: (*random.choice(ORIGINS).unwrap_or(&"db1:3306")).to_owned(), errors }
}

/// One of the vectors, or a message with something similar to a target, with a few bytes changed.
fn any_message(messages: &[&Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    const BYTES: &[u8] = b":.0123456789abcfgxX-_[]|%/ +@\n\0\x83\xc3\xa9\xff";
    let mut message = match random.choice(messages) {
        Some(&message) if random.bool() => message.clone(),
        _ => format!("|text|{}", any_target(random)).into_bytes(),
    };
    // Most changes are made to the target.
    let target = message.iter().rposition(|&byte| byte == b'|').map_or(0, |bar| bar + 1);
    for _ in 0..random.u8(..4) {
        let from = if random.u8(..8) == 0 { 0 } else { target.min(message.len()) };
        let place = random.usize(from..=message.len());
        let byte = *random.choice(BYTES).unwrap_or(&b'0');
        match random.u8(..3) {
            0 => message.insert(place, byte),
            1 if place < message.len() => message[place] = byte,
            2 if place < message.len() => drop(message.remove(place)),
            _ => {}
        }
    }
    message
}

/// Something similar to a target.
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
    let mut target = match random.u8(..4) {
        // IPv6 groups of every kind.
        0 => {
            let groups: Vec<_> = (0..random.usize(6..=9))
                .map(|_| match random.u8(..8) {
                    0 => String::new(),
                    1 => format!("{}.0.2.{}", random.u8(..), random.u8(..)),
                    2..5 => "0".to_owned(),
                    _ => format!("{:x}", random.u16(..)),
                })
                .collect();
            format!("[{}]", groups.join(":"))
        }
        1 => format!("{}.{}.{}.{}", random.u8(..), random.u16(..300), random.u8(..), random.u8(..)),
        _ => (*random.choice(HOSTS).unwrap_or(&"db2")).to_owned(),
    };
    if random.bool() {
        let _ = write!(target, ":{}", random.u32(..70_000));
    }
    target
}
