//! One small error type for everything that can go wrong.
//!
//! Each variant names the malformed thing and, where it helps, what there is and what is needed. `Copy` and without
//! text of its own: the words are in `Display`, which is linked only where it is used.

use core::fmt;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// The first four bytes are not `MOTE`.
    NotMote,
    /// The file's format version is not the one that this runtime reads.
    Version {
        /// The version in the file.
        found: u16,
    },
    /// The buffer is shorter than the file says it is.
    Truncated {
        /// Bytes given.
        have: u32,
        /// Bytes needed.
        need: u32,
    },
    /// The buffer does not begin at a multiple of four (use `include_model!` or `Aligned`).
    Unaligned,
    /// The checksum over header and records does not match.
    MetaChecksum,
    /// The checksum of a payload block (weights, tables) does not match.
    PayloadChecksum {
        /// Number of the block.
        block: u32,
    },
    /// A required section is missing, or unknown and marked as required.
    Section {
        /// The section's four letters.
        tag: [u8; 4],
    },
    /// A record is malformed.
    Record {
        /// Which kind of record.
        kind: Record,
        /// Its index in its section.
        index: u32,
        /// What is wrong with it.
        what: Fault,
    },
    /// The arena is too short.
    ArenaTooShort {
        /// Bytes given.
        have: u32,
        /// Bytes needed.
        need: u32,
    },
    /// The arena does not begin at a multiple of 16.
    ArenaUnaligned,
    /// The static arena was taken before.
    ArenaTaken,
    /// No such class.
    Class {
        /// The class asked for.
        asked: u16,
        /// The number of classes in the model.
        classes: u16,
    },
    /// The model needs a class, and none was given.
    ClassMissing,
    /// The model takes a class embedding vector of `need` elements (`class_embed_type = "identity"`).
    ClassEmbedding {
        /// Elements given.
        have: u32,
        /// Elements needed; 0 where the model takes none.
        need: u32,
    },
    /// Guidance other than 1 was asked of a model that has no null class, or is not a finite number.
    Guidance,
    /// The file holds no schedule of that many steps.
    Steps {
        /// Steps asked for.
        asked: u16,
    },
    /// An output or snapshot buffer is too short, or an input has the wrong length.
    Length {
        /// Elements given.
        have: u32,
        /// Elements needed.
        need: u32,
    },
    /// The picture has another number of channels than this output takes.
    Channels {
        /// Channels of the picture.
        have: u16,
        /// Channels that the output takes.
        need: u16,
    },
    /// `poll` or `step` was called before `start`.
    NotStarted,
    /// The snapshot is damaged.
    SnapshotChecksum,
    /// The snapshot was taken with another model.
    SnapshotModel,
}

/// Kinds of records in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Record {
    /// The header, or the number of records.
    Header,
    /// An entry of the section directory.
    Section,
    /// A tensor of `TENS`.
    Tensor,
    /// A scale and zero point of `QUAN`.
    Quant,
    /// A weight matrix of `WGTS`.
    Weights,
    /// An operator of `OPER`.
    Op,
    /// A graph of `GRPH`.
    Graph,
    /// A schedule of `SCHD`.
    Schedule,
    /// A network call of `ROWS`.
    Row,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// An unknown kind, type or flag.
    Unknown,
    /// An offset or index points outside its table, the file or the arena.
    Range,
    /// Shapes do not fit each other, or a dimension is zero or too large.
    Shape,
    /// A scale is not a positive finite number, or a coefficient is not finite.
    Number,
    /// An offset is not a multiple of what its contents need.
    Alignment,
    /// Two tensors that an operator uses together lie over each other.
    Overlap,
    /// An element type that the operator does not take.
    Type,
    /// An operator reads what no earlier operator has written.
    Order,
    /// It needs code that this program does not link ([`opset`](crate::opset)).
    NotLinked,
}

