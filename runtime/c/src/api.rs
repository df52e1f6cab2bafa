//! The functions of `mote.h`, in the order in which a program calls them. Their documentation is the header's.
//!
//! Each is as thin as it can be: pointers are checked (`raw.rs`), the sampler is entered (`handle.rs`), the runtime does
//! the work, its error becomes a number (`status.rs`). What all of them ask of the caller, beyond what is checked, is
//! said once, at the head of `mote.h`; that is the `# Safety` of every function here.

// SAFETY, of every `no_mangle`: the names begin with `mote_`, which is this library's; nothing else exports them.
#![allow(unsafe_code, clippy::missing_safety_doc)]

use crate::OPS;
use crate::handle::{Entered, InitError, Phase, init, mote_sampler_t};
use crate::raw::{Region, check_optional, input, optional, output, store};
use crate::status::mote_status_t::{self, *};
use crate::status::{mote_details_t, words};
use core::ffi::c_char;
use mote_runtime::{Depth, Error, Model, Poll, Request, Verdict, arena_len};

/// `?` for functions that return a status.
fn answer(result: Result<(), mote_status_t>) -> mote_status_t {
    result.err().unwrap_or(MOTE_OK)
}

/// The words for a status, for a log or a screen.
///
/// @param status any number.
/// @return static text in ASCII, never null.
#[unsafe(no_mangle)]
pub extern "C" fn mote_error_text(status: i32) -> *const c_char {
    words(status).as_ptr()
}

/// Checks a file completely: magic, version, checksums, every offset, shape, scale and dependency.
///
/// mote_init() does the same; this is for looking at a file before it is used, a download say.
///
/// @param bytes   the file, at a multiple of 4.
/// @param len     bytes given, at least as many as the file has.
/// @param details what is wrong, in numbers; may be null.
/// @return MOTE_OK, or MOTE_ERROR_NULL, MOTE_ERROR_LENGTH, MOTE_ERROR_UNALIGNED (of details), and of the file
///         MOTE_ERROR_NOT_MOTE to MOTE_ERROR_NOT_LINKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_validate(bytes: *const u8, len: usize, details: *mut mote_details_t) -> mote_status_t {
    let check = || {
        check_optional(details)?;
        // SAFETY: the caller's promise.
        let bytes = unsafe { input(bytes, len) }?;
        Ok(Model::<'_, OPS>::with_ops(bytes).map(|_| ()))
    };
    match check() {
        Ok(result) => {
            // SAFETY: the caller's promise.
            unsafe { store(details, result.err().map(Into::into).unwrap_or_default()) };
            result.map_or_else(Into::into, |()| MOTE_OK)
        }
        Err(misuse) => misuse,
    }
}

/// The arena bytes that a model needs on this kind of core, from its records alone.
///
/// `converter inspect` prints the same number. It does not check the file: mote_init() does.
///
/// @param bytes the file.
/// @param len   bytes given.
/// @return bytes; 0 where there is no .mote file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_arena_len(bytes: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { input(bytes, len) }.map_or(0, arena_len)
}

/// Checks a file, and makes a sampler that draws with it. Also ends whatever the sampler was doing before.
///
/// The file and the arena are the sampler's from here on, for as long as it is used. Nothing in the arena needs to be
/// initialised. If the file or the arena is refused, the sampler is not initialised, even if it was before.
///
/// @param sampler   memory for the sampler; any content.
/// @param bytes     the file, at a multiple of 4, usually in flash.
/// @param bytes_len bytes given, at least as many as the file has.
/// @param arena     working memory, at a multiple of 16.
/// @param arena_len_bytes its length, at least mote_arena_len().
/// @param details   what is wrong, in numbers; may be null.
/// @return MOTE_OK; what mote_validate() returns; MOTE_ERROR_ARENA_TOO_SHORT, MOTE_ERROR_ARENA_UNALIGNED,
///         MOTE_ERROR_OVERLAP, MOTE_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_init(
    sampler: *mut mote_sampler_t,
    bytes: *const u8,
    bytes_len: usize,
    arena: *mut u8,
    arena_len_bytes: usize,
    details: *mut mote_details_t,
) -> mote_status_t {
    // SAFETY: the caller's promise, here and in the next one.
    unsafe { initialise(sampler, (bytes, bytes_len), (arena, arena_len_bytes), details, Model::with_ops) }
}

