//! Signals that end every wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals that came.
#[derive(Clone, Debug)]
pub struct Signals {
    last: Arc<AtomicUsize>,
}

/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

impl Signals {
    /// From now on these signals do not end the process.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn catch() -> std::io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
        }
        Ok(Self { last })
    }

    /// Whether a signal has come that was not taken.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.last.load(Ordering::SeqCst) != 0
    }

    /// The name of the last signal, once.
    #[must_use]
    pub fn take(&self) -> Option<&'static str> {
        let signal = i32::try_from(self.last.swap(0, Ordering::SeqCst)).unwrap_or_default();
        match signal {
            0 => None,
            SIGINT => Some("SIGINT"),
            SIGHUP => Some("SIGHUP"),
            _ => Some("SIGTERM"),
        }
    }

    /// Waits, but no longer than until a signal comes.
    pub fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.pending() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}
