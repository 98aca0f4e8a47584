//! How much of a packet is still to come, in a stream that is read in pieces of any length.
#![forbid(unsafe_code)]

/// Where a stream of packets has been read to. Each is a header of 4 bytes, of which 3 are the length, and a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Within a header: how many of its bytes were read, less than 4, and the length as far as it is known.
    Header { read: u32, length: u32 },
    /// Within a payload, of which this much is left: 1 or more.
    Payload { left: u32 },
}

const HEADER: u32 = 4;
const LENGTH: u32 = 0xff_ffff;
/// Where the bytes of the header are counted.
const READ: u32 = 24;
const IN_PAYLOAD: u32 = 1 << 26;
/// In every number that stands for a position: 0 is none.
const IS_POSITION: u32 = 1 << 27;

impl Position {
    const START: Self = Self::Header { read: 0, length: 0 };

    /// The position that this number stands for; 0 is the start.
    pub(super) const fn from_number(number: u32) -> Self {
        let length = number & LENGTH;
        if number & IN_PAYLOAD == 0 {
            Self::Header { read: number >> READ & 3, length }
        } else if length > 0 {
            Self::Payload { left: length }
        } else {
            Self::START
        }
    }

    /// Never 0.
    pub(super) const fn number(self) -> u32 {
        IS_POSITION
            | match self {
                Self::Header { read, length } => read << READ | length,
                Self::Payload { left } => IN_PAYLOAD | left,
            }
    }

    /// How much may be read without a byte of what follows: to the end of the payload, or of a header whose payload is not known.
    /// 1 or more.
    pub(super) const fn left(self) -> u32 {
        match self {
            Self::Header { read, .. } => HEADER - read,
            Self::Payload { left } => left,
        }
    }

    const fn behind_header(length: u32) -> Self {
        if length == 0 { Self::START } else { Self::Payload { left: length } }
    }

    /// The position after these bytes.
    pub(super) fn after(mut self, mut bytes: &[u8]) -> Self {
        // A header in one piece, as mostly: no loop.
        if let (Self::Header { read: 0, .. }, &[a, b, c, _]) = (self, bytes) {
            return Self::behind_header(u32::from_le_bytes([a, b, c, 0]));
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            match self {
                Self::Header { read, length } if read + 1 < HEADER => {
                    self = Self::Header { read: read + 1, length: length | u32::from(byte) << (8 * read) };
                    bytes = rest;
                }
                Self::Header { length, .. } => {
                    self = Self::behind_header(length);
                    bytes = rest;
                }
                Self::Payload { left } => {
                    let passed = bytes.len().min(left as usize);
                    bytes = &bytes[passed..];
                    let left = left - u32::try_from(passed).unwrap_or(left);
                    self = if left == 0 { Self::START } else { Self::Payload { left } };
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_PAYLOAD, Position};

    fn packet(length: usize) -> Vec<u8> {
        [&u32::try_from(length).unwrap().to_le_bytes()[..3], &[7], &vec![0xff; length]].concat()
    }

    /// Reads from `stream` as much as may be read, at most the next of `pieces` (over and over), until `end` is reached: as the
    /// client does that wants a packet. The position is kept as a number.
    fn read_to(end: usize, stream: &[u8], pieces: &[usize]) -> u32 {
        let (mut at, mut number) = (0, 0);
        for piece in pieces.iter().cycle() {
            let position = Position::from_number(number);
            assert!(position.left() > 0);
            let length = (position.left() as usize).min(*piece).min(stream.len() - at);
            number = position.after(&stream[at..at + length]).number();
            assert!(number > 0);
            at += length;
            assert!(at <= end, "{} bytes too many, in pieces of {pieces:?}", at - end);
            if at == end {
                return number;
            }
        }
        unreachable!()
    }

    #[test]
    fn no_byte_of_the_next_packet_is_read() {
        for length in [0, 1, 2, 78, 255, 256, 257] {
            let stream = [packet(length), packet(300)].concat();
            let end = 4 + length;
            // As much as there is; each split into two, and all pieces of one length.
            assert_eq!(read_to(end, &stream, &[usize::MAX]), Position::START.number());
            for one in 1..=end {
                assert_eq!(read_to(end, &stream, &[one, usize::MAX]), Position::START.number());
                assert_eq!(read_to(end, &stream, &[one]), Position::START.number());
                for two in 1..=4 {
                    assert_eq!(read_to(end, &stream, &[one, two]), Position::START.number());
                }
            }
        }
    }

    #[test]
    fn the_longest_packet_and_what_continues_it() {
        let long = packet(0xff_ffff);
        for rest in [0, 1, 1000] {
            let end = long.len() + 4 + rest;
            let stream = [&long[..], &packet(rest), &packet(5)].concat();
            for pieces in [&[usize::MAX][..], &[1, 1, 1, 16_384], &[3, 16_383], &[16_384]] {
                assert_eq!(read_to(end, &stream, pieces), Position::START.number(), "{rest}, {pieces:?}");
            }
        }
    }

    #[test]
    fn several_packets_at_once() {
        let stream = [packet(3), packet(0), packet(0), packet(500)].concat();
        for end in 0..=stream.len() {
            let mut expected = Position::START;
            for byte in &stream[..end] {
                expected = expected.after(&[*byte]);
            }
            assert_eq!(Position::START.after(&stream[..end]), expected, "{end}");
            assert_eq!(Position::from_number(expected.number()), expected);
        }
    }

    #[test]
    fn any_number_is_a_position() {
        assert_eq!(Position::from_number(0), Position::START);
        assert_eq!(Position::from_number(IN_PAYLOAD), Position::START);
        for bit in 0..32 {
            for number in [1 << bit, u32::MAX >> bit, u32::MAX << bit] {
                let position = Position::from_number(number);
                assert!((1..=0xff_ffff).contains(&position.left()), "{number:#x}");
                assert_eq!(Position::from_number(position.number()), position);
            }
        }
    }
}
