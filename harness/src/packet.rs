//! Packets: splitting bytes into packets, and the packets that this server sends.
//!
//! See <https://mariadb.com/kb/en/0-packet/> for the frame, and <https://mariadb.com/kb/en/4-server-response-packets/> for
//! what is in it.

use mysql_common::constants::{CapabilityFlags, ColumnType, StatusFlags};
use mysql_common::io::BufMutExt;
use mysql_common::packets::{AuthSwitchRequest, ErrPacket, HandshakePacket, ServerError, SqlState};
use mysql_common::proto::MySerialize;

use super::accounts::{Authenticated, SCRAMBLE_LENGTH, Scramble};

/// The maximum length of a client's packet. No request that this server can answer is longer.
pub const MAX_PACKET: usize = 64 * 1024;

/// The same before the login: it bounds the memory that a client can make this server use. Real logins have a few hundred
/// bytes, or a few thousand with a token instead of a password.
pub const MAX_LOGIN: usize = 8 * 1024;

const HEADER_LENGTH: usize = 4;

/// `utf8mb4_general_ci`: the character set of everything this server sends.
pub(super) const UTF8MB4_GENERAL_CI: u8 = 45;
/// `binary`: the character set of values that are not text.
const BINARY: u16 = 63;

/// The only authentication plugin. The other way to log in is by the credentials of the peer on a Unix socket.
pub(super) const NATIVE_PASSWORD: &[u8] = b"mysql_native_password";

/// What the event loop does with a connection once the bytes for the client are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read on.
    Read,
    /// Send everything before [`receive`](super::Connection::receive) is called again, with no bytes: more can be answered.
    SendFirst,
    /// Start TLS as the server. What [`take_input`](super::Connection::take_input) returns belongs to it.
    StartTls,
    /// Read nothing until the settings have changed, then call [`judge_anew`](super::Connection::judge_anew).
    Hold,
    /// Close the connection.
    Close,
}

/// What the received bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A packet, and the bytes after it.
    Packet { sequence: u8, payload: &'a [u8], rest: &'a [u8] },
    /// An incomplete packet.
    Part,
    /// A packet whose length exceeds the limit.
    TooLong { sequence: u8 },
}

/// Splits the first packet off `bytes`. The length in its header is used only to split the bytes that were received;
/// lengths over `longest` are refused.
pub(super) fn cut(bytes: &[u8], longest: usize) -> Frame<'_> {
    let Some((&[low, middle, high, sequence], rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() else {
        return Frame::Part;
    };
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    if length > longest {
        return Frame::TooLong { sequence };
    }
    match rest.split_at_checked(length) {
        Some((payload, rest)) => Frame::Packet { sequence, payload, rest },
        None => Frame::Part,
    }
}

/// An error with MariaDB's error code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqlError {
    pub(super) code: u16,
    pub(super) state: [u8; 5],
    pub(super) message: String,
}

impl SqlError {
    pub(super) fn new(code: u16, state: [u8; 5], message: impl Into<String>) -> Self {
        Self { code, state, message: message.into() }
    }
}

/// The error for a connection beyond the limit.
pub(super) fn too_many_connections() -> SqlError {
    SqlError::new(1040, *b"08004", "Too many connections")
}

/// Writes packets with consecutive sequence numbers.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    sequence: u8,
    capabilities: CapabilityFlags,
}

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) value: Value,
}

/// A value in a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    /// A number with a fraction, as written in the statement.
    Decimal(String),
    Text(String),
}

impl Value {
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Integer(number) => Some(number.to_string()),
            Self::Decimal(text) | Self::Text(text) => Some(text.clone()),
        }
    }

    const fn column_type(&self) -> ColumnType {
        match self {
            Self::Integer(_) => ColumnType::MYSQL_TYPE_LONGLONG,
            Self::Decimal(_) => ColumnType::MYSQL_TYPE_NEWDECIMAL,
            // Values that can be NULL here, such as DATABASE(), are otherwise text.
            Self::Null | Self::Text(_) => ColumnType::MYSQL_TYPE_VAR_STRING,
        }
    }
}