/// As mote_init(), without the checksum over the weights: for callers that trust their flash and want to start sooner.
///
/// Damaged weights change the picture, never safety.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_init_trusting_payload(
    sampler: *mut mote_sampler_t,
    bytes: *const u8,
    bytes_len: usize,
    arena: *mut u8,
    arena_len_bytes: usize,
    details: *mut mote_details_t,
) -> mote_status_t {
    let load = Model::with_ops_trusting_payload;
    // SAFETY: the caller's promise.
    unsafe { initialise(sampler, (bytes, bytes_len), (arena, arena_len_bytes), details, load) }
}

unsafe fn initialise(
    sampler: *mut mote_sampler_t,
    bytes: (*const u8, usize),
    arena: (*mut u8, usize),
    details: *mut mote_details_t,
    load: fn(&'static [u8]) -> Result<Model<'static, OPS>, Error>,
) -> mote_status_t {
    let run = || {
        let regions = || {
            let (sampler, bytes, arena) =
                (Region::new(sampler, 1)?, Region::new(bytes.0, bytes.1)?, Region::new(arena.0, arena.1)?);
            arena.apart(bytes)?;
            arena.apart(sampler)?;
            if !details.is_null() {
                sampler.apart(Region::new(details, 1)?)?;
            }
            sampler.apart(bytes)
        };
        regions().map_err(InitError::Misuse)?;
        // SAFETY: the caller's promise; for as long as the sampler is used, which is all that `'static` is used for.
        let (bytes, arena) = unsafe { (input(bytes.0, bytes.1), output(arena.0, arena.1)) };
        let (bytes, arena) = (bytes.map_err(InitError::Misuse)?, arena.map_err(InitError::Misuse)?);
        // SAFETY: the caller's promise.
        unsafe { init(sampler, || load(bytes), arena) }
    };
    let (status, found) = match run() {
        Ok(()) => (MOTE_OK, mote_details_t::default()),
        Err(InitError::Misuse(misuse)) => (misuse, mote_details_t::default()),
        Err(InitError::Runtime(error)) => (error.into(), error.into()),
    };
    // SAFETY: the caller's promise.
    unsafe { store(details, found) };
    status
}

/// What a model draws and takes.
#[repr(C)]
pub struct mote_info_t {
    /// Height of a picture, pixels.
    pub height: u32,
    /// Width of a picture, pixels.
    pub width: u32,
    /// Channels of a picture: 1 is gray, 3 is red, green, blue.
    pub channels: u32,
    /// Number of classes, the null class included; 0 where the model takes none.
    pub classes: u32,
    /// The class that stands for "none", or MOTE_NO_CLASS: then guidance is impossible.
    pub null_class: i32,
    /// Elements of the class embedding that the model takes; 0 where it takes none.
    pub class_embedding_len: u32,
    /// Bytes of the arena that are used.
    pub arena_len: u32,
    /// Bytes of a snapshot.
    pub snapshot_len: u32,
}

/// Says what the sampler's model draws and takes.
///
/// @return MOTE_OK, MOTE_ERROR_NULL, MOTE_ERROR_UNALIGNED, MOTE_ERROR_OVERLAP, MOTE_ERROR_NOT_INITIALIZED,
///         MOTE_ERROR_MOVED, MOTE_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_info(sampler: *mut mote_sampler_t, info: *mut mote_info_t) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.check_apart(info, 1)?;
        let model = entered.model();
        let [height, width, channels] = model.image_shape().map(|len| len as u32);
        let found = mote_info_t {
            height,
            width,
            channels,
            classes: model.classes() as u32,
            null_class: model.null_class().map_or(MOTE_NO_CLASS, i32::from),
            class_embedding_len: model.class_embedding_len() as u32,
            arena_len: model.arena_len() as u32,
            snapshot_len: entered.sampler().snapshot_len() as u32,
        };
        // SAFETY: the caller's promise.
        unsafe { store(info, found) };
        Ok(())
    };
    answer(run())
}

