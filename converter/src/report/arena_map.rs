//! A picture of the arena in text: byte offsets upwards, operators from left to right.
//!
//! Tensors are shaded alternately, so that neighbours can be told apart; what lives always is solid, scratch is dotted.
//! Every cell shows whatever uses most of its bytes and operators, so nothing that is large can be missed.

use std::fmt::{self, Display};
use std::ops::{Range, RangeInclusive};

use super::table::short_bytes;

/// The bytes of a tensor, and when they are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Arena bytes.
    pub bytes: Range<usize>,
    /// Operators.
    pub ops: RangeInclusive<usize>,
    /// It outlives network calls.
    pub always: bool,
}

/// The map.
#[derive(Clone, Debug, Default)]
pub struct ArenaMap {
    lives: Vec<Life>,
    /// By operator: live end and scratch.
    ends: Vec<(usize, usize)>,
}

/// Lines of the map, axes not counted.
const LINES: usize = 20;
/// Columns of the map, axes not counted, unless there are fewer operators.
const COLUMNS: usize = 96;

const ALWAYS: char = '█';
const TENSORS: [char; 2] = ['▓', '▒'];
const SCRATCH: char = '·';
const FREE: char = ' ';

impl ArenaMap {
    /// From the tensors' lives and each operator's live end and scratch, in bytes.
    pub fn new(lives: &[Life], ends: &[(usize, usize)]) -> Self {
        Self { lives: lives.to_vec(), ends: ends.to_vec() }
    }

    fn arena_bytes(&self) -> usize {
        let tops = self.lives.iter().map(|life| life.bytes.end);
        self.ends.iter().map(|(end, scratch)| end + scratch).chain(tops).max().unwrap_or(0)
    }

    /// A shade for each life: not that of a neighbour before it which it touches in time.
    fn shades(&self) -> Vec<char> {
        let mut shades: Vec<char> = Vec::with_capacity(self.lives.len());
        for (i, life) in self.lives.iter().enumerate() {
            let meets = |other: &Life| life.ops.start() <= other.ops.end() && other.ops.start() <= life.ops.end();
            let touches = |other: &Life| life.bytes.start <= other.bytes.end && other.bytes.start <= life.bytes.end;
            let mut votes = [0usize; 2];
            for (other, shade) in self.lives.iter().zip(&shades[..i]) {
                // In-place successors begin where the earlier one ends.
                if meets(other)
                    && touches(other)
                    && let Some(k) = TENSORS.iter().position(|tensor| tensor == shade)
                {
                    votes[k] += 1;
                }
            }
            shades.push(if life.always { ALWAYS } else { TENSORS[usize::from(votes[0] > votes[1])] });
        }
        shades
    }
}

impl Display for ArenaMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ops, arena) = (self.ends.len(), self.arena_bytes());
        if ops == 0 || arena == 0 {
            return writeln!(f, "  the arena is empty");
        }
        let columns = ops.min(COLUMNS);
        let line_bytes = arena.div_ceil(LINES).next_multiple_of(16);
        let lines = arena.div_ceil(line_bytes);
        let shades = self.shades();
        let cell = |line: usize, column: usize| {
            let (bytes, time) =
                (line * line_bytes..(line + 1) * line_bytes, column * ops / columns..(column + 1) * ops / columns);
            let overlap = |a: &Range<usize>, b: Range<usize>| a.end.min(b.end).saturating_sub(a.start.max(b.start));
            let mut areas = [(FREE, 0), (SCRATCH, 0), (ALWAYS, 0), (TENSORS[0], 0), (TENSORS[1], 0)];
            let mut used = 0;
            for (life, shade) in self.lives.iter().zip(&shades) {
                let area = overlap(&bytes, life.bytes.clone()) * overlap(&time, *life.ops.start()..life.ops.end() + 1);
                areas.iter_mut().filter(|(of, _)| of == shade).for_each(|(_, sum)| *sum += area);
                used += area;
            }
            for (end, scratch) in &self.ends[time.clone()] {
                areas[1].1 += overlap(&bytes, *end..end + scratch);
            }
            areas[0].1 = (line_bytes * time.len()).saturating_sub(used + areas[1].1);
            areas.iter().max_by_key(|(_, area)| *area).map_or(FREE, |(shade, _)| *shade)
        };
        for line in (0..lines).rev() {
            let row: String = (0..columns).map(|column| cell(line, column)).collect();
            let label = match line % 4 {
                0 => short_bytes(line * line_bytes),
                _ => String::new(),
            };
            writeln!(f, "  {label:>9} │{row}│")?;
        }
        let right = format!("{} operators", ops);
        let pad = columns.saturating_sub(1 + right.chars().count());
        writeln!(f, "  {:>9} └{}┘", "", "─".repeat(columns))?;
        writeln!(f, "  {:>9}  0{}{right}", "", " ".repeat(pad))?;
        writeln!(
            f,
            "  {:>9}  {ALWAYS} kept between calls   {}{} tensors   {SCRATCH} scratch   one line is {}",
            "",
            TENSORS[0],
            TENSORS[1],
            short_bytes(line_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_a_staircase() {
        let life = |bytes, ops| Life { bytes, ops, always: false };
        let lives = [Life { bytes: 0..160, ops: 0..=2, always: true }, life(160..320, 0..=1), life(320..480, 1..=2)];
        let map = ArenaMap::new(&lives, &[(320, 0), (480, 160), (480, 0)]);
        let text = map.to_string();
        let cells: Vec<Vec<char>> = text
            .lines()
            .filter_map(|line| Some(line.split_once('│')?.1.strip_suffix('│')?.chars().collect()))
            .collect();
        assert_eq!(cells.len(), 20, "{text}");
        let at = |line: usize, op: usize| cells[cells.len() - 1 - line][op];
        assert!((0..3).all(|op| at(0, op) == ALWAYS));
        assert_eq!([at(6, 0), at(6, 2), at(11, 0)], ['▓', ' ', ' '], "{text}");
        assert_eq!([at(11, 1), at(11, 2), at(16, 1), at(16, 2)], ['▒', '▒', '·', ' '], "{text}");
        assert!(ArenaMap::default().to_string().contains("empty"));
    }
}
