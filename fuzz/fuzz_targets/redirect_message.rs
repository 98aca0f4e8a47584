//! A client that follows, and servers that say anything to it: the parts of the input between bytes 0xff are their
//! messages.
#![no_main]

use failover::message::{self, MAX_LENGTH};
use failover::{ER_INSTANT_FAILOVER, Follow, FollowError, MAX_HOPS, Message, Next, Target, Text};
use libfuzzer_sys::fuzz_target;

const ORIGIN: &str = "db1.example.com:3306";

fuzz_target!(|input: &[u8]| {
    let mut attempt = Follow::from(ORIGIN);
    let mut seen = vec![ORIGIN.to_owned()];
    for said in input.split(|&byte| byte == 0xff) {
        check(said);
        let before = attempt.clone();
        assert_eq!(attempt.refused(1045, said), Next::NoRedirect);
        let next = attempt.refused(ER_INSTANT_FAILOVER, said);
        let Next::GoTo(target) = next else {
            assert_eq!(attempt, before);
            if let Next::Stop(error) = next {
                check_error(&error);
            }
            continue;
        };
        let address = format!("{}:{}", target.host(), target.port()).to_ascii_lowercase();
        assert!(!seen.contains(&address), "{address} is visited twice");
        seen.push(address);
        assert!(seen.len() <= 1 + MAX_HOPS);
        assert!(attempt.was_redirected());
    }
});

/// Checks that what is found in a message is found in what it would be written as, too.
fn check(said: &[u8]) {
    let Ok(parsed) = message::parse(said) else { return };
    let shown = parsed.target.to_string();
    assert!(shown.len() <= 253 + ":65535".len(), "{shown}");
    assert_eq!(shown.parse::<Target>().as_ref(), Ok(&parsed.target));
    let Ok(text) = String::from_utf8_lossy(parsed.text).parse::<Text>() else { return };
    let message = Message::new(&text, &parsed.target);
    assert!(message.as_bytes().len() <= MAX_LENGTH);
    assert_eq!(message::parse(message.as_bytes()).expect("a redirect").target, parsed.target);
}

/// People and logs get to see these.
fn check_error(error: &FollowError) {
    let text = error.to_string();
    assert!(text.len() < 300 * (2 + MAX_HOPS), "{} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
