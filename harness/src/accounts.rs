//! Authentication: the accounts, and the proof that a client has authenticated.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::files::{self, When};

/// The length of a scramble and of a password hash, in bytes.
pub(super) const SCRAMBLE_LENGTH: usize = 20;

/// The nonce that a client mixes with its password, so that an eavesdropper cannot reuse the reply.
#[derive(Clone, PartialEq, Eq)]
pub struct Scramble([u8; SCRAMBLE_LENGTH]);

impl Scramble {
    /// A new one, of random printable bytes: it is sent as a zero-terminated string.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SCRAMBLE_LENGTH];
        getrandom::fill(&mut bytes)?;
        Ok(Self::printable(bytes))
    }

    fn printable(random: [u8; SCRAMBLE_LENGTH]) -> Self {
        Self(random.map(|byte| b'!' + byte % 94))
    }

    pub(super) const fn as_bytes(&self) -> &[u8; SCRAMBLE_LENGTH] {
        &self.0
    }
}

/// Scrambles in stock: the system is asked once for many.
pub(super) struct Scrambles {
    random: [[u8; SCRAMBLE_LENGTH]; Self::STOCK],
    left: usize,
}

impl Scrambles {
    const STOCK: usize = 64;

    /// None in stock yet.
    pub(super) const fn new() -> Self {
        Self { random: [[0; SCRAMBLE_LENGTH]; Self::STOCK], left: 0 }
    }

    /// One that was never given before.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(super) fn take(&mut self) -> Result<Scramble, getrandom::Error> {
        if self.left == 0 {
            getrandom::fill(self.random.as_flattened_mut())?;
            self.left = Self::STOCK;
        }
        self.left -= 1;
        Ok(Scramble::printable(self.random[self.left]))
    }
}

impl fmt::Debug for Scramble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scramble")
    }
}

/// The peer of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address; none on a Unix socket.
    pub address: Option<IpAddr>,
    /// The uid of the process at the other end of a Unix socket.
    pub uid: Option<u32>,
}

/// Proof that a client has authenticated. Only [`Accounts`] creates one, and no client is let in without it.
#[derive(Debug)]
pub struct Authenticated {
    administrator: bool,
}

impl Authenticated {
    /// Whether this client may change global variables.
    pub(super) const fn administrator(&self) -> bool {
        self.administrator
    }
}

/// SHA1(SHA1(password)), which `mysql_native_password` stores. It is nearly as sensitive as the password: it is wiped when
/// dropped, and never shown or copied.
struct PasswordHash(Zeroizing<[u8; SCRAMBLE_LENGTH]>);

impl PasswordHash {
    /// Reads `*` and 40 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('*')?.as_bytes();
        let mut hash = Zeroizing::new([0; SCRAMBLE_LENGTH]);
        let (pairs, []) = digits.as_chunks::<2>() else { return None };
        if pairs.len() != SCRAMBLE_LENGTH {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }

    /// Whether `reply` is SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password))).
    /// See <https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/>.
    fn verify(&self, scramble: &Scramble, reply: &[u8]) -> bool {
        let Ok(reply) = <&[u8; SCRAMBLE_LENGTH]>::try_from(reply) else { return false };
        let mask = Sha1::new().chain_update(scramble.0).chain_update(self.0.as_slice()).finalize();
        let mut first = Zeroizing::new([0; SCRAMBLE_LENGTH]);
        for ((byte, reply), mask) in first.iter_mut().zip(reply).zip(mask) {
            *byte = reply ^ mask;
        }
        Sha1::digest(*first).as_slice().ct_eq(self.0.as_slice()).into()
    }
}

/// Replaces the password hash in the accounts file: the user is let in without a password.
const NO_PASSWORD: &str = "no-password";

/// A sample line of the accounts file.
const EXAMPLE: &str = "app *2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";

/// What an account requires.
enum Password {
    Hash(PasswordHash),
    /// `no-password`.
    None,
}

impl Password {
    /// Parses it from the accounts file.
    fn parse(text: &str) -> Option<Self> {
        if text == NO_PASSWORD { Some(Self::None) } else { PasswordHash::parse(text).map(Self::Hash) }
    }
}

/// A system user that may administer this server over the Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Administrator {
    pub(super) uid: u32,
    pub(super) name: String,
}

