//! SVG plots with their own background, readable on light and dark pages.

use std::fmt::Write;
use std::iter::once;

const WIDTH: f64 = 880.0;
/// Distinguishable for colour-blind people as well (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#555555"];
const ROW: f64 = 30.0;
const MARGIN: f64 = 24.0;
const TITLE: f64 = 48.0;

/// A named value, and the lowest and highest of the values it is the median of.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) spread: (f64, f64),
}

/// Named points.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What an axis shows.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: String,
    /// The first and the last tick are the ends of the axis.
    pub(crate) ticks: Vec<f64>,
    pub(crate) logarithmic: bool,
}

impl Axis {
    /// An axis from 0 to at least a value, with round numbers.
    pub(crate) fn up_to(label: &str, highest: f64) -> Self {
        Self::between(label, 0.0, highest)
    }

    /// An axis that covers both values, with round numbers.
    pub(crate) fn between(label: &str, lowest: f64, highest: f64) -> Self {
        let rough = ((highest - lowest) / 5.0).max(1e-9);
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
        let step = step.unwrap_or(rough);
        let first = (lowest / step).floor();
        let mut ticks = vec![first * step];
        while ticks[ticks.len() - 1] < highest - step * 1e-6 {
            ticks.push((first + f64::from(u32::try_from(ticks.len()).unwrap_or_default())) * step);
        }
        Self { label: label.to_owned(), ticks, logarithmic: false }
    }

    /// A logarithmic axis with these numbers.
    pub(crate) fn logarithmic(label: &str, ticks: Vec<f64>) -> Self {
        Self { label: label.to_owned(), ticks, logarithmic: true }
    }