/// Writes the first packet of a connection: what this server is, and the scramble for the password.
pub(super) fn greeting(out: &mut Vec<u8>, id: u32, scramble: &Scramble, version: &str, capabilities: CapabilityFlags) {
    let mut first = [0; 8];
    // With the terminating zero.
    let mut second = [0; SCRAMBLE_LENGTH + 1 - 8];
    first.copy_from_slice(&scramble.as_bytes()[..8]);
    second[..SCRAMBLE_LENGTH - 8].copy_from_slice(&scramble.as_bytes()[8..]);
    let packet = HandshakePacket::new(
        10,
        version.as_bytes(),
        id,
        first,
        Some(&second[..]),
        capabilities,
        UTF8MB4_GENERAL_CI,
        StatusFlags::SERVER_STATUS_AUTOCOMMIT,
        Some(NATIVE_PASSWORD),
    );
    Writer::new(out, 0, capabilities).packet(|out| packet.serialize(out));
}

impl<'a> Writer<'a> {
    /// A writer whose next packet has number `sequence`, for a client of these capabilities.
    pub(super) const fn new(out: &'a mut Vec<u8>, sequence: u8, capabilities: CapabilityFlags) -> Self {
        Self { out, sequence, capabilities }
    }

    fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0, 0, 0, self.sequence]);
        write(self.out);
        // Answers never reach 16 MiB: they are made from packets of at most MAX_PACKET.
        let length = u32::try_from(self.out.len() - start - HEADER_LENGTH).unwrap_or(u32::MAX);
        self.out[start..start + 3].copy_from_slice(&length.to_le_bytes()[..3]);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Lets a client in. Needs proof of its authentication.
    pub(super) fn let_in(&mut self, _: &Authenticated) {
        self.ok(0);
    }

    /// Reports success.
    pub(super) fn ok(&mut self, warnings: u16) {
        self.packet(|out| {
            // Header, affected rows, last insert id.
            out.extend_from_slice(&[0, 0, 0]);
            out.extend_from_slice(&StatusFlags::SERVER_STATUS_AUTOCOMMIT.bits().to_le_bytes());
            out.extend_from_slice(&warnings.to_le_bytes());
        });
    }

    /// Sends an error whose message is not necessarily UTF-8. Clients older than 4.1 get no SQLSTATE: they do not know it.
    pub(super) fn error_bytes(&mut self, code: u16, state: [u8; 5], message: &[u8]) {
        let state = self.capabilities.contains(CapabilityFlags::CLIENT_PROTOCOL_41).then(|| SqlState::new(state));
        self.packet(|out| ErrPacket::Error(ServerError::new(code, state, message)).serialize(out));
    }

    /// Sends an error.
    pub(super) fn error(&mut self, error: &SqlError) {
        self.error_bytes(error.code, error.state, error.message.as_bytes());
    }

    /// Asks the client to start again with [`NATIVE_PASSWORD`].
    pub(super) fn switch(&mut self, scramble: &Scramble) {
        let mut data = [0; SCRAMBLE_LENGTH + 1];
        data[..SCRAMBLE_LENGTH].copy_from_slice(scramble.as_bytes());
        self.packet(|out| AuthSwitchRequest::new(NATIVE_PASSWORD, &data[..]).serialize(out));
    }

    /// Sends a line of text, the form of the answer to `COM_STATISTICS`.
    pub(super) fn line(&mut self, text: &str) {
        self.packet(|out| out.extend_from_slice(text.as_bytes()));
    }

    /// Ends a list of packets.
    pub(super) fn eof(&mut self, warnings: u16) {
        self.packet(|out| {
            out.push(0xfe);
            out.extend_from_slice(&warnings.to_le_bytes());
            out.extend_from_slice(&StatusFlags::SERVER_STATUS_AUTOCOMMIT.bits().to_le_bytes());
        });
    }

    /// Sends a result set. Every row has one value for each of `columns`, which give names and types.
    pub(super) fn result(&mut self, columns: &[Cell], rows: &[Vec<Value>], warnings: u16) {
        self.packet(|out| out.put_lenenc_int(columns.len() as u64));
        for column in columns {
            self.packet(|out| column_definition(column, out));
        }
        self.eof(warnings);
        for row in rows {
            self.packet(|out| {
                for value in row {
                    match value.text() {
                        None => out.push(0xfb),
                        Some(text) => out.put_lenenc_str(text.as_bytes()),
                    }
                }
            });
        }
        self.eof(warnings);
    }
}