/// No class: the null class, or a model that takes none.
pub const MOTE_NO_CLASS: i32 = -1;

/// What to draw. Take mote_request_default() and change what matters.
#[repr(C)]
pub struct mote_request_t {
    /// Seed of all noise; the same seed gives the same picture on every core.
    pub seed: u64,
    /// The class, 0 up to the model's classes less 1; or MOTE_NO_CLASS.
    pub class_label: i32,
    /// `guidance_scale` as diffusers means it: 1 is one network call a step, anything else two.
    pub guidance_scale: f32,
    /// Number of steps, one that the file holds a schedule of; 0 for the file's first schedule.
    pub num_inference_steps: u16,
    /// Multiply-adds that one mote_poll() may spend, at least; a poll never splits an output row.
    pub poll_budget: u32,
    /// The start sample x_T, height x width x channels, instead of the seed's; null for none. Read by mote_start() only.
    pub noise: *const f32,
    /// Its elements.
    pub noise_len: usize,
    /// The class embedding, for a model that takes one; null for none. Read by mote_start() only.
    pub class_embedding: *const f32,
    /// Its elements.
    pub class_embedding_len: usize,
}

/// A request for seed 0 without a class, guidance 1, the file's first schedule, a whole step a poll.
#[unsafe(no_mangle)]
pub extern "C" fn mote_request_default() -> mote_request_t {
    let Request { seed, guidance, poll_budget, .. } = Request::default();
    mote_request_t {
        seed,
        class_label: MOTE_NO_CLASS,
        guidance_scale: guidance,
        num_inference_steps: 0,
        poll_budget,
        noise: core::ptr::null(),
        noise_len: 0,
        class_embedding: core::ptr::null(),
        class_embedding_len: 0,
    }
}

/// Begins a picture; one under way is dropped, after an error too.
///
/// @return MOTE_OK; what mote_info() returns; MOTE_ERROR_CLASS, MOTE_ERROR_CLASS_MISSING, MOTE_ERROR_CLASS_EMBEDDING,
///         MOTE_ERROR_GUIDANCE, MOTE_ERROR_STEPS, MOTE_ERROR_LENGTH (of the noise).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_start(sampler: *mut mote_sampler_t, request: *const mote_request_t) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.set_phase(Phase::Idle);
        entered.sampler().cancel();
        entered.check_apart(request, 1)?;
        // SAFETY: not null and aligned (checked), and there (the caller's promise).
        let given = unsafe { &*request };
        for (at, len) in [(given.noise, given.noise_len), (given.class_embedding, given.class_embedding_len)] {
            if !at.is_null() {
                entered.check_apart(at, len)?;
            }
        }
        let class = match given.class_label {
            MOTE_NO_CLASS => None,
            // A number that is no class of any model stays one.
            label => Some(u16::try_from(label).unwrap_or(u16::MAX)),
        };
        // SAFETY: the caller's promise, for both.
        let (noise, class_embedding) = unsafe {
            (optional(given.noise, given.noise_len)?, optional(given.class_embedding, given.class_embedding_len)?)
        };
        let steps = Some(given.num_inference_steps).filter(|&steps| steps != 0);
        let (seed, guidance, poll_budget) = (given.seed, given.guidance_scale, given.poll_budget);
        entered.sampler().start(Request { seed, class, guidance, steps, noise, class_embedding, poll_budget })?;
        entered.set_phase(Phase::Running);
        Ok(())
    };
    answer(run())
}

