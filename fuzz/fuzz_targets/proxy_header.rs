//! The header of a proxy, and the list of networks that it may come from.
#![no_main]

use std::net::IpAddr;

use instant_failover_harness::{Header, MAX_HEADER, ProxyNetworks, Source, read_proxy_header as read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    header(input);
    if let Ok(text) = str::from_utf8(input) {
        networks(text);
    }
});

/// What it is does not depend on the pieces that it comes in, nor on what comes after it; and it has an end.
fn header(input: &[u8]) {
    let whole = read(input);
    let decided = (0..=input.len()).map(|length| read(&input[..length])).position(|header| header != Header::Part);
    let Some(decided) = decided else {
        assert_eq!(whole, Header::Part);
        assert!(input.len() < MAX_HEADER, "{} bytes, and no end", input.len());
        return;
    };
    assert!(decided <= MAX_HEADER, "{decided} bytes to decide");
    for length in decided..=input.len().min(decided + MAX_HEADER) {
        assert_eq!(read(&input[..length]), whole, "{length} bytes");
    }
    if let Header::Whole { length, source } = whole {
        assert_eq!(length, decided);
        if let Source::Address(address) = source {
            assert_eq!(address, address.to_canonical());
        }
    }
}

/// A value that is taken is taken again as it is shown, and holds for IPv4 what it holds for mapped addresses.
fn networks(text: &str) {
    let Ok(networks) = text.parse::<ProxyNetworks>() else { return };
    assert_eq!(networks.to_string(), text);
    assert_eq!(networks.to_string().parse(), Ok(networks.clone()));
    if text.trim_matches([',', ' ']).is_empty() {
        let addresses = [None, Some(IpAddr::from([127, 0, 0, 1])), Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))];
        assert!(addresses.iter().all(|&address| !networks.contain(address)), "{text:?} lets somebody say who they are");
    }
}
