//! The pipeline.

pub mod arch;
pub mod calibrate;
pub mod compare;
pub mod draw;
pub mod emit;
pub mod fields;
pub mod graph;
pub mod interpret;
pub mod pack;
pub mod pipeline;
pub mod plan;
pub mod quantize;
pub mod report;
pub mod sample;
pub mod schedule;
pub mod weights;
