//! From a trained checkpoint to one flat `.mote` file.
//!
//! A tour, in the order in which data flows; each arrow is its own type, so a skipped stage does not compile:
//!
//! 1. [`weights`]: safetensors and configurations, checked → [`weights::Checkpoint`].
//! 2. [`arch`]: the network's configuration, every key of it → [`arch::Network`], whose [`graph`] is f32 operators, one
//!    for one those of the device, with its time path.
//! 3. [`schedule`]: scheduler configuration and steps → [`schedule::Schedules`], rows of multiply-adds.
//! 4. [`calibrate`]: the real sampler ([`sample`]) over the f32 interpreter ([`interpret`], which is also the oracle) →
//!    [`calibrate::Ranges`] of every tensor at every step.
//! 5. [`quantize`]: ranges → scales, weights → int8, operators → the runtime's → [`quantize::QuantGraph`].
//! 6. [`plan`]: lifetimes → arena offsets → [`plan::Plan`].
//! 7. [`pack`]: → [`pack::Packed`] bytes; [`emit`] puts them on disk whole or not at all.
//!
//! [`pipeline`] is all of that on one screen. [`draw`] draws by float or by file alike, [`compare`] holds them against each
//! other, [`judge`] says what sets of pictures are worth, [`report`] is how people and scripts are told. Records, rounding and shape rules are `mote-runtime`'s: the two
//! halves cannot drift.

#![warn(missing_docs)]

pub mod arch;
pub mod calibrate;
pub mod compare;
pub mod draw;
pub mod emit;
pub mod fields;
pub mod graph;
pub mod interpret;
pub mod judge;
pub mod pack;
pub mod pipeline;
pub mod plan;
pub mod quantize;
pub mod report;
pub mod sample;
pub mod schedule;
pub mod search;
pub mod weights;
