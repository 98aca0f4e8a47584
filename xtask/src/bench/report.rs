//! What was measured, as tables in Markdown.

use std::fmt;
use std::iter::zip;

use crate::results::machine;

/// How many times as many clients as the second the first of two servers answers.
pub(super) type Ratio = (&'static str, &'static str);

/// All that a run has measured.
#[derive(Debug)]
pub(super) struct Report {
    rates: Vec<Series>,
    ratios: &'static [Ratio],
}

/// One value for every round.
#[derive(Debug)]
struct Series {
    clients: u32,
    name: String,
    values: Vec<f64>,
}

type Row = [String; 4];

impl Report {
    /// An empty one, which will show these ratios.
    pub(super) fn new(ratios: &'static [Ratio]) -> Self {
        Self { rates: Vec::new(), ratios }
    }

    /// Adds how many of so many clients at once the server answered per second.
    pub(super) fn add(&mut self, clients: u32, server: &str, rate: f64) {
        match self.rates.iter_mut().find(|series| series.is(clients, server)) {
            Some(series) => series.values.push(rate),
            None => self.rates.push(Series { clients, name: server.to_owned(), values: vec![rate] }),
        }
    }

    fn ratios(&self) -> impl Iterator<Item = Series> {
        self.rates.iter().flat_map(|one| {
            let others = self.ratios.iter().filter(|(name, _)| one.name == *name);
            let others = others.filter_map(|(_, name)| self.rates.iter().find(|series| series.is(one.clients, name)));
            others.map(|other| one.over(other))
        })
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
            values: zip(&self.values, &other.values).map(|(one, other)| one / other).collect(),
        }
    }

    fn row(&self, decimals: usize) -> Row {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[0], values[values.len() - 1]);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        [
            self.clients.to_string(),
            self.name.clone(),
            format!("{median:.decimals$}"),
            format!("{low:.decimals$} to {high:.decimals$}"),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.rates.iter().map(|series| series.row(0));
        table(f, ["clients", "server", "median per second", "lowest to highest"], rates)?;
        writeln!(f)?;
        table(f, ["clients", "ratio", "median", "lowest to highest"], self.ratios().map(|series| series.row(2)))?;
        writeln!(f)?;
        f.write_str(&machine())
    }
}

fn table(f: &mut fmt::Formatter<'_>, header: [&str; 4], rows: impl Iterator<Item = Row>) -> fmt::Result {
    let rows: Vec<Row> = [header.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let [w0, w1, w2, w3] = [0, 1, 2, 3].map(width);
    for (index, [clients, name, median, spread]) in rows.iter().enumerate() {
        writeln!(f, "| {clients:>w0$} | {name:w1$} | {median:>w2$} | {spread:>w3$} |")?;
        if index == 0 {
            writeln!(f, "|-{:->w0$}:|-{:-<w1$}-|-{:->w2$}:|-{:->w3$}:|", "", "", "", "")?;
        }
    }
    Ok(())
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
        let text = report.to_string();
        let tables = "\
| clients | server | median per second | lowest to highest |
|--------:|--------|------------------:|------------------:|
|       8 | one    |               175 |        100 to 300 |
|       8 | other  |               250 |        100 to 400 |
|      32 | one    |                50 |          50 to 50 |
|      32 | other  |                40 |          40 to 40 |

| clients | ratio       | median | lowest to highest |
|--------:|-------------|-------:|------------------:|
|       8 | one / other |   0.88 |      0.25 to 2.00 |
|      32 | one / other |   1.25 |      1.25 to 1.25 |

";
        assert!(text.starts_with(tables), "{text}");
    }
}
