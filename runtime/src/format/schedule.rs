//! Schedule records: a row is one network call, compiled from the scheduler's configuration.
//!
//! What reaches the device is multiply-adds only: `x₀ = p·x + q·model`, clip or threshold, `ε = r·x + s·model`, then
//! `x' = a·x + b·x₀ + c·ε + d·noise + Σ eₖ·historyₖ`. Every sampler that diffusers has is a table of such rows
//! (DDIM: Song et al., arXiv:2010.02502, equation 12; η is in `b`, `c` and `d`).

use super::cursor::{Encoded, f32_at, record, u8_at, u16_at};

/// Number of history slots a row can read.
pub const HISTORY: usize = 4;

/// What happens to x₀ between its computation and its use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// Nothing.
    None,
    /// Clamp to ±range (`clip_sample_range`).
    Range(f32),
    /// Dynamic thresholding (Saharia et al., arXiv:2205.11487, section 2.3): with s the `ratio` quantile of |x₀|
    /// (linear interpolation), clamped to 1..=max, x₀ becomes clamp(x₀, −s, s) / s.
    Dynamic {
        /// `dynamic_thresholding_ratio`, 0..=1.
        ratio: f32,
        /// `sample_max_value`, at least 1.
        max: f32,
    },
}

/// What a row keeps for later rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Nothing.
    None,
    /// ε.
    Eps,
    /// x₀ after clipping.
    X0,
    /// The model's output, guidance applied.
    Model,
}

/// One network call and the update after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The training timestep, for people; the device does not compute with it.
    pub timestep: f32,
    /// Which graph is run.
    pub graph: u16,
    /// Which one is run for the null class, where there is guidance; written as its distance from `graph`.
    pub null_graph: u16,
    /// Whether x' replaces x (and a step of the picture is done).
    pub advance: bool,
    /// Factor of x in x₀.
    pub p: f32,
    /// Factor of the model's output in x₀.
    pub q: f32,
    /// Applied to x₀.
    pub clip: Clip,
    /// Factor of x in ε.
    pub r: f32,
    /// Factor of the model's output in ε.
    pub s: f32,
    /// Factor of x in x'.
    pub a: f32,
    /// Factor of x₀, after clipping, in x'.
    pub b: f32,
    /// Factor of ε in x'.
    pub c: f32,
    /// Factor of the noise in x'; 0 draws none.
    pub d: f32,
    /// Coefficients of the history slots, read before `store` writes.
    pub e: [f32; HISTORY],
    /// What is kept for later rows.
    pub store: Store,
    /// The slot that `store` writes, below [`HISTORY`].
    pub store_slot: u8,
}

impl Row {
    /// Bytes of a record.
    pub const BYTES: usize = 80;

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ Row::BYTES }> {
        let (clip, clip0, clip1) = match self.clip {
            Clip::None => (0, 0.0, 0.0),
            Clip::Range(range) => (1, range, 0.0),
            Clip::Dynamic { ratio, max } => (2, ratio, max),
        };
        let store = match self.store {
            Store::None => 0,
            Store::Eps => 1,
            Store::X0 => 2,
            Store::Model => 3,
        };
        let mut to = Encoded::new()
            .f32(0, self.timestep)
            .u16(4, self.graph)
            .u8(6, self.advance as u8)
            .u8(7, clip)
            .u8(8, store)
            .u8(9, self.store_slot);
        let numbers = [self.p, self.q, clip0, clip1, self.r, self.s, self.a, self.b, self.c, self.d];
        for (i, &x) in numbers.iter().chain(&self.e).enumerate() {
            to = to.f32(12 + 4 * i, x);
        }
        to.u16(68, self.null_graph.wrapping_sub(self.graph))
    }

    /// Reads a record; `None` where a tag is unknown.
    pub const fn decode(bytes: &[u8]) -> Option<Row> {
        let bytes: &[u8; Row::BYTES] = record(bytes);
        let clip = match u8_at(bytes, 7) {
            0 => Clip::None,
            1 => Clip::Range(f32_at(bytes, 20)),
            2 => Clip::Dynamic { ratio: f32_at(bytes, 20), max: f32_at(bytes, 24) },
            _ => return None,
        };
        let store = match u8_at(bytes, 8) {
            0 => Store::None,
            1 => Store::Eps,
            2 => Store::X0,
            3 => Store::Model,
            _ => return None,
        };
        Some(Row {
            timestep: f32_at(bytes, 0),
            graph: u16_at(bytes, 4),
            null_graph: u16_at(bytes, 4).wrapping_add(u16_at(bytes, 68)),
            advance: u8_at(bytes, 6) != 0,
            p: f32_at(bytes, 12),
            q: f32_at(bytes, 16),
            clip,
            r: f32_at(bytes, 28),
            s: f32_at(bytes, 32),
            a: f32_at(bytes, 36),
            b: f32_at(bytes, 40),
            c: f32_at(bytes, 44),
            d: f32_at(bytes, 48),
            e: [f32_at(bytes, 52), f32_at(bytes, 56), f32_at(bytes, 60), f32_at(bytes, 64)],
            store,
            store_slot: u8_at(bytes, 9),
        })
    }

    /// Whether every number is one that the update can take: finite, ranges positive.
    pub const fn is_valid(&self) -> bool {
        let [e0, e1, e2, e3] = self.e;
        let numbers = [self.p, self.q, self.r, self.s, self.a, self.b, self.c, self.d, e0, e1, e2, e3];
        let mut i = 0;
        while i < numbers.len() {
            if !numbers[i].is_finite() {
                return false;
            }
            i += 1;
        }
        let clip = match self.clip {
            Clip::None => true,
            Clip::Range(range) => range.is_finite() && range > 0.0,
            Clip::Dynamic { ratio, max } => ratio >= 0.0 && ratio <= 1.0 && max.is_finite() && max >= 1.0,
        };
        clip && (self.store_slot as usize) < HISTORY
    }
}

/// A schedule: consecutive rows for one number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Index of its first row among all rows of the file.
    pub first_row: u16,
    /// Number of rows.
    pub rows: u16,
    /// Number of steps as the user counts them: rows that advance.
    pub steps: u16,
}

impl Schedule {
    /// Bytes of a record.
    pub const BYTES: usize = 8;

    /// The record's bytes.
    pub fn encode(&self) -> Encoded<{ Schedule::BYTES }> {
        Encoded::new().u16(0, self.first_row).u16(2, self.rows).u16(4, self.steps)
    }

    /// Reads a record.
    pub const fn decode(bytes: &[u8]) -> Schedule {
        let bytes: &[u8; Schedule::BYTES] = record(bytes);
        Schedule { first_row: u16_at(bytes, 0), rows: u16_at(bytes, 2), steps: u16_at(bytes, 4) }
    }
}