    /// The position of a value, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.ln() } else { value };
        let (first, last) = (scale(self.ticks[0]), scale(self.ticks[self.ticks.len() - 1]));
        if last > first { ((scale(value) - first) / (last - first)).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// Horizontal bars, each followed by its value.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let names = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or_default();
    let left = MARGIN + 12.0 + 7.4 * count(names);
    let axis = Axis::up_to(unit, bars.iter().map(|bar| bar.spread.1.max(bar.value)).fold(0.0, f64::max));
    let (right, bottom) = (WIDTH - MARGIN - 70.0, TITLE + ROW * count(bars.len()) + 8.0);
    let x = |value: f64| left + (right - left) * axis.place(value);
    let mut svg = Svg::new(title, bottom + 52.0);
    for &tick in &axis.ticks {
        svg.line(x(tick), TITLE, x(tick), bottom, "#dddddd");
        svg.text(x(tick), bottom + 18.0, "middle", &number(tick));
    }
    svg.text(f64::midpoint(left, right), bottom + 38.0, "middle", unit);
    for (bar, n) in bars.iter().zip(0_u8..) {
        let y = TITLE + ROW * f64::from(n) + 6.0;
        let middle = y + (ROW - 12.0) / 2.0;
        svg.text(left - 8.0, middle + 5.0, "end", &bar.name);
        svg.bar(left, y, x(bar.value) - left, ROW - 12.0, COLOURS[0]);
        svg.line(x(bar.spread.0), middle, x(bar.spread.1), middle, "#111111");
        svg.text(x(bar.value.max(bar.spread.1)) + 6.0, middle + 5.0, "start", &number(bar.value));
    }
    svg.end()
}

/// Lines over two axes. A line named `..., TLS` has the colour of the line without TLS, and is dashed.
pub(crate) fn lines(title: &str, x_axis: &Axis, y_axis: &Axis, lines: &[Line]) -> String {
    lines_with_marks(title, x_axis, y_axis, lines, &[])
}

/// The same, with labelled marks on the x axis.
pub(crate) fn lines_with_marks(
    title: &str,
    x_axis: &Axis,
    y_axis: &Axis,
    lines: &[Line],
    marks: &[(f64, String)],
) -> String {
    const TLS: &str = ", TLS";
    let (left, right) = (MARGIN + 56.0, WIDTH - MARGIN - 12.0);
    let (top, bottom) = (TITLE + 8.0, TITLE + 308.0);
    let x = |value: f64| left + (right - left) * x_axis.place(value);
    let y = |value: f64| bottom - (bottom - top) * y_axis.place(value);
    let mut svg = Svg::new(title, bottom + 60.0 + 22.0 * count(lines.len()));
    for &tick in &x_axis.ticks {
        svg.line(x(tick), top, x(tick), bottom, "#eeeeee");
        svg.text(x(tick), bottom + 18.0, "middle", &number(tick));
    }
    for &tick in &y_axis.ticks {
        svg.line(left, y(tick), right, y(tick), "#dddddd");
        svg.text(left - 8.0, y(tick) + 5.0, "end", &number(tick));
    }
    svg.text(f64::midpoint(left, right), bottom + 38.0, "middle", &x_axis.label);
    svg.upright_text(MARGIN, f64::midpoint(top, bottom), &y_axis.label);
    for ((at, words), n) in marks.iter().zip(0_u8..) {
        svg.line(x(*at), top, x(*at), bottom, "#777777");
        svg.text(x(*at) + 5.0, top + 14.0 + 18.0 * f64::from(n), "start", words);
    }
    let mut colours: Vec<String> = Vec::new();
    for (line, n) in lines.iter().zip(0_u8..) {
        let key = line.name.replace(TLS, "");
        let place = colours.iter().position(|other| *other == key).unwrap_or_else(|| {
            colours.push(key);
            colours.len() - 1
        });
        let (colour, dashed) = (COLOURS[place % COLOURS.len()], line.name.contains(TLS));
        let points: Vec<(f64, f64)> = line.points.iter().map(|&(a, b)| (x(a), y(b))).collect();
        svg.path(&points, colour, dashed);
        let legend = bottom + 62.0 + 22.0 * f64::from(n);
        svg.path(&[(left, legend), (left + 30.0, legend)], colour, dashed);
        svg.text(left + 38.0, legend + 5.0, "start", &line.name);
    }
    svg.end()
}

/// A line that rises in steps, as a count does.
pub(crate) fn steps(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut last = 0.0;
    let steps = points.into_iter().flat_map(|(x, y)| [(x, std::mem::replace(&mut last, y)), (x, y)]);
    once((0.0, 0.0)).chain(steps).collect()
}

/// A count, as a number to draw.
pub(crate) fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// A number for people: three significant digits, thousands separated.
fn number(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) && digit.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

struct Svg(String);

impl Svg {
    fn new(title: &str, height: f64) -> Self {
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" \
             font-size=\"14\" fill=\"#111111\" role=\"img\">\n\
             <title>{title}</title>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#ffffff\"/>\n"
        ));
        svg.add(format_args!("<text x=\"{MARGIN}\" y=\"30\" font-size=\"17\" font-weight=\"bold\">{title}</text>"));
        svg
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
    }

    fn upright_text(&mut self, x: f64, y: f64, text: &str) {
        self.add(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str) {
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        ));
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        ));
    }

    fn path(&mut self, points: &[(f64, f64)], colour: &str, dashed: bool) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let pattern = if dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        self.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{pattern}/>",
            points.join(" ")
        ));
    }

    fn end(self) -> String {
        self.0 + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_and_hold_what_they_should() {
        assert_eq!(Axis::up_to("", 42_205.0).ticks, [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]);
        assert_eq!(Axis::up_to("", 100.0).ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let axis = Axis::between("", 0.9, 1.5);
        assert!(axis.ticks[0] <= 0.9 && axis.ticks[axis.ticks.len() - 1] >= 1.5, "{axis:?}");
    }

    #[test]
    fn numbers() {
        let shown = [0.0, 0.25, 1.0, 12.3, 999.6, 27_055.0, -1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.25", "1", "12.3", "1,000", "27,055", "-1,234,567"]);
    }
}
