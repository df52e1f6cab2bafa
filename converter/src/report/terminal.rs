//! Pictures in a terminal: two pixels a character cell with colours, shades of text where there are none.
//!
//! A half block (▀) shows the upper pixel in its foreground and the lower one in its background colour. Terminals that
//! announce 24-bit colour (`COLORTERM`) get it; others the 256-colour cube. Pipes and `NO_COLOR` get characters.

use std::fmt::Write;

use super::canvas::{Canvas, Grid};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Characters from dark to bright.
    None,
    /// The cube of 6×6×6 colours and 24 grays.
    Cube,
    /// 24 bits.
    Full,
}

impl Colours {
    /// Of standard output, by the usual environment variables.
    pub fn detect() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if !console::Term::stdout().is_term() || set("NO_COLOR").is_some() || set("TERM").as_deref() == Some("dumb") {
            return Self::None;
        }
        match set("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::Full,
            _ => Self::Cube,
        }
    }
}

/// Columns of the terminal, 80 where it has none.
pub fn columns() -> usize {
    console::Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns))
}

/// Draws samples side by side as wide as `columns` allows, at most `max`; says how many were left out.
pub fn draw(
    samples: &[&[f32]],
    shape: [usize; 3],
    columns: usize,
    max: usize,
    colours: Colours,
) -> miette::Result<String> {
    let [_, w, _] = shape;
    let shown = samples.len().min(max.max(1));
    let gap = usize::from(shown > 1);
    let across = (columns.saturating_sub(gap) / (w + gap).max(1)).clamp(1, shown.max(1));
    let canvas = Grid { columns: across, scale: 1, gap }.draw(&samples[..shown], shape)?;
    let mut text = if canvas.w <= columns {
        half_blocks(&canvas, colours)
    } else {
        half_blocks(&shrink(&canvas, columns), colours)
    };
    if shown < samples.len() {
        let _ = writeln!(text, "… {} more", samples.len() - shown);
    }
    Ok(text)
}

/// Every k-th pixel, so that the picture is at most `columns` wide.
fn shrink(canvas: &Canvas, columns: usize) -> Canvas {
    let k = canvas.w.div_ceil(columns.max(1));
    let rows = canvas.pixels.chunks_exact(canvas.w).step_by(k);
    let pixels: Vec<[u8; 3]> = rows.flat_map(|row| row.iter().step_by(k).copied()).collect();
    Canvas { w: canvas.w.div_ceil(k), h: canvas.h.div_ceil(k), pixels }
}

/// Two rows of pixels a line of text.
fn half_blocks(canvas: &Canvas, colours: Colours) -> String {
    let mut text = String::new();
    let rows: Vec<&[[u8; 3]]> = canvas.pixels.chunks_exact(canvas.w.max(1)).collect();
    for pair in rows.chunks(2) {
        let (upper, lower) = (pair[0], pair.last().filter(|_| pair.len() == 2));
        for (x, up) in upper.iter().enumerate() {
            let down = lower.map(|row| row[x]);
            match colours {
                Colours::None => text.push(shade(*up, down.unwrap_or(*up))),
                Colours::Cube => paint(&mut text, |[r, g, b]| format!("5;{}", cube(r, g, b)), *up, down),
                Colours::Full => paint(&mut text, |[r, g, b]| format!("2;{r};{g};{b}"), *up, down),
            }
        }
        if colours != Colours::None {
            text.push_str("\x1b[0m");
        }
        text.push('\n');
    }
    text
}

fn paint(text: &mut String, code: impl Fn([u8; 3]) -> String, up: [u8; 3], down: Option<[u8; 3]>) {
    let background = down.map_or(String::from("49"), |down| format!("48;{}", code(down)));
    let _ = write!(text, "\x1b[38;{};{background}m▀", code(up));
}

/// The nearest of the 256 colours: a gray where the pixel is one, else a corner of the cube.
fn cube(r: u8, g: u8, b: u8) -> u8 {
    if r == g && g == b {
        return match r {
            0..=3 => 16,
            247.. => 231,
            _ => 232 + ((u16::from(r) + 1) / 10).min(23) as u8,
        };
    }
    let level = |x: u8| (u16::from(x) * 5 + 127) / 255;
    16 + (36 * level(r) + 6 * level(g) + level(b)) as u8
}

/// One character for two pixels.
fn shade(up: [u8; 3], down: [u8; 3]) -> char {
    const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
    let light: u32 = up.iter().chain(&down).map(|x| u32::from(*x)).sum();
    RAMP[(light as usize * RAMP.len() / (6 * 256)).min(RAMP.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_pipes() {
        let (black, white) = (vec![-1.0f32; 6], vec![1.0f32; 6]);
        let samples = [&white[..], &black, &white];
        let text = draw(&samples[..1], [3, 2, 1], 80, 9, Colours::None).unwrap();
        assert_eq!(text, "@@\n@@\n");
        let text = draw(&samples, [3, 2, 1], 7, 2, Colours::None).unwrap();
        assert!(text.contains("@@") && text.ends_with("… 1 more\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 8), "{text}");
        let text = draw(&samples[..1], [3, 2, 1], 1, 9, Colours::None).unwrap();
        assert!(text.lines().all(|line| line.chars().count() == 1), "{text}");
    }

    #[test]
    fn colours_are_escape_sequences() {
        let canvas = Canvas { w: 1, h: 3, pixels: vec![[1, 2, 3], [255; 3], [0; 3]] };
        let full = half_blocks(&canvas, Colours::Full);
        assert_eq!(full, "\x1b[38;2;1;2;3;48;2;255;255;255m▀\x1b[0m\n\x1b[38;2;0;0;0;49m▀\x1b[0m\n");
        assert!(half_blocks(&canvas, Colours::Cube).contains("48;5;231"));
        assert_eq!([cube(0, 0, 0), cube(255, 0, 0), cube(128, 128, 128), cube(255, 255, 255)], [16, 196, 244, 231]);
    }
}
