//! Status numbers, their words, and the details of a refused file.

use core::ffi::CStr;
use mote_runtime::Error;
use mote_runtime::error::{Fault, Record};
use mote_status_t::*;

/// What a call came to: 0, 1, or a negative error. mote_error_text() has words for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum mote_status_t {
    /// Done. From mote_poll(): the picture is done.
    MOTE_OK = 0,
    /// From mote_poll(): there is more to do.
    MOTE_PENDING = 1,

    /// A pointer that is needed is null.
    MOTE_ERROR_NULL = -1,
    /// A pointer is not aligned for what it points to. (For model and arena there are codes of their own.)
    MOTE_ERROR_UNALIGNED = -2,
    /// A buffer lies over the sampler, its arena or another buffer of the call.
    MOTE_ERROR_OVERLAP = -3,
    /// The sampler was not initialised, or its last initialisation failed.
    MOTE_ERROR_NOT_INITIALIZED = -4,
    /// The sampler is not where it was initialised.
    MOTE_ERROR_MOVED = -5,
    /// The call came out of an interrupt, and the interrupted code is in a call with the same sampler.
    MOTE_ERROR_BUSY = -6,
    /// No picture was started, or it was cancelled.
    MOTE_ERROR_NOT_STARTED = -7,
    /// There is no picture to be seen yet.
    MOTE_ERROR_NOT_READY = -8,
    /// An argument is none of the values that it may have.
    MOTE_ERROR_ARGUMENT = -9,
    /// A buffer is too short, an input has the wrong length, or a length is none that memory can have.
    MOTE_ERROR_LENGTH = -10,
    /// The picture has another number of channels than this output takes.
    MOTE_ERROR_CHANNELS = -11,

    /// Not a .mote file.
    MOTE_ERROR_NOT_MOTE = -20,
    /// Another .mote format version than this library reads.
    MOTE_ERROR_VERSION = -21,
    /// The file is cut short.
    MOTE_ERROR_TRUNCATED = -22,
    /// The file does not begin at a multiple of 4.
    MOTE_ERROR_MODEL_UNALIGNED = -23,
    /// The header or the records are damaged.
    MOTE_ERROR_META_CHECKSUM = -24,
    /// The weights or tables are damaged.
    MOTE_ERROR_PAYLOAD_CHECKSUM = -25,
    /// A section of the file is missing, twice there or not known to this library.
    MOTE_ERROR_SECTION = -26,
    /// A record of the file is malformed.
    MOTE_ERROR_RECORD = -27,
    /// The model needs an operator that this library was built without (MOTE_LIKE named another model).
    MOTE_ERROR_NOT_LINKED = -28,

    /// The arena is too short.
    MOTE_ERROR_ARENA_TOO_SHORT = -30,
    /// The arena does not begin at a multiple of 16.
    MOTE_ERROR_ARENA_UNALIGNED = -31,

    /// The model has no such class.
    MOTE_ERROR_CLASS = -40,
    /// The model needs a class.
    MOTE_ERROR_CLASS_MISSING = -41,
    /// The class embedding has another length than the model takes.
    MOTE_ERROR_CLASS_EMBEDDING = -42,
    /// A guidance scale other than 1 needs a finite number and a model with a null class.
    MOTE_ERROR_GUIDANCE = -43,
    /// The file holds no schedule of that many steps.
    MOTE_ERROR_STEPS = -44,

    /// The snapshot is damaged.
    MOTE_ERROR_SNAPSHOT_CHECKSUM = -50,
    /// The snapshot was taken with another model.
    MOTE_ERROR_SNAPSHOT_MODEL = -51,

    /// The self-test failed: this core's kernels compute something else than they should, first in one operator.
    MOTE_ERROR_SELF_TEST_OPERATOR = -60,
    /// The self-test failed, but not in the kernels: floating point (flush-to-zero switched on?), memory, a compiler.
    MOTE_ERROR_SELF_TEST_ARITHMETIC = -61,

    /// An error that this version of the header has no number for.
    MOTE_ERROR_OTHER = -99,
}

/// The words for a number.
pub(crate) fn words(status: i32) -> &'static CStr {
    let found = TEXTS.iter().find(|&&(code, _)| code as i32 == status);
    found.map_or(c"no status of this library", |&(_, text)| text)
}

