//! Bytes at a multiple of 16 on the heap, for files and arenas of the runtime.

use mote_runtime::format::Tensor;

/// A byte buffer whose address is a multiple of 16; a `Vec<u8>` promises none.
// Not `Clone`: a copied `Vec` may begin at another offset from a multiple of 16.
#[derive(Debug)]
pub struct AlignedBuffer {
    /// Longer than what is shown by less than the alignment.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + Tensor::ALIGN];
        let start = bytes.as_ptr().align_offset(Tensor::ALIGN).min(Tensor::ALIGN);
        Self { bytes, start, len }
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.as_mut_slice().copy_from_slice(bytes);
        buffer
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_aligned() {
        for len in 0..40 {
            let bytes: Vec<u8> = (0..len).collect();
            let buffer = AlignedBuffer::copy_of(&bytes);
            assert_eq!(buffer.as_slice(), bytes);
            assert_eq!(buffer.as_slice().as_ptr() as usize % Tensor::ALIGN, 0);
        }
    }
}
