//! Recognising Connector/C's functions for sockets by what they look like.
//!
//! No symbol leads to them. They are in a table to which one of Connector/C's own plugins points: a struct that begins with
//! the type and the version of such plugins, and a name that no other has.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::loaded::{Constants, Data, find_words};
use crate::sys::{IFO_IO, IFO_IO_PLUGIN, IFO_IO_PLUGIN_TYPE, IFO_IO_PLUGIN_VERSION};

/// The name of the plugin.
const NAME: &[u8] = b"pvio_socket\0";
/// Which word of the plugin is its table of functions. The first has the type and the version, the second is the name.
const TABLE: usize = IFO_IO_PLUGIN as usize;
/// Number of functions in that table, in the oldest release.
const FUNCTIONS: usize = IFO_IO as usize;

/// The address of the only such table in the data of a module whose own code is `code`; `None` if there are several.
pub(super) fn find(data: &[Data<'_>], constants: &[Constants<'_>], code: &[Range<usize>]) -> Option<usize> {
    let mut found = None;
    for segment in data {
        for plugin in segment.words.windows(TABLE + 1) {
            let word = |n: usize| plugin.get(n).map_or(0, |word| word.load(Ordering::Relaxed));
            if word(0) != head() || !constants.iter().any(|constants| constants.has(word(1), NAME)) {
                continue;
            }
            let is_code = |address: usize| code.iter().any(|range| range.contains(&address));
            let functions = find_words(data, word(TABLE), FUNCTIONS)?;
            if !functions.iter().all(|function| is_code(function.load(Ordering::Relaxed))) {
                return None;
            }
            if found.replace(word(TABLE)).is_some() {
                return None;
            }
        }
    }
    found
}

/// The first word of the plugin: two numbers of 4 bytes.
const fn head() -> usize {
    let (one, two) = (IFO_IO_PLUGIN_TYPE.to_ne_bytes(), IFO_IO_PLUGIN_VERSION.to_ne_bytes());
    usize::from_ne_bytes([one[0], one[1], one[2], one[3], two[0], two[1], two[2], two[3]])
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::AtomicUsize;

    use super::{FUNCTIONS, NAME, TABLE, find, head};
    use crate::loaded::{Constants, Data};

    const START: usize = 0x7000;
    const WORD: usize = size_of::<usize>();
    const CODE: Range<usize> = 0x1_0000..0x2_0000;
    const CONSTANTS: usize = 0x5_0003;
    /// Where the name is.
    const NAME_AT: usize = CONSTANTS + 5;
    /// In words from the start.
    const PLUGIN: usize = 20;
    const TABLE_AT: usize = 60;

    fn module() -> Vec<usize> {
        let mut words: Vec<_> = (0..TABLE_AT + FUNCTIONS + 3).collect();
        words[PLUGIN] = head();
        words[PLUGIN + 1] = NAME_AT;
        words[PLUGIN + TABLE] = START + TABLE_AT * WORD;
        for n in 0..FUNCTIONS {
            words[TABLE_AT + n] = CODE.start + n;
        }
        words
    }

    fn find_with(words: &[usize], constants: &[u8]) -> Option<usize> {
        let words: Vec<_> = words.iter().map(|word| AtomicUsize::new(*word)).collect();
        find(&[Data { start: START, words: &words }], &[Constants { start: CONSTANTS, bytes: constants }], &[CODE])
    }

    fn find_in(words: &[usize]) -> Option<usize> {
        find_with(words, &[b"rest\0", NAME, b"more"].concat())
    }

    #[test]
    fn the_table_is_found() {
        assert_eq!(find_in(&module()), Some(START + TABLE_AT * WORD));
        // At the very end, too.
        assert_eq!(find_in(&module()[..TABLE_AT + FUNCTIONS]), Some(START + TABLE_AT * WORD));
        assert_eq!(find_with(&module(), &[b"rest\0", NAME].concat()), Some(START + TABLE_AT * WORD));
        // The plugin and the table in two segments, in any order.
        let words: Vec<_> = module().into_iter().map(AtomicUsize::new).collect();
        let (one, two) = words.split_at(TABLE_AT);
        let data = [Data { start: START + one.len() * WORD, words: two }, Data { start: START, words: one }];
        let constants = [b"rest\0", NAME].concat();
        let constants = [Constants { start: CONSTANTS, bytes: &constants }];
        assert_eq!(find(&data, &constants, &[CODE]), Some(START + TABLE_AT * WORD));
    }

    #[test]
    fn what_is_a_little_different_is_none() {
        let end = START + module().len() * WORD;
        let mut wrong = vec![(PLUGIN, 101), (PLUGIN, head() + 1), (PLUGIN, 0)];
        wrong.extend([0, NAME_AT + 1, NAME_AT - 1, CONSTANTS - 1, START, usize::MAX].map(|name| (PLUGIN + 1, name)));
        for table in [0, START - WORD, START + TABLE_AT * WORD + 1, end - WORD, end, usize::MAX, usize::MAX - 7] {
            wrong.push((PLUGIN + TABLE, table));
        }
        // Functions of another module: our own, if they are there already.
        wrong.extend((0..FUNCTIONS).flat_map(|n| [0, 0x40_0001].map(|function| (TABLE_AT + n, function))));
        for (place, value) in wrong {
            let mut words = module();
            words[place] = value;
            assert_eq!(find_in(&words), None, "word {place} is {value:#x}");
        }
        for length in 0..TABLE_AT + FUNCTIONS {
            assert_eq!(find_in(&module()[..length]), None, "{length} words");
        }
        for constants in [&b"rest\0pvio_socket"[..], b"rest\0pvio_sockets\0", b"rest\0Pvio_socket\0", b"rest\0", b""] {
            assert_eq!(find_with(&module(), constants), None);
        }
    }

    #[test]
    fn of_two_none_is_chosen() {
        let mut words = module();
        words.extend(module()[PLUGIN..=PLUGIN + TABLE].to_vec());
        assert_eq!(find_in(&words), None);
    }
}
