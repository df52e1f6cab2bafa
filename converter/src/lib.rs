//! The pipeline.

pub mod arch;
pub mod fields;
pub mod graph;
pub mod interpret;
pub mod sample;
pub mod schedule;
pub mod weights;