/// `tests/on_target/c/misuse.c` asks for the words of every status that it meets.
static TEXTS: &[(mote_status_t, &CStr)] = &[
    (MOTE_OK, c"done"),
    (MOTE_PENDING, c"there is more to do"),
    (MOTE_ERROR_NULL, c"a pointer that is needed is null"),
    (MOTE_ERROR_UNALIGNED, c"a pointer is not aligned for what it points to"),
    (MOTE_ERROR_OVERLAP, c"a buffer lies over the sampler, its arena or another buffer"),
    (MOTE_ERROR_NOT_INITIALIZED, c"the sampler was not initialised (mote_init)"),
    (MOTE_ERROR_MOVED, c"the sampler is not where it was initialised"),
    (MOTE_ERROR_BUSY, c"the sampler is in a call already"),
    (MOTE_ERROR_NOT_STARTED, c"no picture was started (mote_start)"),
    (MOTE_ERROR_NOT_READY, c"there is no picture to be seen yet (mote_poll)"),
    (MOTE_ERROR_ARGUMENT, c"an argument is none of the values that it may have"),
    (MOTE_ERROR_LENGTH, c"a buffer has another length than is needed"),
    (MOTE_ERROR_CHANNELS, c"the picture has another number of channels than this output takes"),
    (MOTE_ERROR_NOT_MOTE, c"not a .mote file (it does not begin with MOTE)"),
    (MOTE_ERROR_VERSION, c"another .mote format version than this library reads"),
    (MOTE_ERROR_TRUNCATED, c"the .mote file is cut short"),
    (MOTE_ERROR_MODEL_UNALIGNED, c"the .mote bytes do not begin at a multiple of 4"),
    (MOTE_ERROR_META_CHECKSUM, c"the .mote header or records are damaged (checksum)"),
    (MOTE_ERROR_PAYLOAD_CHECKSUM, c"the .mote weights are damaged (checksum)"),
    (MOTE_ERROR_SECTION, c"a section of the .mote file is missing, twice there or not known"),
    (MOTE_ERROR_RECORD, c"a record of the .mote file is malformed"),
    (MOTE_ERROR_NOT_LINKED, c"the model needs an operator that is not linked (MOTE_LIKE)"),
    (MOTE_ERROR_ARENA_TOO_SHORT, c"the arena is too short (mote_arena_len)"),
    (MOTE_ERROR_ARENA_UNALIGNED, c"the arena does not begin at a multiple of 16"),
    (MOTE_ERROR_CLASS, c"the model has no such class"),
    (MOTE_ERROR_CLASS_MISSING, c"the model needs a class"),
    (MOTE_ERROR_CLASS_EMBEDDING, c"the class embedding has another length than the model takes"),
    (MOTE_ERROR_GUIDANCE, c"guidance other than 1 needs a finite factor and a model with a null class"),
    (MOTE_ERROR_STEPS, c"the file holds no schedule of that many steps"),
    (MOTE_ERROR_SNAPSHOT_CHECKSUM, c"the snapshot is damaged"),
    (MOTE_ERROR_SNAPSHOT_MODEL, c"the snapshot was taken with another model"),
    (MOTE_ERROR_SELF_TEST_OPERATOR, c"self-test: an operator computes something else than it should"),
    (MOTE_ERROR_SELF_TEST_ARITHMETIC, c"self-test: the kernels are right, but the picture is not"),
    (MOTE_ERROR_OTHER, c"another error"),
];

impl From<Error> for mote_status_t {
    fn from(error: Error) -> Self {
        match error {
            Error::NotMote => MOTE_ERROR_NOT_MOTE,
            Error::Version { .. } => MOTE_ERROR_VERSION,
            Error::Truncated { .. } => MOTE_ERROR_TRUNCATED,
            Error::Unaligned => MOTE_ERROR_MODEL_UNALIGNED,
            Error::MetaChecksum => MOTE_ERROR_META_CHECKSUM,
            Error::PayloadChecksum { .. } => MOTE_ERROR_PAYLOAD_CHECKSUM,
            Error::Section { .. } => MOTE_ERROR_SECTION,
            Error::Record { what: Fault::NotLinked, .. } => MOTE_ERROR_NOT_LINKED,
            Error::Record { .. } => MOTE_ERROR_RECORD,
            Error::ArenaTooShort { .. } => MOTE_ERROR_ARENA_TOO_SHORT,
            Error::ArenaUnaligned => MOTE_ERROR_ARENA_UNALIGNED,
            Error::Class { .. } => MOTE_ERROR_CLASS,
            Error::ClassMissing => MOTE_ERROR_CLASS_MISSING,
            Error::ClassEmbedding { .. } => MOTE_ERROR_CLASS_EMBEDDING,
            Error::Guidance => MOTE_ERROR_GUIDANCE,
            Error::Steps { .. } => MOTE_ERROR_STEPS,
            Error::Length { .. } => MOTE_ERROR_LENGTH,
            Error::Channels { .. } => MOTE_ERROR_CHANNELS,
            Error::NotStarted => MOTE_ERROR_NOT_STARTED,
            Error::SnapshotChecksum => MOTE_ERROR_SNAPSHOT_CHECKSUM,
            Error::SnapshotModel => MOTE_ERROR_SNAPSHOT_MODEL,
            _ => MOTE_ERROR_OTHER,
        }
    }
}

