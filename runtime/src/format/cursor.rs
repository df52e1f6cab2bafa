//! Little-endian reads and writes at fixed offsets.
//!
//! Every read is a `const fn` that gives zero past the end instead of a panic: `arena_len` runs in a `const` context
//! over the same decoders that `Model::from_bytes` uses, and `from_bytes` has checked every table's bounds before a
//! record of it is decoded, so the zeros are never seen in a valid model. A decoder takes its record as an array first
//! ([`record`]): one check, and the reads behind it are plain loads.

/// The first `N` bytes, or zeros where there are fewer.
#[inline(always)]
pub const fn record<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    match bytes.first_chunk() {
        Some(record) => record,
        None => const { &[0; N] },
    }
}

/// What follows `at`, or nothing.
#[inline(always)]
pub const fn tail(bytes: &[u8], at: usize) -> &[u8] {
    match bytes.split_at_checked(at) {
        Some((_, tail)) => tail,
        None => &[],
    }
}

/// The byte at `at`.
#[inline(always)]
pub const fn u8_at(bytes: &[u8], at: usize) -> u8 {
    record::<1>(tail(bytes, at))[0]
}

/// The `u16` at `at`.
#[inline(always)]
pub const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*record(tail(bytes, at)))
}

/// The `u32` at `at`.
#[inline(always)]
pub const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*record(tail(bytes, at)))
}

/// The `f32` at `at`.
#[inline(always)]
pub const fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

/// A record being written: a fixed number of bytes, zero where nothing was put.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<const N: usize>(pub [u8; N]);

impl<const N: usize> Encoded<N> {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// Puts little-endian bytes at `at`; what lies past the end is dropped.
    pub fn put<const M: usize>(mut self, at: usize, value: [u8; M]) -> Self {
        if let Some(to) = self.0.get_mut(at..).and_then(|rest| rest.get_mut(..M)) {
            to.copy_from_slice(&value);
        }
        self
    }

    /// Puts a byte.
    pub fn u8(self, at: usize, value: u8) -> Self {
        self.put(at, [value])
    }

    /// Puts a `u16`.
    pub fn u16(self, at: usize, value: u16) -> Self {
        self.put(at, value.to_le_bytes())
    }

    /// Puts a `u32`.
    pub fn u32(self, at: usize, value: u32) -> Self {
        self.put(at, value.to_le_bytes())
    }

    /// Puts an `f32`.
    pub fn f32(self, at: usize, value: f32) -> Self {
        self.put(at, value.to_le_bytes())
    }
}

impl<const N: usize> Default for Encoded<N> {
    fn default() -> Self {
        Self::new()
    }
}
