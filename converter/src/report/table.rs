//! Text for terminals: columns that line up, sizes and counts that people can read.

use std::fmt::{self, Display, Write};

/// A table of text; columns whose header begins with `>` are aligned to the right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(headers: &[&'static str]) -> Self {
        Self { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Replaces the rows between the first `head` and the last `tail` by one line that says how many there were.
    pub fn shorten(&mut self, head: usize, tail: usize) {
        let len = self.rows.len();
        if len <= head + tail + 1 {
            return;
        }
        let note = format!("… {} more (--verbose shows them)", len - head - tail);
        self.rows.splice(head..len - tail, [vec![note]]);
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = |header: &'static str| header.trim_start_matches('>');
        // A row with one cell only is a note across all columns.
        let width = |column: usize| {
            let cells = self.rows.iter().filter(|row| row.len() > 1).filter_map(|row| row.get(column));
            let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            longest.max(title(self.headers[column]).chars().count())
        };
        let widths: Vec<usize> = (0..self.headers.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::from(" ");
            for ((cell, header), width) in cells.zip(&self.headers).zip(&widths) {
                match header.starts_with('>') {
                    true => write!(text, " {cell:>width$} ")?,
                    false => write!(text, " {cell:<width$} ")?,
                }
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(f, &mut self.headers.iter().map(|header| title(header)))?;
        writeln!(f, "  {}", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)))?;
        for row in &self.rows {
            match &row[..] {
                [note] => writeln!(f, "  {note}")?,
                cells => line(f, &mut cells.iter().map(String::as_str))?,
            }
        }
        Ok(())
    }
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `23.4 KiB (23,962 bytes)`; bytes alone below a kibibyte.
pub fn bytes(n: usize) -> String {
    if n < 1024 { format!("{n} bytes") } else { format!("{} ({} bytes)", short_bytes(n), count(n as u64)) }
}

/// `23.4 KiB`.
pub fn short_bytes(n: usize) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..0x10_0000 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.2} MiB", n as f64 / 1_048_576.0),
    }
}

/// `12.3 M`, of multiply-adds and the like.
pub fn short_count(n: u64) -> String {
    match n {
        0..10_000 => count(n),
        10_000..10_000_000 => format!("{:.2} M", n as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.1} G", n as f64 / 1e9),
    }
}

/// `28x28x1`.
pub fn shape(shape: [usize; 3]) -> String {
    shape.map(|n| n.to_string()).join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">bytes"]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "1234".into()]);
        let text = table.to_string();
        assert_eq!(text, "  name    bytes\n  ─────────────\n  a           1\n  longer   1234\n");
        (0..9).for_each(|i| table.row([i.to_string(), i.to_string()]));
        table.shorten(2, 1);
        let text = table.to_string();
        assert!(text.contains("  … 8 more") && text.lines().count() == 6, "{text}");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(2048), "2.0 KiB (2,048 bytes)");
        assert_eq!(short_count(5_430_000), "5.43 M");
        assert_eq!(shape([1, 2, 3]), "1x2x3");
    }
}
