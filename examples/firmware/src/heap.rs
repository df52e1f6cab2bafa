//! The arena from a heap: for firmware that has one anyway and needs the memory for other things between pictures.

extern crate alloc;

use alloc::vec::Vec;
use embedded_alloc::LlffHeap;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

const HEAP_BYTES: usize = 256 << 10;

/// Bytes from the heap that begin at a multiple of 16.
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// Sets the heap up (once, from `main`) and takes `len` bytes of it.
    pub fn new(len: usize) -> Self {
        // SAFETY: called once, before any allocation; the static inside the macro is used for nothing else.
        unsafe { embedded_alloc::init!(HEAP, HEAP_BYTES) };
        Self { bytes: alloc::vec![0; len + 15], len }
    }

    /// The aligned part.
    pub fn bytes(&mut self) -> &mut [u8] {
        let begin = self.bytes.as_ptr().align_offset(16).min(15);
        self.bytes.get_mut(begin..begin + self.len).unwrap_or_default()
    }
}
