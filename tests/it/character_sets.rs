//! Non-ASCII messages for clients of every character set.

use support::wire::{Client, handshake_response};

use crate::both::{MariaDb, Standalone, UnderTest};

/// At least one collation of each character set that both servers know: latin1, latin2, cp1250, cp1251, cp1257, cp866,
/// koi8r, koi8u, hebrew, ascii and utf8; and 0, the server's default.
const COLLATIONS: [u8; 20] = [0, 2, 5, 7, 8, 9, 11, 14, 16, 22, 26, 29, 33, 36, 45, 47, 50, 51, 59, 224];

/// The error that a client of each collation gets.
fn told<S: UnderTest>(message: &str) -> Vec<String> {
    let server = S::start(&[]);
    let mut root = server.root();
    root.query("SET NAMES utf8mb4").unwrap();
    root.query(&format!("SET GLOBAL instant_failover_target = 'db2', instant_failover_message = '{message}'")).unwrap();
    root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
    let told = |collation: u8| {
        let mut client = Client::connect(server.address()).unwrap();
        client.greeting().unwrap();
        let mut response = handshake_response("app", b"", 0);
        response[8] = collation;
        client.write(&response).unwrap();
        format!("{collation}: {}", client.read().unwrap().escape_ascii())
    };
    COLLATIONS.map(told).into()
}

#[test]
fn both_tell_a_client_the_same() {
    for message in ["Grüß Gott: žluťoučký kůň, Новый сервер, € to %s", "καλημέρα, שלום, 新しい, «%s» ½"]
    {
        assert_eq!(told::<Standalone>(message), told::<MariaDb>(message));
    }
}
