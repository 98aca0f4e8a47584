//! What happens to new connections.

use std::fmt;
use std::str::FromStr;

use super::shown::Shown;

/// The value of `instant_failover_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No connection is redirected: the server behaves as if the plugin were not installed.
    #[default]
    Off,
    /// New TCP connections to the standard port are redirected.
    On,
    /// Every new connection is redirected, including those to the Unix socket and the extra port.
    All,
    /// The connections that `On` would redirect wait, once they have authenticated, until the mode changes. It ends by itself:
    /// see [`Lease`](super::Lease).
    Hold,
}

impl Mode {
    /// Every mode.
    const NAMED: [Self; 4] = [Self::Off, Self::On, Self::All, Self::Hold];

    /// Whether this mode redirects any connection, and so needs a target.
    #[must_use]
    pub const fn redirects(self) -> bool {
        matches!(self, Self::On | Self::All)
    }

    /// The name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::On => "ON",
            Self::All => "ALL",
            Self::Hold => "HOLD",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(value: &str) -> Result<Self, ModeError> {
        Self::NAMED
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(value))
            .ok_or_else(|| ModeError(value.to_owned()))
    }
}

/// A value that is not a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeError(String);

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a mode; give OFF, ON, ALL or HOLD", Shown(&self.0))
    }
}

impl std::error::Error for ModeError {}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn names_are_read_in_any_case_and_nothing_else_is() {
        for (text, mode) in [("OFF", Mode::Off), ("on", Mode::On), ("All", Mode::All), ("hold", Mode::Hold)] {
            assert_eq!(text.parse(), Ok(mode));
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for text in ["", "1", "O", "TRUE", " ON", "ON ", "ALLL", "öff"] {
            let error = text.parse::<Mode>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not a mode; give OFF, ON, ALL or HOLD"));
        }
    }
}