/// All accounts. They are identified by the user name alone; the host is not checked.
#[derive(Default)]
pub struct Accounts {
    /// By user name.
    passwords: HashMap<String, Password>,
    administrators: Vec<Administrator>,
    any_login: bool,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("passwords", &self.passwords.len()).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Lets in only `administrators`, over the Unix socket.
    pub(super) fn of(administrators: Vec<Administrator>) -> Self {
        Self { administrators, ..Self::default() }
    }

    /// Adds the accounts in a file. Each line has a user name, blanks, and the password hash as MariaDB prints it (`*` and
    /// 40 hexadecimal digits) or `no-password`. Empty lines and lines that begin with `#` are ignored.
    ///
    /// # Errors
    /// If the file cannot be read or a line is invalid: what is wrong, and where. The error contains no hash.
    pub fn read(mut self, file: &Path, when: When) -> Result<Self, String> {
        let text = files::read_text(file, when);
        let text = text.map_err(|error| format!("accounts file {}: {error}", file.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let account = line.rsplit_once(char::is_whitespace);
            let account = account.and_then(|(user, password)| Some((user.trim_end(), Password::parse(password)?)));
            let place = || format!("accounts file {}, line {}", file.display(), number + 1);
            let Some((user, password)) = account else {
                return Err(format!(
                    "{}: expected a user name and a password hash; for example '{EXAMPLE}', with the output of SELECT \
                     PASSWORD('...'), or 'app {NO_PASSWORD}'",
                    place()
                ));
            };
            if self.passwords.insert(user.to_owned(), password).is_some() {
                return Err(format!("{}: user '{}' is listed twice; keep one entry", place(), user.escape_debug()));
            }
        }
        Ok(self)
    }

    /// Accepts any login. For tests; the caller makes sure that only local clients can reach this server.
    #[must_use]
    pub fn and_anybody(self) -> Self {
        Self { any_login: true, ..self }
    }

    /// Whether anybody but an administrator can log in.
    pub(super) fn has_clients(&self) -> bool {
        self.any_login || !self.passwords.is_empty()
    }

    /// Whether the peer's credentials are sufficient, so that no password is needed.
    pub(super) fn by_peer(&self, user: &str, peer: &Peer) -> Option<Authenticated> {
        let known = self.administrators.iter().any(|one| Some(one.uid) == peer.uid && one.name == user);
        (known || self.any_login).then_some(Authenticated { administrator: true })
    }

    /// Whether `reply` proves that the client knows the password of `user`.
    pub(super) fn by_password(&self, user: &str, scramble: &Scramble, reply: &[u8]) -> Option<Authenticated> {
        // An unknown user takes the same time.
        let unknown = PasswordHash(Zeroizing::new([0; SCRAMBLE_LENGTH]));
        let account = self.passwords.get(user);
        let right = match account {
            Some(Password::None) => reply.is_empty(),
            Some(Password::Hash(hash)) => hash.verify(scramble, reply),
            None => {
                std::hint::black_box(unknown.verify(scramble, reply));
                false
            }
        };
        right.then_some(Authenticated { administrator: false })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write;

    use sha1::{Digest, Sha1};

    use super::{Accounts, Administrator, PasswordHash, Peer, Scramble, Scrambles, When};

    /// What `SELECT PASSWORD('secret')` prints.
    const SECRET: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

    fn reply(password: &str, scramble: &Scramble) -> Vec<u8> {
        let once = Sha1::digest(password);
        let mask = Sha1::new().chain_update(scramble.0).chain_update(Sha1::digest(once)).finalize();
        once.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
    }

    fn read(text: &str) -> Result<Accounts, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Accounts::default().read(file.path(), When::Starting)
    }

    #[test]
    fn only_the_right_password_is_let_in() {
        let accounts = read(&format!("# comment\n\napp {SECRET}\n  a b\t{}\n", SECRET.to_lowercase())).unwrap();
        let scramble = Scramble::random().unwrap();
        let right = reply("secret", &scramble);
        assert!(accounts.by_password("app", &scramble, &right).is_some_and(|proof| !proof.administrator()));
        assert!(accounts.by_password("a b", &scramble, &right).is_some());
        for (user, reply) in [
            ("app", reply("Secret", &scramble)),
            ("app", reply("secret", &Scramble::random().unwrap())),
            ("app", Vec::new()),
            ("app", right[..19].to_vec()),
            ("app", [&right[..], b"x"].concat()),
            ("App", right.clone()),
            ("", right.clone()),
            ("nobody", right.clone()),
            // The correct reply for the hash that is used for unknown users.
            ("nobody", Sha1::new().chain_update(scramble.0).chain_update([0; 20]).finalize().to_vec()),
        ] {
            assert!(accounts.by_password(user, &scramble, &reply).is_none(), "{user} {reply:?}");
        }
        assert!(accounts.by_peer("app", &Peer::default()).is_none());
    }

    /// `SELECT PASSWORD('')` prints nothing: a line without a hash must not let a client in without a password.
    #[test]
    fn no_password_is_said_in_a_word() {
        let accounts = read(&format!("haproxy no-password\napp {SECRET}\n")).unwrap();
        let scramble = Scramble::random().unwrap();
        assert!(accounts.by_password("haproxy", &scramble, b"").is_some_and(|proof| !proof.administrator()));
        for (user, reply) in [
            ("haproxy", reply("", &scramble)),
            ("haproxy", reply("secret", &scramble)),
            ("haproxy", vec![0; 20]),
            ("app", Vec::new()),
            ("nobody", Vec::new()),
        ] {
            assert!(accounts.by_password(user, &scramble, &reply).is_none(), "{user} {reply:?}");
        }
    }

    #[test]
    fn what_an_error_suggests_is_accepted() {
        let error = read("app").unwrap_err();
        let suggested: Vec<_> = error.split('\'').filter(|quoted| quoted.starts_with("app ")).collect();
        assert_eq!(suggested.len(), 2, "{error}");
        for line in suggested {
            assert_eq!(read(line).unwrap().passwords.len(), 1, "{error}");
        }
    }

    #[test]
    fn scrambles_are_printable_and_differ() {
        let (one, other) = (Scramble::random().unwrap(), Scramble::random().unwrap());
        assert!(one.0.iter().all(u8::is_ascii_graphic), "{:?}", one.0);
        assert_ne!(one, other);
        let mut scrambles = Scrambles::new();
        let given: HashSet<_> = (0..=2 * Scrambles::STOCK).map(|_| scrambles.take().unwrap().0).collect();
        assert_eq!(given.len(), 2 * Scrambles::STOCK + 1);
        assert!(given.iter().flatten().all(u8::is_ascii_graphic), "{given:?}");
    }

    #[test]
    fn administrators_come_as_themselves() {
        let accounts = Accounts::of(vec![
            Administrator { uid: 0, name: "root".to_owned() },
            Administrator { uid: 7, name: "mysql".to_owned() },
        ]);
        for (user, uid, known) in [
            ("root", Some(0), true),
            ("mysql", Some(7), true),
            ("root", Some(7), false),
            ("mysql", Some(0), false),
            ("root", Some(8), false),
            ("root", None, false),
        ] {
            let peer = Peer { address: None, uid };
            assert_eq!(accounts.by_peer(user, &peer).is_some(), known, "{user} {uid:?}");
        }
    }

    #[test]
    fn wrong_files_are_refused_without_repeating_hashes() {
        for (line, expected) in [
            (format!("app {}", &SECRET[..40]), "line 2: expected a user name and a password hash"),
            (format!("app {SECRET}0"), "line 2: expected"),
            (format!("app {}", SECRET.replace('*', "+")), "line 2: expected"),
            (format!("app {}", SECRET.replace('E', "G")), "line 2: expected"),
            (SECRET.to_owned(), "line 2: expected"),
            ("app".to_owned(), "line 2: expected"),
            ("app ''".to_owned(), "line 2: expected"),
            ("app *".to_owned(), "line 2: expected"),
            ("app NO-PASSWORD".to_owned(), "line 2: expected"),
            ("no-password".to_owned(), "line 2: expected"),
            (format!("first {SECRET}"), "line 2: user 'first' is listed twice"),
        ] {
            let error = read(&format!("first {SECRET}\n{line}\n")).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(&SECRET[1..30]), "{error}");
        }
        assert!(
            Accounts::default()
                .read("/nonexistent".as_ref(), When::Starting)
                .unwrap_err()
                .contains("/nonexistent: No such file")
        );
    }

    #[test]
    fn secrets_are_wiped_and_cannot_be_shown_or_copied() {
        static_assertions::assert_not_impl_any!(PasswordHash: Clone, Copy, std::fmt::Debug, std::fmt::Display);
        static_assertions::assert_impl_all!(zeroize::Zeroizing<[u8; 20]>: zeroize::ZeroizeOnDrop);
        assert_eq!(format!("{:?}", read(&format!("app {SECRET}")).unwrap()), "Accounts { passwords: 1, .. }");
    }
}