/// How far a picture has come.
#[repr(C)]
pub struct mote_progress_t {
    /// Steps finished.
    pub step: u16,
    /// Steps in all.
    pub steps: u16,
    /// Whether this poll ended at a step's end: then the mote_image functions have this step's foreseen picture.
    pub step_done: bool,
}

/// Works for about the request's poll_budget, or up to the end of a step.
///
/// @param progress how far the picture has come; may be null. Written only with MOTE_PENDING.
/// @return MOTE_PENDING; MOTE_OK when the picture is done, and at every further call; MOTE_ERROR_NOT_STARTED; what
///         mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_poll(sampler: *mut mote_sampler_t, progress: *mut mote_progress_t) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        if !progress.is_null() {
            entered.check_apart(progress, 1)?;
        }
        match entered.sampler().poll() {
            Poll::Idle => Err(MOTE_ERROR_NOT_STARTED),
            Poll::Ready => {
                entered.set_phase(Phase::Done);
                Ok(MOTE_OK)
            }
            Poll::Pending(now) => {
                let now = mote_progress_t { step: now.step, steps: now.steps, step_done: now.step_done };
                // SAFETY: the caller's promise.
                unsafe { store(progress, now) };
                Ok(MOTE_PENDING)
            }
        }
    };
    run().unwrap_or_else(|error| error)
}

/// Drops the picture under way. The arena may be used for anything until the next mote_start() or mote_restore().
///
/// @return MOTE_OK; what mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_cancel(sampler: *mut mote_sampler_t) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.set_phase(Phase::Idle);
        entered.sampler().cancel();
        Ok(())
    };
    answer(run())
}

/// Writes the picture into a buffer by one of the runtime's writers.
unsafe fn write_picture<T: bytemuck::AnyBitPattern>(
    sampler: *mut mote_sampler_t,
    out: *mut T,
    out_len: usize,
    write: fn(&mote_runtime::Image<'_>, &mut [T]) -> Result<(), Error>,
) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.check_apart(out, out_len)?;
        // SAFETY: the caller's promise; apart from what the sampler borrows.
        let out = unsafe { output(out, out_len) }?;
        write(&entered.picture()?, out)?;
        Ok(())
    };
    answer(run())
}

/// Writes the picture, one byte a pixel, row by row from the top; 0 is black.
///
/// The finished picture once mote_poll() returned MOTE_OK. Before that, at the end of a step (`step_done`), the picture
/// as this step foresees it, to be shown while the rest is drawn.
///
/// @param out     where the pixels go.
/// @param out_len bytes there, at least height x width.
/// @return MOTE_OK; MOTE_ERROR_NOT_STARTED, MOTE_ERROR_NOT_READY, MOTE_ERROR_LENGTH, MOTE_ERROR_CHANNELS (unless the
///         picture has one); what mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_image_gray8(sampler: *mut mote_sampler_t, out: *mut u8, out_len: usize) -> mote_status_t {
    // SAFETY: the caller's promise.
    unsafe { write_picture(sampler, out, out_len, |image, out| image.write_gray8(out)) }
}

/// As mote_image_gray8(), three bytes a pixel, red first; a picture with one channel becomes gray.
///
/// @param out_len bytes there, at least 3 x height x width.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_image_rgb888(
    sampler: *mut mote_sampler_t,
    out: *mut u8,
    out_len: usize,
) -> mote_status_t {
    // SAFETY: the caller's promise.
    unsafe { write_picture(sampler, out, out_len, |image, out| image.write_rgb888(out)) }
}

/// As mote_image_gray8(), a 16-bit word a pixel: five bits red (the high ones), six green, five blue.
///
/// @param out_len words there, at least height x width.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_image_rgb565(
    sampler: *mut mote_sampler_t,
    out: *mut u16,
    out_len: usize,
) -> mote_status_t {
    // SAFETY: the caller's promise.
    unsafe { write_picture(sampler, out, out_len, |image, out| image.write_rgb565(out)) }
}

