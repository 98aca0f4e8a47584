//! A client of the metrics: four bytes say how the rest is cut into pieces, which is what the client sends.
#![no_main]

use std::sync::LazyLock;

use failover::Mode;
use instant_failover_fuzz::{pieces, server};
use instant_failover_harness::{Accounts, Exchange, Next, Shared};
use libfuzzer_sys::fuzz_target;

/// Requests of this length are answered whether they are whole or not.
const MAX_REQUEST: usize = 8 * 1024;

static SERVER: LazyLock<Shared> = LazyLock::new(|| server(Mode::On, Accounts::default(), false));

fuzz_target!(|input: &[u8]| {
    let Some((lengths, request)) = input.split_first_chunk::<4>() else { return };
    let status = answer(request, pieces(request, lengths));
    if request.len() <= MAX_REQUEST {
        assert_eq!(status, answer(request, [request]), "it depends on the pieces");
    }
});

/// The status of the answer, if there is one.
fn answer<'a>(request: &[u8], pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let (mut exchange, mut out, mut taken) = (Exchange::default(), Vec::new(), 0);
    for piece in pieces {
        taken += piece.len();
        match exchange.receive(piece, &SERVER, &mut out) {
            Next::Read => assert!(out.is_empty() && taken <= MAX_REQUEST, "it waits for more"),
            Next::Close => return Some(status(request, &out)),
            next => panic!("{next:?}"),
        }
    }
    None
}

fn status(request: &[u8], answer: &[u8]) -> String {
    let answer = str::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let (status, fields) = head.split_once("\r\n").expect("fields");
    let length = fields.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let is_head = body.is_empty() && request.trim_ascii_start().starts_with(b"HEAD ");
    assert!(is_head || length == body.len().to_string(), "{answer}");
    assert!(answer.len() < 16 * 1024, "{} bytes", answer.len());
    let code = status.strip_prefix("HTTP/1.1 ").expect("HTTP");
    assert!(["200", "400", "404", "405", "431"].contains(&&code[..3]), "{status}");
    status.to_owned()
}
