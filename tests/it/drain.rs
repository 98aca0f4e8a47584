//! Sessions that a drain ends, in mariadbd.

use std::ptr::null_mut;
use std::time::{Duration, Instant};
use std::{fs, thread};

use support::server::Server;
use support::wire::{Client, Session};

use crate::server_with_plugin;

/// A thread of a server that does not go on before this value is dropped. Signals that it gets meanwhile wait with it.
struct Stopped(libc::pid_t);

impl Stopped {
    fn new(thread: libc::pid_t) -> Self {
        let nothing = null_mut::<libc::c_void>();
        // SAFETY: no memory is read or written.
        let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, nothing, nothing) };
        assert_eq!(done, 0, "this test must be allowed to trace a child: {}", std::io::Error::last_os_error());
        let stopped = Self(thread);
        // SAFETY: as above; waitpid() may be told not to write anything.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, nothing, nothing), 0);
            assert_eq!(libc::waitpid(thread, null_mut(), libc::__WALL), thread);
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let nothing = null_mut::<libc::c_void>();
        // SAFETY: no memory is read or written.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, nothing, nothing) };
    }
}

/// Whether a real-time signal waits for this thread of the server. Others may: the server ignores that a connection is closed.
fn has_signal(server: &Server, thread: libc::pid_t) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/task/{thread}/status", server.pid())).unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
    u64::from_str_radix(pending.trim(), 16).unwrap() >> 31 != 0
}

fn set(root: &mut Session, what: &str) {
    root.query(&format!("SET GLOBAL instant_failover_{what}")).unwrap();
}

/// A pool tests a connection just when a drain has found that it is quiet, and is about to end it.
#[test]
fn a_ping_just_before_the_end_makes_a_session_stay() {
    let server = server_with_plugin();
    let mut root = server.root().unwrap();
    set(&mut root, "target = 'db2', instant_failover_mode = ON, instant_failover_drain = ON");
    // Seldom, the session is stopped before it waits for its client, or the client itself is too slow: it must use the
    // session within 50 ms after the ping.
    let stayed = (0..10).any(|_| {
        set(&mut root, "mode = OFF");
        let mut session = Client::connect(server.address()).unwrap().log_in("app", b"").unwrap().session().unwrap();
        let id = "SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()";
        let id: libc::pid_t = session.query(id).unwrap()[0][0].parse().unwrap();
        thread::sleep(Duration::from_millis(10));
        let stopped = Stopped::new(id);
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                let is_there = session.ping().is_ok();
                // So that the server waits for it.
                thread::sleep(Duration::from_millis(5));
                is_there && session.query("SELECT 1").is_ok()
            });
            set(&mut root, "mode = ON, instant_failover_drain = ON");
            let began = Instant::now();
            let is_woken = || has_signal(&server, id);
            while !is_woken() && began.elapsed() < Duration::from_millis(900) {
                thread::sleep(Duration::from_millis(1));
            }
            let is_woken = is_woken();
            drop(stopped);
            client.join().unwrap() && is_woken
        })
    });
    assert!(stayed, "sessions are ended right after a ping");
}
