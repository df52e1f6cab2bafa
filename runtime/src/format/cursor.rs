//! Little-endian reads and writes at fixed offsets.
//!
//! Every read is a `const fn` that gives zero past the end instead of a panic: `arena_len` runs in a `const` context
//! over the same decoders that `Model::from_bytes` uses, and `from_bytes` has checked every table's bounds before a
//! record of it is decoded, so the zeros are never seen in a valid model.

/// The byte at `at`.
pub const fn u8_at(bytes: &[u8], at: usize) -> u8 {
    if at < bytes.len() { bytes[at] } else { 0 }
}

/// The `u16` at `at`.
pub const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u8_at(bytes, at) as u16 | (u8_at(bytes, at.wrapping_add(1)) as u16) << 8
}

/// The `u32` at `at`.
pub const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u16_at(bytes, at) as u32 | (u16_at(bytes, at.wrapping_add(2)) as u32) << 16
}

/// The `f32` at `at`.
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
