//! `mote_sampler_t`: the checked model and its sampler, in memory that the caller owns.
//!
//! The caller's object is opaque words, as many as [`State`] takes on this kind of core (asserted below and, in
//! `mote.h`, by the C compiler). A `State` refers to itself (the sampler borrows the model) and so must stay where it
//! was initialised: it keeps its address, and says [`MOTE_ERROR_MOVED`] anywhere else.
//!
//! It also says [`MOTE_ERROR_BUSY`] when an interrupt calls in while the interrupted code is in a call. Loads and stores
//! suffice for that, on cores without compare-and-swap too, because the interrupt is over before the interrupted code
//! goes on. What voids the promise: two threads or two cores, which have to take turns by a lock of their own.

#![allow(unsafe_code)]

use crate::OPS;
use crate::raw::Region;
use crate::status::mote_status_t::{self, *};
use core::ptr::{addr_of, addr_of_mut};
use core::sync::atomic::{AtomicU32, Ordering};
use mote_runtime::{Error, Image};

/// cbindgen:ignore
type Model = mote_runtime::Model<'static, OPS>;
/// cbindgen:ignore
type Sampler = mote_runtime::Sampler<'static, OPS>;

/// 64-bit words of a `mote_sampler_t`.
pub const MOTE_SAMPLER_WORDS: usize = 10;
/// Pointer-sized words of a `mote_sampler_t`.
pub const MOTE_SAMPLER_POINTERS: usize = 32;

/// A sampler: a model, an arena, and the picture under way.
///
/// Declare it static (or keep it as long as it is used) and leave its contents alone. It has to stay where
/// mote_init() found it, and as long as it is used, so do the model's bytes and the arena, unchanged by anybody else.
/// Zeroed or never initialised, every function says MOTE_ERROR_NOT_INITIALIZED; copied elsewhere, MOTE_ERROR_MOVED.
///
/// Several samplers are independent of each other, and may share a model. One sampler belongs to one thread at a time.
#[repr(C)]
pub struct mote_sampler_t {
    /// Opaque.
    words: [u64; MOTE_SAMPLER_WORDS],
    /// Opaque.
    pointers: [usize; MOTE_SAMPLER_POINTERS],
}

/// What is in the caller's object.
struct State {
    /// [`IDLE_MARK`] or [`BUSY_MARK`] in an initialised sampler.
    mark: AtomicU32,
    phase: Phase,
    /// Where it was initialised.
    home: usize,
    arena: Region,
    model: Model,
    sampler: Sampler,
}

const _: () = assert!(size_of::<State>() <= size_of::<mote_sampler_t>(), "mote_sampler_t is too small");
const _: () = assert!(align_of::<State>() <= align_of::<mote_sampler_t>(), "mote_sampler_t is not aligned enough");
const _: () = assert!(size_of::<mote_sampler_t>() - size_of::<State>() < 32, "mote_sampler_t is too large");

/// Two words that memory hardly has by accident.
const IDLE_MARK: u32 = 0x4d6f_7465;
const BUSY_MARK: u32 = 0x6574_6f4d;

/// How far a picture is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    Running,
    Done,
}

/// Exclusive use of an initialised sampler, for one call.
pub(crate) struct Entered {
    state: *mut State,
}

impl Entered {
    /// # Safety
    /// A `mote_sampler_t` is at `at`, unless that is null or misaligned; nothing else uses it but interrupts of this very
    /// core, through this function. Where it was initialised, its model and arena are as they were.
    pub(crate) unsafe fn new(at: *mut mote_sampler_t) -> Result<Self, mote_status_t> {
        Region::new(at, 1)?;
        let state: *mut State = at.cast();
        // SAFETY: there, aligned, and large enough (asserted above). An atomic word and a `usize` may have any content,
        // and this is all that is read before the mark and the address say that the rest is a `State`.
        let (mark, home) = unsafe { (&*addr_of!((*state).mark), addr_of!((*state).home).read()) };
        match mark.load(Ordering::Relaxed) {
            IDLE_MARK | BUSY_MARK if home != state.addr() => Err(MOTE_ERROR_MOVED),
            BUSY_MARK => Err(MOTE_ERROR_BUSY),
            IDLE_MARK => {
                mark.store(BUSY_MARK, Ordering::Relaxed);
                core::sync::atomic::compiler_fence(Ordering::Acquire);
                Ok(Self { state })
            }
            _ => Err(MOTE_ERROR_NOT_INITIALIZED),
        }
    }

