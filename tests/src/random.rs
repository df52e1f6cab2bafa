//! Random numbers for tests: the runtime's own ChaCha, so that no dependency is needed and a seed is a test.

use mote_runtime::sampler::noise::{chacha8, normal};

/// A seeded stream of numbers.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    next: u32,
}

impl Random {
    /// A stream.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        let word = chacha8(self.seed, 0, self.next / 16)[self.next as usize % 16];
        self.next += 1;
        word
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() as i64).rem_euclid(high - low + 1)
    }

    /// A normal deviate.
    pub fn normal(&mut self) -> f32 {
        normal(self.bits())
    }

    /// `len` normal deviates times `scale`.
    pub fn normals(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.normal() * scale).collect()
    }
}