/// Kinds of records in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum mote_record_t {
    /// No record.
    #[default]
    MOTE_RECORD_NONE = 0,
    /// The header, or the number of records.
    MOTE_RECORD_HEADER = 1,
    /// An entry of the section directory.
    MOTE_RECORD_SECTION = 2,
    /// A tensor.
    MOTE_RECORD_TENSOR = 3,
    /// A scale and zero point.
    MOTE_RECORD_QUANT = 4,
    /// A weight matrix.
    MOTE_RECORD_WEIGHTS = 5,
    /// An operator.
    MOTE_RECORD_OP = 6,
    /// A graph.
    MOTE_RECORD_GRAPH = 7,
    /// A schedule.
    MOTE_RECORD_SCHEDULE = 8,
    /// A network call of a schedule.
    MOTE_RECORD_ROW = 9,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum mote_fault_t {
    /// Nothing.
    #[default]
    MOTE_FAULT_NONE = 0,
    /// An unknown kind, type or flag.
    MOTE_FAULT_UNKNOWN = 1,
    /// An offset or index points outside its table, the file or the arena.
    MOTE_FAULT_RANGE = 2,
    /// Shapes do not fit each other, or a dimension is zero or too large.
    MOTE_FAULT_SHAPE = 3,
    /// A scale is not a positive finite number, or a coefficient is not finite.
    MOTE_FAULT_NUMBER = 4,
    /// An offset is not a multiple of what its contents need.
    MOTE_FAULT_ALIGNMENT = 5,
    /// Two tensors that an operator uses together lie over each other.
    MOTE_FAULT_OVERLAP = 6,
    /// An element type that the operator does not take.
    MOTE_FAULT_TYPE = 7,
    /// An operator reads what no earlier operator has written.
    MOTE_FAULT_ORDER = 8,
    /// It needs an operator that is not linked.
    MOTE_FAULT_NOT_LINKED = 9,
}

/// Why a file or an arena was refused, in numbers. What does not apply is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct mote_details_t {
    /// What there is. MOTE_ERROR_TRUNCATED, MOTE_ERROR_ARENA_TOO_SHORT: bytes; MOTE_ERROR_VERSION: the file's version.
    pub have: u32,
    /// What is needed. MOTE_ERROR_TRUNCATED, MOTE_ERROR_ARENA_TOO_SHORT: bytes; MOTE_ERROR_VERSION: the version read.
    pub need: u32,
    /// The number of the record (MOTE_ERROR_RECORD, MOTE_ERROR_NOT_LINKED) or of the block of weights
    /// (MOTE_ERROR_PAYLOAD_CHECKSUM).
    pub index: u32,
    /// The kind of the record.
    pub record: mote_record_t,
    /// What is wrong with the record.
    pub fault: mote_fault_t,
    /// The four letters of the section (MOTE_ERROR_SECTION), without an end mark.
    pub section: [u8; 4],
}

impl From<Error> for mote_details_t {
    fn from(error: Error) -> Self {
        let none = Self::default();
        match error {
            Error::Version { found } => Self { have: found as u32, need: mote_runtime::format::VERSION as u32, ..none },
            Error::Truncated { have, need } | Error::ArenaTooShort { have, need } => Self { have, need, ..none },
            Error::PayloadChecksum { block } => Self { index: block, ..none },
            Error::Section { tag } => Self { section: tag, ..none },
            Error::Record { kind, index, what } => Self { index, record: kind.into(), fault: what.into(), ..none },
            _ => none,
        }
    }
}

impl From<Record> for mote_record_t {
    fn from(kind: Record) -> Self {
        use mote_record_t::*;
        match kind {
            Record::Header => MOTE_RECORD_HEADER,
            Record::Section => MOTE_RECORD_SECTION,
            Record::Tensor => MOTE_RECORD_TENSOR,
            Record::Quant => MOTE_RECORD_QUANT,
            Record::Weights => MOTE_RECORD_WEIGHTS,
            Record::Op => MOTE_RECORD_OP,
            Record::Graph => MOTE_RECORD_GRAPH,
            Record::Schedule => MOTE_RECORD_SCHEDULE,
            Record::Row => MOTE_RECORD_ROW,
        }
    }
}

impl From<Fault> for mote_fault_t {
    fn from(what: Fault) -> Self {
        use mote_fault_t::*;
        match what {
            Fault::Unknown => MOTE_FAULT_UNKNOWN,
            Fault::Range => MOTE_FAULT_RANGE,
            Fault::Shape => MOTE_FAULT_SHAPE,
            Fault::Number => MOTE_FAULT_NUMBER,
            Fault::Alignment => MOTE_FAULT_ALIGNMENT,
            Fault::Overlap => MOTE_FAULT_OVERLAP,
            Fault::Type => MOTE_FAULT_TYPE,
            Fault::Order => MOTE_FAULT_ORDER,
            Fault::NotLinked => MOTE_FAULT_NOT_LINKED,
        }
    }
}
