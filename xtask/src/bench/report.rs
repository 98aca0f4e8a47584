//! Results as Markdown tables.

use std::iter::zip;

use crate::common::results::machine;

/// Two servers: the clients per second that the first answers, divided by those of the second.
pub(super) type Ratio = (&'static str, &'static str);

/// The values measured for one thing, one per round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample(Vec<f64>);

impl Sample {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn median(&self) -> f64 {
        let values = self.sorted();
        f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
    }

    pub(super) fn low(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn high(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Where the lowest quarter ends, and where the highest begins.
    pub(super) fn middle_half(&self) -> (f64, f64) {
        let values = self.sorted();
        (values[values.len() / 4], values[values.len() - 1 - values.len() / 4])
    }

    /// The 99th percentile.
    pub(super) fn p99(&self) -> f64 {
        let values = self.sorted();
        values[(values.len() * 99).div_ceil(100) - 1]
    }

    /// Its ratio to another, round by round.
    pub(super) fn over(&self, other: &Self) -> Self {
        zip(&self.0, &other.0).map(|(one, other)| one / other).collect()
    }

    /// Its difference from another, round by round.
    pub(super) fn minus(&self, other: &Self) -> Self {
        zip(&self.0, &other.0).map(|(one, other)| one - other).collect()
    }

    /// Median and range, for a table.
    pub(super) fn cells(&self, decimals: usize) -> [String; 2] {
        let (low, high) = (self.low(), self.high());
        [format!("{:.decimals$}", self.median()), format!("{low:.decimals$} to {high:.decimals$}")]
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// How many clients per second each server answered.
#[derive(Debug)]
pub(super) struct Report {
    rates: Vec<Series>,
    ratios: &'static [Ratio],
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) clients: u32,
    pub(super) name: String,
    pub(super) sample: Sample,
}

impl Report {
    /// An empty report that will show these ratios.
    pub(super) fn new(ratios: &'static [Ratio]) -> Self {
        Self { rates: Vec::new(), ratios }
    }

    /// Adds a result: with this many concurrent clients, the server answered `rate` clients per second.
    pub(super) fn add(&mut self, clients: u32, server: &str, rate: f64) {
        match self.rates.iter_mut().find(|series| series.is(clients, server)) {
            Some(series) => series.sample.push(rate),
            None => self.rates.push(Series { clients, name: server.to_owned(), sample: Sample(vec![rate]) }),
        }
    }

    pub(super) fn ratios(&self) -> impl Iterator<Item = Series> {
        self.rates.iter().flat_map(|one| {
            let others = self.ratios.iter().filter(|(name, _)| one.name == *name);
            let others = others.filter_map(|(_, name)| self.rates.iter().find(|series| series.is(one.clients, name)));
            others.map(|other| one.over(other))
        })
    }

    /// Two tables, and the machine that was measured.
    pub(super) fn text(&self) -> String {
        let rates = self.rates.iter().map(|series| series.row(0));
        let rates = table(["clients", "server", "median per second", "middle half", "lowest to highest"], rates);
        let ratios = self.ratios().map(|series| series.row(3));
        let ratios = table(["clients", "ratio", "median", "middle half", "lowest to highest"], ratios);
        format!("{rates}\n{ratios}\n{}", machine())
    }
}

impl Series {
    fn is(&self, clients: u32, name: &str) -> bool {
        self.clients == clients && self.name == name
    }

    fn over(&self, other: &Self) -> Self {
        Self {
            clients: self.clients,
            name: format!("{} / {}", self.name, other.name),
            sample: self.sample.over(&other.sample),
        }
    }

    fn row(&self, decimals: usize) -> [String; 5] {
        let [median, spread] = self.sample.cells(decimals);
        let (from, to) = self.sample.middle_half();
        let middle = format!("{from:.decimals$} to {to:.decimals$}");
        [self.clients.to_string(), self.name.clone(), median, middle, spread]
    }
}

/// A Markdown table; columns of numbers are right-aligned.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let is_number =
        |column: usize| rows.iter().all(|row| row[column].starts_with(|c: char| c.is_ascii_digit() || c == '-'));
    let columns: [(usize, bool); N] = std::array::from_fn(|column| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        (widths.chain([header[column].len()]).max().unwrap_or_default(), is_number(column))
    });
    let line =
        |cells: &[String; N]| -> String {
            let cells = zip(cells, columns).map(|(cell, (width, number))| {
                if number { format!("| {cell:>width$} ") } else { format!("| {cell:width$} ") }
            });
            cells.chain(["|\n".to_owned()]).collect()
        };
    let rule = columns.map(|(width, number)| format!("|-{:-<width$}{}", "", if number { ':' } else { '-' })).concat();
    let body: String = rows.iter().map(line).collect();
    format!("{}{rule}|\n{body}", line(&header.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let mut report = Report::new(&[("one", "other"), ("one", "absent")]);
        for (one, other) in [(100.0, 400.0), (300.0, 300.0), (200.0, 100.0), (150.4, 200.0)] {
            report.add(8, "one", one);
            report.add(8, "other", other);
        }
        report.add(32, "one", 50.0);
        report.add(32, "other", 40.0);
        let text = report.text();
        let tables = "\
| clients | server | median per second | middle half | lowest to highest |
|--------:|--------|------------------:|------------:|------------------:|
|       8 | one    |               175 |  150 to 200 |        100 to 300 |
|       8 | other  |               250 |  200 to 300 |        100 to 400 |
|      32 | one    |                50 |    50 to 50 |          50 to 50 |
|      32 | other  |                40 |    40 to 40 |          40 to 40 |

| clients | ratio       | median |    middle half | lowest to highest |
|--------:|-------------|-------:|---------------:|------------------:|
|       8 | one / other |  0.876 | 0.752 to 1.000 |    0.250 to 2.000 |
|      32 | one / other |  1.250 | 1.250 to 1.250 |    1.250 to 1.250 |

";
        assert!(text.starts_with(tables), "{text}");
    }

    #[test]
    fn quantiles() {
        let sample: Sample = (1..=200).rev().map(f64::from).collect();
        assert_eq!((sample.median(), sample.p99(), sample.low(), sample.high()), (100.5, 198.0, 1.0, 200.0));
        let one: Sample = [3.0].into_iter().collect();
        assert_eq!((one.median(), one.p99()), (3.0, 3.0));
    }
}