/// Writes a column definition. Not with `mysql_common`, which writes the length where clients read the character set.
///
/// See <https://mariadb.com/kb/en/result-set-packets/#column-definition-packet>.
fn column_definition(column: &Cell, out: &mut Vec<u8>) {
    let (character_set, length) = match column.value {
        Value::Null | Value::Text(_) => (UTF8MB4_GENERAL_CI.into(), MAX_PACKET),
        Value::Integer(_) | Value::Decimal(_) => (BINARY, 64),
    };
    // Catalog, schema, table and the table's true name, the column's name and true name.
    for text in ["def", "", "", "", &column.name, ""] {
        out.put_lenenc_str(text.as_bytes());
    }
    // The length of the following fields, which end with flags, decimals and a filler.
    out.push(12);
    out.extend_from_slice(&character_set.to_le_bytes());
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.push(column.value.column_type() as u8);
    out.extend_from_slice(&[0; 5]);
}

#[cfg(test)]
mod tests {
    use mysql_common::constants::{CapabilityFlags, ColumnType};
    use mysql_common::io::ParseBuf;
    use mysql_common::packets::Column;
    use mysql_common::proto::MyDeserialize;

    use super::{Cell, Frame, MAX_PACKET, Value, Writer, cut};

    #[test]
    fn columns_are_defined_as_clients_read_it() {
        for (value, column_type, character_set) in [
            (Value::Text(String::new()), ColumnType::MYSQL_TYPE_VAR_STRING, 45),
            (Value::Integer(1), ColumnType::MYSQL_TYPE_LONGLONG, 63),
            (Value::Decimal("1.5".to_owned()), ColumnType::MYSQL_TYPE_NEWDECIMAL, 63),
            (Value::Null, ColumnType::MYSQL_TYPE_VAR_STRING, 45),
        ] {
            let mut out = Vec::new();
            Writer::new(&mut out, 1, CapabilityFlags::empty()).result(&[Cell { name: "a".to_owned(), value }], &[], 0);
            let Frame::Packet { payload: [1], rest, .. } = cut(&out, MAX_PACKET) else { panic!("{out:?}") };
            let Frame::Packet { payload, .. } = cut(rest, MAX_PACKET) else { panic!("{rest:?}") };
            let column = Column::deserialize((), &mut ParseBuf(payload)).unwrap();
            assert_eq!(column.name_str(), "a");
            assert_eq!((column.column_type(), column.character_set()), (column_type, character_set));
        }
    }

    #[test]
    fn packets_are_cut_off_one_by_one() {
        let bytes = [2, 0, 0, 7, b'a', b'b', 0, 0, 0, 8];
        let Frame::Packet { sequence: 7, payload: b"ab", rest } = cut(&bytes, MAX_PACKET) else {
            panic!("{:?}", cut(&bytes, MAX_PACKET))
        };
        assert_eq!(cut(rest, MAX_PACKET), Frame::Packet { sequence: 8, payload: b"", rest: b"" });
        for length in 0..6 {
            assert_eq!(cut(&bytes[..length], MAX_PACKET), Frame::Part);
        }
    }

    #[test]
    fn the_length_has_a_limit() {
        let mut bytes = vec![0, 0, 1, 0];
        bytes.resize(4 + MAX_PACKET, b'x');
        assert!(matches!(cut(&bytes, MAX_PACKET), Frame::Packet { payload, .. } if payload.len() == MAX_PACKET));
        assert_eq!(cut(&[1, 0, 1, 7], MAX_PACKET), Frame::TooLong { sequence: 7 });
        assert_eq!(cut(&[0xff, 0xff, 0xff, 0], MAX_PACKET), Frame::TooLong { sequence: 0 });
    }
}
