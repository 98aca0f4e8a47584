//! Recognising Connector/C's table of methods by what it looks like.
//!
//! No symbol leads to the table, which `mysql_init()` gives to every handle. But nothing else looks like it: functions of one
//! module, two of them the same, and then a pointer to a table of all functions of the API.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::loaded::{Data, find_words};
use crate::sys::{IFO_API, IFO_API_CONNECT, IFO_METHODS, IFO_METHODS_RESULT, IFO_METHODS_RESULT_AGAIN};

/// Number of functions before the pointer to the API.
const METHODS: usize = IFO_METHODS as usize;
/// Which two functions are the same.
const TWICE: (usize, usize) = (IFO_METHODS_RESULT as usize, IFO_METHODS_RESULT_AGAIN as usize);
/// Number of functions of the API.
const API: usize = IFO_API as usize;
/// Which of them is `mysql_real_connect()`.
const API_CONNECT: usize = IFO_API_CONNECT as usize;

/// A table of methods. Its first word is the function that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) address: usize,
    /// The address of its table of the API.
    pub(super) api: usize,
    /// The `mysql_real_connect()` in that.
    pub(super) real_connect: usize,
}

/// The only table in the data of a module whose own code is `code`; `None` if there are several. The functions of the API
/// may be in any of `all_code`: a program may define them for its libraries.
pub(super) fn find(data: &[Data<'_>], code: &[Range<usize>], all_code: &[Range<usize>]) -> Option<Table> {
    let mut found = None;
    for segment in data {
        for first in 0..segment.words.len().saturating_sub(METHODS) {
            if let Some(table) = at(*segment, first, data, code, all_code)
                && found.replace(table).is_some()
            {
                return None;
            }
        }
    }
    found
}

/// The table that begins with word number `first` of a segment.
fn at(
    segment: Data<'_>,
    first: usize,
    data: &[Data<'_>],
    code: &[Range<usize>],
    all_code: &[Range<usize>],
) -> Option<Table> {
    let word = |n: usize| segment.words.get(first + n).map(|word| word.load(Ordering::Relaxed));
    if word(TWICE.0)? != word(TWICE.1)? || word(TWICE.0)? == word(0)? {
        return None;
    }
    let is_within = |code: &[Range<usize>], address: usize| code.iter().any(|range| range.contains(&address));
    for n in 0..METHODS {
        if !is_within(code, word(n)?) {
            return None;
        }
    }
    let api = word(METHODS)?;
    let functions = find_words(data, api, API)?;
    if !functions.iter().all(|function| is_within(all_code, function.load(Ordering::Relaxed))) {
        return None;
    }
    let real_connect = functions.get(API_CONNECT)?.load(Ordering::Relaxed);
    Some(Table { address: segment.start + first * size_of::<usize>(), api, real_connect })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::AtomicUsize;

    use super::{API, API_CONNECT, METHODS, TWICE, Table, find};
    use crate::loaded::Data;

    const START: usize = 0x7000;
    const WORD: usize = size_of::<usize>();
    /// The module's own code, and that of the program.
    const CODE: [Range<usize>; 2] = [0x1_0000..0x2_0000, 0x40_0000..0x50_0000];
    /// In words from the start.
    const TABLE: usize = 40;
    const API_AT: usize = 100;

    /// Data of a module with a table, and what is left of it.
    fn module() -> Vec<usize> {
        let mut words: Vec<_> = (0..API_AT + API + 10).collect();
        for n in 0..METHODS {
            words[TABLE + n] = 0x1_0000 + n;
        }
        words[TABLE + TWICE.1] = words[TABLE + TWICE.0];
        words[TABLE + METHODS] = START + API_AT * WORD;
        for n in 0..API {
            words[API_AT + n] = 0x1_1000 + n;
        }
        words
    }

    fn find_in(words: &[usize]) -> Option<Table> {
        let words: Vec<_> = words.iter().map(|word| AtomicUsize::new(*word)).collect();
        find(&[Data { start: START, words: &words }], &CODE[..1], &CODE)
    }

    const FOUND: Table =
        Table { address: START + TABLE * WORD, api: START + API_AT * WORD, real_connect: 0x1_1000 + API_CONNECT };

    #[test]
    fn a_table_is_found() {
        assert_eq!(find_in(&module()), Some(FOUND));
        // At the very end, too.
        let mut words = module();
        words.truncate(API_AT + API);
        assert_eq!(find_in(&words), Some(FOUND));
        // In two segments.
        let words: Vec<_> = module().into_iter().map(AtomicUsize::new).collect();
        let (one, two) = words.split_at(API_AT - 1);
        let data = [Data { start: START, words: one }, Data { start: START + one.len() * WORD, words: two }];
        assert_eq!(find(&data, &CODE[..1], &CODE), Some(FOUND));
        // A program may define functions of the API.
        let mut words = module();
        words[API_AT + API_CONNECT] = 0x40_0001;
        assert_eq!(find_in(&words), Some(Table { real_connect: 0x40_0001, ..FOUND }));
    }

    #[test]
    fn what_is_a_little_different_is_none() {
        let (program, nowhere) = (0x40_0001, 0x99_9999);
        let mut wrong: Vec<(usize, usize)> = (0..METHODS).map(|n| (TABLE + n, nowhere)).collect();
        wrong.extend((0..METHODS).map(|n| (TABLE + n, program)));
        wrong.extend((0..API).map(|n| (API_AT + n, nowhere)));
        // Not the same function twice, or the one that connects.
        wrong.push((TABLE + TWICE.1, 0x1_0fff));
        wrong.push((TABLE, 0x1_0000 + TWICE.0));
        // The API is nowhere, not aligned, before the data, at its end, at the end of memory.
        let end = START + (API_AT + API + 10) * WORD;
        for api in [0, nowhere, START + API_AT * WORD + 1, START - WORD, end - WORD, end, usize::MAX, usize::MAX - 7] {
            wrong.push((TABLE + METHODS, api));
        }
        for (place, value) in wrong {
            let mut words = module();
            words[place] = value;
            assert_eq!(find_in(&words), None, "word {place} is {value:#x}");
        }
        assert_eq!(find_in(&[]), None);
        // Cut anywhere.
        for length in 0..API_AT + API {
            assert_eq!(find_in(&module()[..length]), None, "{length} words");
        }
    }

    #[test]
    fn of_two_tables_none_is_chosen() {
        let mut words = module();
        words.extend(module()[TABLE..=TABLE + METHODS].to_vec());
        assert_eq!(find_in(&words), None);
    }
}
