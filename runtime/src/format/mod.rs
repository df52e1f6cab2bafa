//! The `.mote` bytes: records, each with its encoder beside its decoder.
//!
//! The normative description is `FORMAT.md`. The converter writes through the same records, so the two cannot drift.
//! A decoded record is only well-formed; that it is also *true* (offsets inside, shapes that fit) is what
//! [`Model::from_bytes`](crate::Model::from_bytes) checks, once.

pub mod checksum;
pub mod cursor;
pub mod header;
pub mod op;
pub mod schedule;
pub mod tensor;

pub use header::{Graph, Header, MAGIC, Section, SelfTest, VERSION, tag};
pub use op::{Op, OpRecord};
pub use schedule::{Clip, Row, Schedule, Store};
pub use tensor::{DType, Encoding, NONE, Quant, Tensor, Weights};
