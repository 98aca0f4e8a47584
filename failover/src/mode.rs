//! Which new connections are redirected.

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
}

impl Mode {
    /// Whether this mode redirects any connection, and so needs a target.
    #[must_use]
    pub const fn redirects(self) -> bool {
        !matches!(self, Self::Off)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "OFF",
            Self::On => "ON",
            Self::All => "ALL",
        })
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(value: &str) -> Result<Self, ModeError> {
        [Self::Off, Self::On, Self::All]
            .into_iter()
            .find(|mode| mode.to_string().eq_ignore_ascii_case(value))
            .ok_or_else(|| ModeError(value.to_owned()))
    }
}

/// A value that is not a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeError(String);

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a mode; give OFF, ON or ALL", Shown(&self.0))
    }
}

impl std::error::Error for ModeError {}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn names_are_read_in_any_case_and_nothing_else_is() {
        for (text, mode) in [("OFF", Mode::Off), ("on", Mode::On), ("All", Mode::All)] {
            assert_eq!(text.parse(), Ok(mode));
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for text in ["", "1", "O", "TRUE", " ON", "ON ", "ALLL", "öff"] {
            let error = text.parse::<Mode>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not a mode; give OFF, ON or ALL"));
        }
    }
}
