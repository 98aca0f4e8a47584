//! What the fuzz targets share: servers to talk to, and packets taken apart without the server's own code.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use failover::{Mode, Settings, Transport, Variable};
use instant_failover_harness::{Accounts, Configuration, Identity, Peer, Shared};
use rustls::server::ResolvesServerCertUsingSni;

/// Where the servers here send clients.
pub const TARGET: &str = "db2.example.com:3307";

/// A server that no client connects to. If it `offers_tls`, that has no certificate: it is only asked for.
///
/// # Panics
/// If the settings are refused.
#[must_use]
pub fn server(mode: Mode, accounts: Accounts, offers_tls: bool) -> Shared {
    let settings = [(Variable::Target, TARGET.to_owned()), (Variable::Mode, mode.to_string())]
        .into_iter()
        .try_fold(Settings::default(), |settings, (variable, value)| settings.set(variable, value.as_bytes()))
        .expect("they are valid");
    let tls = || {
        let builder = rustls::ServerConfig::builder().with_no_client_auth();
        Arc::new(builder.with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new())))
    };
    let configuration =
        Configuration { accounts: accounts.into(), tls: offers_tls.then(tls), ..Configuration::default() };
    let identity = Identity { hostname: "db1.example.com".to_owned(), port: 3306, ..Identity::default() };
    Shared::new(settings, configuration, identity)
}

/// A client, and the way it has come: over TCP, or as root through the Unix socket.
#[must_use]
pub fn client(local: bool) -> (Peer, Transport) {
    if local {
        (Peer { address: None, uid: Some(0) }, Transport::Local)
    } else {
        let address = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        (Peer { address, uid: None }, Transport::Tcp { extra: false })
    }
}

/// Bytes as they may come from a socket: in pieces whose lengths are `lengths`, over and over. A length of 0 takes all
/// that is left.
pub fn pieces<'a>(mut bytes: &'a [u8], lengths: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    lengths.iter().cycle().map_while(move |&length| {
        if bytes.is_empty() {
            return None;
        }
        let length = if length == 0 { bytes.len() } else { usize::from(length).min(bytes.len()) };
        bytes.split_off(..length)
    })
}

/// A packet.
#[must_use]
pub fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

/// Cuts the first packet off `bytes`: its number, and its payload. None if it is not whole.
pub fn cut<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[low, middle, high, number], rest) = bytes.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes([low, middle, high, 0]) as usize)?;
    *bytes = rest;
    Some((number, payload))
}

/// What a server has sent: packets with their numbers.
///
/// # Panics
/// If that is not made of whole packets.
#[must_use]
pub fn packets(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let packets = std::iter::from_fn(|| cut(&mut bytes)).collect();
    assert!(bytes.is_empty(), "a part of a packet: {}", bytes.escape_ascii());
    packets
}

/// The code and the message of an error packet, whether or not it has an SQLSTATE. None if it is another packet.
///
/// # Panics
/// If the SQLSTATE is not whole.
#[must_use]
pub fn error(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (&[0xff, low, high], rest) = payload.split_first_chunk()? else { return None };
    let message = rest.strip_prefix(b"#").map_or(rest, |rest| rest.get(5..).expect("an SQLSTATE has 5 characters"));
    Some((u16::from_le_bytes([low, high]), message))
}

/// Whether a packet asks the client to start again with another authentication plugin.
#[must_use]
pub fn is_switch(payload: &[u8]) -> bool {
    payload.starts_with(b"\xfemysql_native_password\0")
}
