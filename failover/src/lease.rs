//! How long HOLD lasts.
//!
//! It is a lease of the mode, not of a login: all that are held are let in together when it ends. A login that was let in
//! while sessions are still being drained would be ended again at its first statement.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::shown::Shown;

/// The value of `instant_failover_hold_timeout`, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTimeout(u16);

impl HoldTimeout {
    /// The shortest, in seconds.
    pub const MIN: u16 = 1;
    /// The longest, in seconds.
    pub const MAX: u16 = 3600;
    /// The default, in seconds.
    pub const DEFAULT: u16 = 10;

    /// The whole seconds.
    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }
}

impl Default for HoldTimeout {
    fn default() -> Self {
        Self(Self::DEFAULT)
    }
}

impl fmt::Display for HoldTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HoldTimeout {
    type Err = HoldTimeoutError;

    fn from_str(value: &str) -> Result<Self, HoldTimeoutError> {
        match value.parse() {
            Ok(seconds @ Self::MIN..=Self::MAX) => Ok(Self(seconds)),
            _ => Err(HoldTimeoutError(value.to_owned())),
        }
    }
}

/// A value that is not a timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldTimeoutError(String);

impl fmt::Display for HoldTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (HoldTimeout::MIN, HoldTimeout::MAX);
        write!(f, "{} is not a timeout; give whole seconds from {min} to {max}", Shown(&self.0))
    }
}

impl std::error::Error for HoldTimeoutError {}

/// A HOLD that was set at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    began: Instant,
}

impl Lease {
    /// HOLD was set now.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { began: now }
    }

    /// How much of it is left; `None` when it is over. A timeout that is changed meanwhile counts from the same beginning.
    #[must_use]
    pub fn left(self, timeout: HoldTimeout, now: Instant) -> Option<Duration> {
        let all = Duration::from_secs(timeout.0.into());
        all.checked_sub(now.saturating_duration_since(self.began)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{HoldTimeout, Lease};

    #[test]
    fn timeouts_are_whole_seconds_within_the_bounds() {
        for (text, seconds) in [("1", 1), ("10", 10), ("3600", 3600)] {
            let timeout: HoldTimeout = text.parse().unwrap();
            assert_eq!(timeout.seconds(), seconds);
            assert_eq!(timeout.to_string(), text);
        }
        for text in ["", "0", "3601", "-1", "1.5", "ten", "65546"] {
            let error = text.parse::<HoldTimeout>().unwrap_err().to_string();
            assert_eq!(error, format!("'{text}' is not a timeout; give whole seconds from 1 to 3600"));
        }
    }

    #[test]
    fn a_lease_ends_at_its_timeout_counted_from_its_beginning() {
        let began = Instant::now();
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        let (lease, ten, two) = (Lease::new(began), "10".parse().unwrap(), "2".parse().unwrap());
        assert_eq!(lease.left(ten, began), Some(Duration::from_secs(10)));
        assert_eq!(lease.left(ten, after(9_999)), Some(Duration::from_millis(1)));
        assert_eq!(lease.left(ten, after(10_000)), None);
        assert_eq!(lease.left(ten, after(60_000)), None);
        // The timeout is changed after three seconds.
        assert_eq!(lease.left(two, after(3_000)), None);
        assert_eq!(Lease::new(after(3_000)).left(two, after(3_000)), Some(Duration::from_secs(2)));
    }
}
