//! A value that is on or off.

use std::fmt;
use std::str::FromStr;

use super::shown::Shown;

/// The value of `instant_failover_drain`, written like a boolean variable of MariaDB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// `OFF`, `FALSE` or `0`
    #[default]
    Off,
    /// `ON`, `TRUE` or `1`
    On,
}

impl Switch {
    /// Whether it is on.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "ON" } else { "OFF" })
    }
}

impl FromStr for Switch {
    type Err = SwitchError;

    fn from_str(value: &str) -> Result<Self, SwitchError> {
        match value.to_ascii_uppercase().as_str() {
            "ON" | "TRUE" | "1" => Ok(Self::On),
            "OFF" | "FALSE" | "0" => Ok(Self::Off),
            _ => Err(SwitchError(value.to_owned())),
        }
    }
}

/// A value that is neither on nor off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchError(String);

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a boolean; give ON or OFF", Shown(&self.0))
    }
}

impl std::error::Error for SwitchError {}

#[cfg(test)]
mod tests {
    use super::Switch;

    #[test]
    fn values_are_those_of_a_boolean_variable() {
        for (text, switch) in [
            ("ON", Switch::On),
            ("true", Switch::On),
            ("1", Switch::On),
            ("off", Switch::Off),
            ("FALSE", Switch::Off),
            ("0", Switch::Off),
        ] {
            assert_eq!(text.parse(), Ok(switch));
            assert_eq!(switch.to_string().parse(), Ok(switch));
        }
        for text in ["", "2", "-1", "yes", " ON", "NULL"] {
            let error = text.parse::<Switch>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not a boolean; give ON or OFF"));
        }
    }
}
