//! What the conformance tests share: a builder of small `.mote` files, record by record.
//!
//! The builder writes through the runtime's own encoders and checks nothing, so that tests can also build what
//! `Model::from_bytes` has to refuse. Real files come from the converter, whose tests are in `converter/tests`.

mod builder;
mod random;
mod reusing;
mod small;

pub use builder::{Builder, CONV, ROW, expanded, seal};
pub use random::Random;
pub use reusing::{DEEP, NULL_OPS, OPS, reusing};
pub use small::{SMALL_EMBEDDING, small};

use mote_runtime::{Aligned, Model};

/// Bytes copied to an aligned place, as flash would hold them.
pub struct Flash {
    words: Vec<Aligned<[u8; 16]>>,
    len: usize,
}

impl Flash {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let words = bytes
            .chunks(16)
            .map(|chunk| {
                let mut word = Aligned([0; 16]);
                word.0[..chunk.len()].copy_from_slice(chunk);
                word
            })
            .collect();
        Self { words, len: bytes.len() }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let first = self.words.as_ptr() as *const u8;
        // SAFETY: `Aligned` is `repr(C)`, so the words lie one behind the other, at least `len` initialised bytes.
        unsafe { std::slice::from_raw_parts(first, self.len) }
    }

    /// The bytes, with what shows that they are aligned.
    pub fn aligned(&self) -> &Aligned<[u8]> {
        let bytes = std::ptr::from_ref(self.bytes()) as *const Aligned<[u8]>;
        // SAFETY: `Aligned<[u8]>` is `repr(C, align(16))` over the same bytes, which begin at a multiple of 16; its size is
        // rounded up to 16, and the words behind `len` are whole.
        unsafe { &*bytes }
    }

    /// To change bytes in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let first = self.words.as_mut_ptr() as *mut u8;
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(first, self.len) }
    }
}

/// An aligned arena of `len` bytes, filled with a pattern that no test expects.
pub fn arena(len: usize) -> Flash {
    Flash::new(&vec![0xa5; len])
}

/// The arena that a model needs.
pub fn arena_for(model: &Model<'_>) -> Flash {
    arena(model.arena_len())
}

/// How often a randomised test repeats itself: `usual` times, times `MOTE_SWEEP` where that is set (nightly).
pub fn repeats(usual: u32) -> u32 {
    usual * std::env::var("MOTE_SWEEP").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}
