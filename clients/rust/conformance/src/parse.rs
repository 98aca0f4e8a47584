//! Where attempts to connect lead, by the package's own parser.

use std::io::{BufRead, Write, stdin, stdout};

use anyhow::{Context, Result};
use instant_failover_client::{Follow, FollowError, Next};

/// Lines `origin TAB code:hexmessage TAB …`, each answered with the outcome of the last error.
pub(crate) fn run() -> Result<()> {
    let mut output = stdout().lock();
    for line in stdin().lock().lines() {
        let line = line?;
        writeln!(output, "{}", outcome(&line).with_context(|| line.clone())?)?;
        output.flush()?;
    }
    Ok(())
}

fn outcome(line: &str) -> Result<String> {
    let mut fields = line.split('\t');
    let mut attempt = Follow::from(fields.next().context("no origin")?);
    let mut last = Next::NoRedirect;
    for field in fields {
        let (code, message) = field.split_once(':').context("no code")?;
        last = attempt.refused(code.parse()?, &bytes(message)?);
    }
    Ok(match last {
        Next::GoTo(target) => format!("{}:{}", target.host(), target.port()),
        Next::Stop(FollowError::Circle { .. }) => "circle".to_owned(),
        Next::Stop(FollowError::TooMany { .. }) => "too many".to_owned(),
        Next::Stop(FollowError::BadTarget { .. }) => "malformed".to_owned(),
        Next::NoRedirect => "ordinary".to_owned(),
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    hex.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?)).collect()
}
