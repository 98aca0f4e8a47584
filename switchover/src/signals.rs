//! Signals: until something changes, they end the process; from then on, they end every wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals that came.
#[derive(Clone, Debug)]
pub struct Signals {
    last: Arc<AtomicUsize>,
    /// Whether nothing has changed yet.
    is_idle: Arc<AtomicBool>,
}

/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

impl Signals {
    /// They end the process until [`hold`](Self::hold).
    ///
    /// # Errors
    /// If the system refuses.
    pub fn catch() -> std::io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        let is_idle = Arc::new(AtomicBool::new(true));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&is_idle))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
        }
        Ok(Self { last, is_idle })
    }

    /// Something changes now: from here on, they do not end the process.
    pub fn hold(&self) {
        self.is_idle.store(false, Ordering::SeqCst);
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
