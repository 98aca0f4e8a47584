//! Waking a thread that waits for its client.
//!
//! A signal interrupts the wait: the server finds `EINTR`, tries to read again, finds nothing again, and so comes by
//! [`idle`](super::idle) again. The handler does nothing. Calls that can be resumed are (`SA_RESTART`), so that a thread that
//! has just got a command notices nothing.

use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signal; 0 before the first drain.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn nothing(_signal: libc::c_int) {}

/// Finds a signal that nobody uses, and gives it a handler. The handler stays for good: without one, a signal that comes late
/// would end the process.
///
/// # Errors
/// There is none.
pub(super) fn prepare() -> Result<(), String> {
    let own = SIGNAL.load(Ordering::Relaxed);
    // Somebody else may have taken it since.
    if own != 0 && handler(own) == Some(nothing as *const () as libc::sighandler_t) {
        return Ok(());
    }
    let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|&signal| handler(signal) == Some(libc::SIG_DFL));
    let signal = free.ok_or("another part of the server uses every real-time signal; end sessions by KILL instead")?;
    // SAFETY: all zeros are a value of this struct: no flags, and a mask that is empty.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler may run in any thread at any time: it does nothing. Nobody used the signal a moment ago.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
        return Err("the system refuses a handler for a signal; end sessions by KILL instead".to_owned());
    }
    SIGNAL.store(signal, Ordering::Relaxed);
    Ok(())
}

/// What handles a signal.
fn handler(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: all zeros are a value of this struct, which the system fills in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, ptr::null(), &raw mut action) == 0).then_some(action.sa_sigaction)
    }
}

/// Wakes a thread of this process. One that has ended is none: nothing happens.
pub(super) fn send(thread: libc::pid_t) {
    let signal = SIGNAL.load(Ordering::Relaxed);
    if signal != 0 {
        // SAFETY: the signal has a handler, which does nothing.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    }
}

/// Whether a thread waits in `poll()`; `None` if the system does not tell.
pub(super) fn is_polling(thread: libc::pid_t) -> Option<bool> {
    let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?;
    let number: libc::c_long = match call.split(' ').next()?.trim() {
        "running" => return Some(false),
        number => number.parse().ok()?,
    };
    Some(POLLS.contains(&number))
}

#[cfg(target_arch = "x86_64")]
const POLLS: [libc::c_long; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const POLLS: [libc::c_long; 1] = [libc::SYS_ppoll];

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{handler, is_polling, prepare, send};

    #[test]
    fn a_thread_that_polls_is_seen_and_woken() {
        prepare().unwrap();
        prepare().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = mpsc::channel();
        let waits = thread::spawn(move || {
            use std::os::fd::AsRawFd;
            let mut poll = libc::pollfd { fd: ours.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry; errno is this thread's own.
            unsafe {
                sender.send(libc::syscall(libc::SYS_gettid)).unwrap();
                (libc::poll(&raw mut poll, 1, 20_000), *libc::__errno_location())
            }
        });
        let thread = i32::try_from(receiver.recv().unwrap()).unwrap();
        let limit = Instant::now() + Duration::from_secs(10);
        while is_polling(thread) != Some(true) {
            assert!(Instant::now() < limit);
            thread::sleep(Duration::from_millis(1));
        }
        send(thread);
        assert_eq!(waits.join().unwrap(), (-1, libc::EINTR));
        // It is gone.
        send(thread);
        assert_eq!(handler(libc::SIGRTMIN()), Some(libc::SIG_DFL));
    }
}