/// CRC-32 of the sample as it is (32-bit floats, little-endian, row by row): the same on every core.
///
/// @return MOTE_OK; MOTE_ERROR_NOT_STARTED; what mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_sample_crc(sampler: *mut mote_sampler_t, crc: *mut u32) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.check_apart(crc, 1)?;
        if entered.phase() == Phase::Idle {
            return Err(MOTE_ERROR_NOT_STARTED);
        }
        let found = entered.sampler().sample_crc();
        // SAFETY: the caller's promise.
        unsafe { store(crc, found) };
        Ok(())
    };
    answer(run())
}

/// Writes a snapshot, with which mote_restore() continues the picture after a reset, to the same bytes.
///
/// @param out     where it goes.
/// @param out_len bytes there, at least `snapshot_len` of mote_info_t, which is what is written.
/// @return MOTE_OK; MOTE_ERROR_NOT_STARTED, MOTE_ERROR_LENGTH; what mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_snapshot(sampler: *mut mote_sampler_t, out: *mut u8, out_len: usize) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.check_apart(out, out_len)?;
        // SAFETY: the caller's promise; apart from what the sampler borrows.
        entered.sampler().snapshot(unsafe { output(out, out_len) }?)?;
        Ok(())
    };
    answer(run())
}

/// Continues from a snapshot of the same model. The sampler is idle after an error.
///
/// @return MOTE_OK; MOTE_ERROR_LENGTH, MOTE_ERROR_SNAPSHOT_CHECKSUM, MOTE_ERROR_SNAPSHOT_MODEL; what mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_restore(
    sampler: *mut mote_sampler_t,
    snapshot: *const u8,
    snapshot_len: usize,
) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        entered.set_phase(Phase::Idle);
        entered.sampler().cancel();
        entered.check_apart(snapshot, snapshot_len)?;
        // SAFETY: the caller's promise; apart from what the sampler borrows.
        entered.sampler().restore(unsafe { input(snapshot, snapshot_len) }?)?;
        entered.set_phase(Phase::Running);
        Ok(())
    };
    answer(run())
}

/// For mote_self_test(): one step.
pub const MOTE_SELF_TEST_STEP: u32 = 0;
/// For mote_self_test(): a whole picture.
pub const MOTE_SELF_TEST_SAMPLE: u32 = 1;

/// Draws what the file says a correct library draws, and compares. A picture under way is dropped.
///
/// @param depth MOTE_SELF_TEST_STEP or MOTE_SELF_TEST_SAMPLE.
/// @param op    with MOTE_ERROR_SELF_TEST_OPERATOR, the operator's number in the file; may be null.
/// @return MOTE_OK if the bytes are right; MOTE_ERROR_SELF_TEST_OPERATOR, MOTE_ERROR_SELF_TEST_ARITHMETIC;
///         MOTE_ERROR_SECTION if the file has no self-test; MOTE_ERROR_ARGUMENT; what mote_info() returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mote_self_test(sampler: *mut mote_sampler_t, depth: u32, op: *mut u16) -> mote_status_t {
    let run = || {
        // SAFETY: the caller's promise.
        let mut entered = unsafe { Entered::new(sampler) }?;
        if !op.is_null() {
            entered.check_apart(op, 1)?;
        }
        let depth = match depth {
            MOTE_SELF_TEST_STEP => Depth::Step,
            MOTE_SELF_TEST_SAMPLE => Depth::Sample,
            _ => return Err(MOTE_ERROR_ARGUMENT),
        };
        entered.set_phase(Phase::Idle);
        match entered.sampler().self_test(depth)? {
            Verdict::Passed => Ok(()),
            Verdict::Operator(first) => {
                // SAFETY: the caller's promise.
                unsafe { store(op, first) };
                Err(MOTE_ERROR_SELF_TEST_OPERATOR)
            }
            Verdict::Arithmetic => Err(MOTE_ERROR_SELF_TEST_ARITHMETIC),
        }
    };
    answer(run())
}
