//! The log: one line for each event, on standard error.
//!
//! No client can forge a line: every event stays on one line. Events that clients can cause are logged under [`CLIENTS`], at
//! most once a second for each kind; the next line says how many were suppressed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of events that clients can cause at will.
pub(super) const CLIENTS: &str = "clients";

/// The minimum time between two lines of the same kind under [`CLIENTS`].
const INTERVAL: Duration = Duration::from_secs(1);

/// Starts logging.
pub(super) fn start(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_max_level(level)
        .event_format(Lines { format: Format::default().with_target(false).with_ansi(false), limits: Mutex::default() })
        .init();
    // The message of a panic may contain data from a client.
    std::panic::set_hook(Box::new(|panic| error!(target: CLIENTS, "internal error: {panic}")));
}

struct Lines {
    format: Format,
    limits: Mutex<HashMap<Identifier, Limit>>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut left_out = 0;
        // The level debug logs every connection, without a limit.
        if event.metadata().target() == CLIENTS && *event.metadata().level() < Level::DEBUG {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = limits.entry(event.metadata().callsite()).or_default();
            match limit.pass(Instant::now()) {
                // An event without a line.
                None => return Ok(()),
                Some(number) => left_out = number,
            }
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        write_escaped(&mut writer, line.trim_end_matches('\n'))?;
        if left_out > 0 {
            write!(writer, " ({left_out} similar messages suppressed)")?;
        }
        writer.write_char('\n')
    }
}

/// How often a kind of event is logged.
#[derive(Debug, Default)]
struct Limit {
    last: Option<Instant>,
    left_out: u64,
}

impl Limit {
    /// The number of events suppressed since the last line, or none if this one is suppressed too.
    fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Writes text, and escapes characters that end a line, move the cursor, or change the direction of text.
fn write_escaped(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    for character in text.chars() {
        if is_plain(character) {
            out.write_char(character)?;
        } else {
            write!(out, "{}", character.escape_default())?;
        }
    }
    Ok(())
}

const fn is_plain(character: char) -> bool {
    !matches!(character,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // Marks of direction, joiners, line and paragraph separators, overrides, isolates, the byte order mark, tags.
        | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Limit, write_escaped};

    #[test]
    fn no_text_leaves_its_line() {
        let mut line = String::new();
        write_escaped(&mut line, "caf\u{e9} a\nb\r\x1b[31mc\0\u{85}\u{2028}\u{202e}d\u{9b}e").unwrap();
        assert_eq!(line, "caf\u{e9} a\\nb\\r\\u{1b}[31mc\\u{0}\\u{85}\\u{2028}\\u{202e}d\\u{9b}e");
    }

    #[test]
    fn one_line_a_second_of_a_kind() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        let mut pass = |milliseconds| limit.pass(start + Duration::from_millis(milliseconds));
        assert_eq!([0, 1, 500, 999, 1000, 1001].map(&mut pass), [Some(0), None, None, None, Some(3), None]);
        assert_eq!([5000, 6000].map(pass), [Some(1), Some(0)]);
    }
}