    pub(crate) fn model(&self) -> &'static Model {
        // SAFETY: initialised; from `init` until the next one nothing writes the model.
        unsafe { &*addr_of!((*self.state).model) }
    }

    pub(crate) fn sampler(&mut self) -> &mut Sampler {
        // SAFETY: initialised, and nobody else's while `self` lives. The reference is to this field alone, so the
        // sampler's own reference to the model, which lies beside it, stays valid.
        unsafe { &mut *addr_of_mut!((*self.state).sampler) }
    }

    pub(crate) fn phase(&self) -> Phase {
        // SAFETY: initialised, and nobody else's while `self` lives.
        unsafe { addr_of!((*self.state).phase).read() }
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        // SAFETY: as above.
        unsafe { addr_of_mut!((*self.state).phase).write(phase) }
    }

    /// An error if `count` elements at `at` lie over the sampler or its arena, which are borrowed during a call, or
    /// cannot be a buffer at all.
    pub(crate) fn check_apart<T>(&self, at: *const T, count: usize) -> Result<(), mote_status_t> {
        let buffer = Region::new(at, count)?;
        buffer.apart(Region::new(self.state, 1)?)?;
        // SAFETY: as above.
        buffer.apart(unsafe { addr_of!((*self.state).arena).read() })
    }

    /// The best picture there is: the finished one, or the x₀ that the last step foresaw.
    pub(crate) fn picture(&mut self) -> Result<Image<'_>, mote_status_t> {
        match self.phase() {
            Phase::Idle => Err(MOTE_ERROR_NOT_STARTED),
            Phase::Running => self.sampler().preview().ok_or(MOTE_ERROR_NOT_READY),
            Phase::Done => Ok(self.sampler().image()),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        core::sync::atomic::compiler_fence(Ordering::Release);
        // SAFETY: initialised.
        unsafe { &*addr_of!((*self.state).mark) }.store(IDLE_MARK, Ordering::Relaxed);
    }
}

/// Why a sampler could not be initialised.
pub(crate) enum InitError {
    Misuse(mote_status_t),
    Runtime(Error),
}

/// Makes the caller's memory a sampler. On an error it is one no more, whatever it was before.
///
/// # Safety
/// As [`Entered::new`]; and the bytes and the arena are the sampler's for as long as it is used.
pub(crate) unsafe fn init(
    at: *mut mote_sampler_t,
    load: impl FnOnce() -> Result<Model, Error>,
    arena: &'static mut [u8],
) -> Result<(), InitError> {
    // SAFETY: the caller's promise.
    match unsafe { Entered::new(at) } {
        // What was there before is forgotten: nothing in it has to be dropped.
        Ok(_) | Err(MOTE_ERROR_NOT_INITIALIZED | MOTE_ERROR_MOVED) => {}
        Err(misuse) => return Err(InitError::Misuse(misuse)),
    }
    let region = Region::new(arena.as_ptr(), arena.len()).map_err(InitError::Misuse)?;
    let state: *mut State = at.cast();
    // SAFETY: there, aligned and large enough (`Entered::new` has checked what can be). Field by field, since a `State`
    // as a whole is not there before the last one. The reference to the model holds: the model is written here only, and
    // everything that uses the reference has ended by then, or is refused by the mark.
    unsafe {
        addr_of_mut!((*state).mark).write(AtomicU32::new(0));
        addr_of_mut!((*state).model).write(load().map_err(InitError::Runtime)?);
        let sampler = Sampler::new(&*addr_of!((*state).model), arena).map_err(InitError::Runtime)?;
        addr_of_mut!((*state).sampler).write(sampler);
        addr_of_mut!((*state).arena).write(region);
        addr_of_mut!((*state).phase).write(Phase::Idle);
        addr_of_mut!((*state).home).write(state.addr());
        addr_of_mut!((*state).mark).write(AtomicU32::new(IDLE_MARK));
    }
    Ok(())
}
