//! The moment of the switch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::wire::Reply;

use crate::both::{PASSWORD, UnderTest, answer, greeted, log_in, on_both};
use crate::{is_access_denied, redirect_to};

on_both!(a_login_under_way_when_the_mode_is_set_does_not_get_in, no_client_sees_half_a_change);

fn a_login_under_way_when_the_mode_is_set_does_not_get_in<S: UnderTest>() {
    let server = S::start(&[]);
    let mut root = server.root();
    root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
    let waiting = greeted(&server);
    root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
    assert_eq!(answer(waiting, "app", PASSWORD).reply, redirect_to("db2"));
    // The same with a wrong password.
    root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    let waiting = greeted(&server);
    root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
    assert_eq!(answer(waiting, "app", "wrong").reply, redirect_to("db2"));
    // In reverse: back to OFF, a login that began under ON is accepted.
    let waiting = greeted(&server);
    root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    assert_eq!(answer(waiting, "app", PASSWORD).reply, Reply::Ok);
}

/// Clients that connect during changes see one state or another, never a mix.
fn no_client_sees_half_a_change<S: UnderTest>() {
    const CLIENTS: usize = 32;
    const CHANGES: usize = 400;
    let server = S::start(&["--max-connections=500"]);
    let mut root = server.root();
    let (here, there) = ("short:1", "a.much.longer.name.example.com:65535");
    root.query(&format!("SET GLOBAL instant_failover_target = '{here}'")).unwrap();
    let stop = AtomicBool::new(false);
    let attempts = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (stop, server) = (&stop, &server);
                scope.spawn(move || {
                    let mut seen = [0_usize; 3];
                    while !stop.load(Ordering::Relaxed) {
                        // Every fourth client must never be accepted.
                        let password = if n % 4 == 0 { "wrong" } else { PASSWORD };
                        let reply = log_in(server, "app", password);
                        if reply == redirect_to(here) {
                            seen[0] += 1;
                        } else if reply == redirect_to(there) {
                            seen[1] += 1;
                        } else if (password == PASSWORD && reply == Reply::Ok)
                            || (password != PASSWORD && is_access_denied(&reply))
                        {
                            seen[2] += 1;
                        } else {
                            panic!("{password}: {reply:?}");
                        }
                    }
                    seen
                })
            })
            .collect();
        // Even if something here fails: the clients must stop.
        let _stop = StopOnDrop(&stop);
        for n in 0..CHANGES {
            let target = if n % 2 == 0 { there } else { here };
            root.query(&format!("SET GLOBAL instant_failover_target = '{target}'")).unwrap();
            let mode = ["ON", "ON", "ALL", "OFF"][n % 4];
            root.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    for outcome in 0..3 {
        let times: usize = attempts.iter().map(|seen| seen[outcome]).sum();
        assert!(times > 0, "outcome {outcome} never happened: {attempts:?}");
    }
    let counted: usize = root.status("Instant_failover_redirects").unwrap().parse().unwrap();
    assert_eq!(counted, attempts.iter().map(|seen| seen[0] + seen[1]).sum::<usize>());
}

/// Stops the threads that run until this is true.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