impl Error {
    /// The words for it, without the numbers.
    pub const fn text(&self) -> &'static str {
        match self {
            Error::NotMote => "not a .mote file (it does not begin with MOTE)",
            Error::Version { .. } => "another .mote format version than this runtime reads",
            Error::Truncated { .. } => "the .mote file is cut short",
            Error::Unaligned => "the .mote bytes do not begin at a multiple of 4",
            Error::MetaChecksum => "the .mote header or records are damaged (checksum)",
            Error::PayloadChecksum { .. } => "the .mote weights are damaged (checksum)",
            Error::Section { .. } => "a section of the .mote file is missing, twice there or not known to this runtime",
            Error::Record { what: Fault::NotLinked, .. } => "the model needs an operator that is not linked",
            Error::Record { .. } => "a record of the .mote file is malformed",
            Error::ArenaTooShort { .. } => "the arena is too short",
            Error::ArenaUnaligned => "the arena does not begin at a multiple of 16",
            Error::ArenaTaken => "the static arena was taken before",
            Error::Class { .. } => "the model has no such class",
            Error::ClassMissing => "the model needs a class",
            Error::ClassEmbedding { .. } => "the class embedding has another length than the model takes",
            Error::Guidance => "guidance other than 1 needs a finite factor and a model with a null class",
            Error::Steps { .. } => "the file holds no schedule of that many steps",
            Error::Length { .. } => "a buffer has another length than is needed",
            Error::Channels { .. } => "the picture has another number of channels than this output takes",
            Error::NotStarted => "the sampler was not started",
            Error::SnapshotChecksum => "the snapshot is damaged",
            Error::SnapshotModel => "the snapshot was taken with another model",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::NotMote => f.write_str("not a .mote file (it does not begin with MOTE)"),
            Error::Version { found } => {
                write!(f, ".mote format version {found}, but this runtime reads version {}", crate::format::VERSION)
            }
            Error::Truncated { have, need } => write!(f, "the .mote file is cut short: {have} bytes of {need}"),
            Error::Unaligned => f.write_str("the .mote bytes do not begin at a multiple of 4 (use include_model!)"),
            Error::MetaChecksum => f.write_str("the .mote header or records are damaged (checksum)"),
            Error::PayloadChecksum { block } => write!(f, "the .mote weights are damaged (checksum of block {block})"),
            Error::Section { tag } => {
                f.write_str("section ")?;
                tag.iter().try_for_each(|&b| write!(f, "{}", b.escape_ascii()))?;
                f.write_str(" is missing, twice there or not known to this runtime")
            }
            Error::Record { kind, index, what } => write!(f, "{kind:?} record {index} is malformed: {what:?}"),
            Error::ArenaTooShort { have, need } => {
                write!(f, "the arena has {have} bytes, these kernels need {need} (arena_len)")
            }
            Error::ArenaUnaligned => f.write_str("the arena does not begin at a multiple of 16 (use Arena)"),
            Error::ArenaTaken => f.write_str("the static arena was taken before"),
            Error::Class { asked, classes } => write!(f, "class {asked} was asked for, the model has {classes}"),
            Error::ClassMissing => f.write_str("the model needs a class"),
            Error::ClassEmbedding { have, need } => {
                write!(f, "a class embedding of {have} elements was given, the model takes {need}")
            }
            Error::Guidance => f.write_str("guidance other than 1 needs a finite factor and a model with a null class"),
            Error::Steps { asked } => write!(f, "the file holds no schedule of {asked} steps"),
            Error::Length { have, need } => write!(f, "a buffer has {have} elements, {need} are needed"),
            Error::Channels { have, need } => write!(f, "the picture has {have} channels, this output takes {need}"),
            Error::NotStarted => f.write_str("the sampler was not started"),
            Error::SnapshotChecksum => f.write_str("the snapshot is damaged"),
            Error::SnapshotModel => f.write_str("the snapshot was taken with another model"),
        }
    }
}

impl core::error::Error for Error {}
