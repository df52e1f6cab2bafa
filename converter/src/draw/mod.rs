//! Drawing on the host: a `.mote` file through the runtime, a checkpoint through the float network.
//!
//! Both take the same [`Prompt`] and the same noise: x_T is stream 0 of the seed, the noise of row i is stream 1 + i,
//! by the runtime's own generator. A pair of samples of one prompt therefore differs by quantization alone.
//!
//! Samples are independent, so they are spread over all cores; each prompt gives the same bytes on any number of them
//! (a float sample may differ in its last bits between CPUs, see [`interpret`](crate::interpret)).

mod buffer;
mod device;
mod float;

use miette::Result;

pub use buffer::AlignedBuffer;
pub use device::{Device, MoteFile, not_runnable};
pub use float::Float;

use crate::arch::Cond;
use crate::calibrate::Classes;

/// One sample to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Seed of all noise.
    pub seed: u64,
    /// The condition; `None` is the null class where there is one.
    pub cond: Cond,
    /// `guidance_scale` as diffusers means it; 1 is no guidance.
    pub guidance: f32,
    /// The start sample x_T, HWC, instead of the seed's.
    pub noise: Option<Vec<f32>>,
}

/// A finished sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// The picture, HWC.
    pub x0: Vec<f32>,
    /// x_T, then x₀ as each step foresaw it; empty unless frames were asked for.
    pub frames: Vec<Vec<f32>>,
}

/// What a model takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Height, width and channels of the samples.
    pub shape: [usize; 3],
    /// Classes that may be asked for.
    pub classes: Classes,
    /// Elements of the class vector (`class_embed_type` identity), 0 where none is taken.
    pub class_vector_len: usize,
}

/// Something that draws.
pub trait Draw: Sync {
    /// What it takes and gives.
    fn signature(&self) -> Signature;

    /// Draws all prompts, in order; `done` is called behind each, from any thread.
    ///
    /// # Errors
    /// What a prompt asks and the model has not.
    fn draw(&self, prompts: &[Prompt], frames: bool, done: &(dyn Fn() + Sync)) -> Result<Vec<Drawn>>;
}
