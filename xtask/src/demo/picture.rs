//! An SVG picture of a terminal.

use std::fmt::Write;

/// Longer lines wrap, as in a terminal of that width.
const COLUMNS: u16 = 120;
const COLUMN: f64 = 7.8;
const ROW: f64 = 18.0;
const MARGIN: f64 = 20.0;

/// Draws a program's output. The only escape sequences supported are those for a bold line.
pub(super) fn draw(title: &str, printed: &str) -> String {
    let mut text = String::new();
    let mut baseline = MARGIN;
    for line in printed.lines() {
        let bold = line.contains("\x1b[1m");
        let plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "");
        let characters: Vec<char> = plain.trim_end().chars().collect();
        for row in characters.chunks(COLUMNS.into()) {
            baseline += ROW;
            let indent = row.iter().take_while(|character| **character == ' ').count();
            let words: String = row[indent..].iter().collect();
            let (left, width) = (MARGIN + COLUMN * columns(indent), COLUMN * columns(row.len() - indent));
            let weight = if bold { " class=\"bold\"" } else { "" };
            // The text length keeps columns aligned whatever the font.
            let _ = writeln!(
                text,
                "<text x=\"{left:.1}\" y=\"{baseline}\" textLength=\"{width:.1}\"{weight}>{}</text>",
                escape(&words)
            );
        }
        if characters.is_empty() {
            baseline += ROW;
        }
    }
    let (width, height) = (2.0 * MARGIN + COLUMN * f64::from(COLUMNS), baseline + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace\" \
         font-size=\"13\" fill=\"#c9d1d9\" xml:space=\"preserve\" role=\"img\">\n\
         <title>{}</title>\n\
         <style>.bold {{ font-weight: bold; fill: #ffffff; }}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         {text}</svg>\n",
        escape(title)
    )
}

fn columns(count: usize) -> f64 {
    f64::from(u16::try_from(count).unwrap_or(u16::MAX))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_drawn_where_it_stood() {
        let svg = draw("t", "\r\n\x1b[1m    $ a <b>\x1b[0m\r\nplain\r\n");
        let second = MARGIN + 2.0 * ROW;
        let (left, width) = (MARGIN + 4.0 * COLUMN, 7.0 * COLUMN);
        let bold = format!(
            "<text x=\"{left:.1}\" y=\"{second}\" textLength=\"{width:.1}\" class=\"bold\">$ a &lt;b&gt;</text>"
        );
        assert!(svg.contains(&bold), "{svg}");
        assert!(svg.contains(">plain</text>"), "{svg}");
    }

    #[test]
    fn a_long_line_goes_on_in_the_next_one() {
        let svg = draw("t", &"x".repeat(usize::from(COLUMNS) + 1));
        assert_eq!(svg.matches("</text>").count(), 2, "{svg}");
        assert!(svg.contains(">x</text>"), "{svg}");
    }
}
