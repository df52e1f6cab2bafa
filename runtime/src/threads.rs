//! Threads inside a step, for hosts (feature `std`): the same bytes on any number of them.
//!
//! An operator's output is cut into parts, rows or a convolution's channels, each with scratch of its own. Each thread, the caller's among them, first takes the
//! parts that it took of the last operator, whose rows it has in its cache, and then what the others have not begun. No sum crosses a part except those of a group norm's statistics, which
//! are exact; so nothing depends on who took what, or on how many there were. Threads wait for the next
//! operator in a loop, some tens of microseconds, because waking one takes as long as a small operator does; then they sleep.
//!
//! ```
//! use mote_runtime::threads::Threads;
//! use mote_runtime::{Error, Model, Request, Sampler};
//! fn draw(model: &Model<'_>, arena: &mut [u8], pixels: &mut [u8]) -> Result<(), Error> {
//!     let threads = Threads::new(std::thread::available_parallelism().map_or(1, |n| n.get()));
//!     let mut sampler = Sampler::new(model, arena)?.with_threads(&threads);
//!     sampler.generate(Request { seed: 7, ..Default::default() })?.write_rgb888(pixels)
//! }
//! ```
//!
//! Beyond the arena a thread takes as much scratch as the operator that takes most, on the heap. Several pictures at a time are [`draw_batch`]'s, which gives each thread whole pictures: that scales better, but
//! takes an arena for each.

#![allow(unsafe_code)]

extern crate std;

mod batch;
#[cfg(test)]
mod tests;

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::vec::Vec;

use crate::ops::Cost;

pub use batch::{draw_batch, draw_batch_with_kernels};

/// Parts for each thread: where one is held up, another takes its second part.
const PARTS_A_THREAD: usize = 2;

/// Operators below this many output bytes, or 64 multiply-adds instead of a byte, are not worth two threads: a microsecond or two of work. With
/// 8 KB a step of 250 M multiply-adds on two threads takes 1.04 times as long (`avx2`), with 512 bytes no less.
const LEAST_COST: usize = 2 << 10;

/// Below this many of the same, some tens of microseconds, each thread has one part: every part costs a little. So has it where a part
/// begins with work of its own.
const WHOLE_COST: usize = 64 * LEAST_COST;

/// Looks at what is waited for before a thread sleeps: some tens of microseconds. It does not yield in between, because on a busy
/// machine that gives a whole time slice away.
const SPINS: usize = 4_000;

/// Looks at whether the others have ended before the caller takes what they have not begun: about a microsecond.
const STEAL_SPINS: usize = 64;

/// What is done with some rows: their bytes of the output, and scratch.
type RowJob<'j> = dyn Fn(Range<usize>, &mut [u8], &mut [u8]) + Sync + 'j;

/// The same with three outputs, and without scratch.
type RowsOfThree<'j> = dyn Fn(Range<usize>, [&mut [u8]; 3]) + Sync + 'j;

/// Threads that wait for a [`Sampler`](crate::Sampler)'s operators, and end when this is dropped.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Counts jobs. Held while one runs: a second sampler on the same threads runs alone meanwhile.
    running: Mutex<u64>,
}

/// Bytes of a pixel that are copied at a time between an output and a part's own piece of it.
const COPIED_BYTES: usize = 16;

/// A line of the cache, of scratch: there no vector of 512 bits lies in two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u8; 64]);

// SAFETY: bytes, of which any will do, and nothing between them.
unsafe impl bytemuck::Zeroable for Block {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Block {}

/// A job: what to do with which rows. With its number it fits a line of the cache ([`Open`]), so that a thread that has seen the number has
/// all of it: in a line of its own it takes 1.005 times as long, a step of 250 M multiply-adds.
#[derive(Clone, Copy)]
struct Job {
    run: *const RowJob<'static>,
    out: *mut u8,
    /// What a part finds in its piece, as long as the output, which it may be itself; null for whatever.
    found: *const u8,
    out_len: u32,
    /// The first of the rows, or of the units of every pixel's bytes, and how many there are.
    first_row: u32,
    rows: u32,
    /// Bytes of one of these.
    row_bytes: u32,
    /// Of a pixel, where parts are bytes of every pixel; 0 where they are rows.
    pixel_bytes: u32,
    scratch_bytes: u32,
}

impl Job {
    /// Runs part `part` of `parts`.
    ///
    /// # Safety
    /// The job is open, and nobody else runs this part of it.
    unsafe fn run(&self, [part, parts]: [usize; 2], scratch: &mut Vec<Block>) {
        let [out_len, rows, row_bytes, pixel_bytes, scratch_bytes] =
            [self.out_len, self.rows, self.row_bytes, self.pixel_bytes, self.scratch_bytes].map(|n| n as usize);
        let begin = |part: usize| rows * part / parts;
        let (first, end) = (begin(part), begin(part + 1));
        let bytes = (first * row_bytes).min(out_len)..(end * row_bytes).min(out_len);
        let pixels = out_len.checked_div(pixel_bytes).unwrap_or(0);
        let piece_bytes = (pixels * bytes.len()).next_multiple_of(size_of::<Block>());
        let need = (piece_bytes + scratch_bytes).div_ceil(size_of::<Block>());
        if scratch.len() < need {
            scratch.resize(need, Block([0; 64]));
        }
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let (piece, scratch) = scratch.split_at_mut_checked(piece_bytes).unwrap_or_default();
        let scratch = scratch.get_mut(..scratch_bytes).unwrap_or_default();
        if pixel_bytes == 0 {
            let rows = self.first_row as usize + first..self.first_row as usize + end;
            // SAFETY: within the output, of which each part has its own bytes; it is lent to the job while that is open.
            let out = unsafe { core::slice::from_raw_parts_mut(self.out.add(bytes.start), bytes.len()) };
            // SAFETY: so is what it runs.
            return unsafe { (*self.run)(rows, out, scratch) };
        }
        let piece = piece.get_mut(..pixels * bytes.len()).unwrap_or_default();
        let size = [pixels, bytes.len()];
        if !self.found.is_null() {
            // SAFETY: `over_columns` has seen that all of it are whole pixels, of which these bytes are a part. Where it is the output, no
            // other part writes them.
            unsafe { copy(piece.as_mut_ptr(), bytes.len(), self.found.add(bytes.start), pixel_bytes, size) };
        }
        // SAFETY: what the job runs is lent to it while it is open.
        unsafe { (*self.run)(bytes.clone(), piece, scratch) };
        // SAFETY: as above. All parts write at the same time, each its own bytes of every pixel; nobody has a reference to the output.
        unsafe { copy(self.out.add(bytes.start), pixel_bytes, piece.as_ptr(), bytes.len(), size) };
    }
}

/// Copies `width` bytes of each of `pixels` pixels, a multiple of [`COPIED_BYTES`].
///
/// # Safety
/// They can be read and written, `from_pixel` and `to_pixel` bytes apart.
unsafe fn copy(to: *mut u8, to_pixel: usize, from: *const u8, from_pixel: usize, [pixels, width]: [usize; 2]) {
    for pixel in 0..pixels {
        for at in (0..width).step_by(COPIED_BYTES) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = from.add(pixel * from_pixel + at).cast::<[u8; COPIED_BYTES]>().read();
                to.add(pixel * to_pixel + at).cast::<[u8; COPIED_BYTES]>().write(from);
            }
        }
    }
}

/// Alone in what a cache hands over at a time: threads that watch one of these would slow whoever writes a neighbour. Each that changes
/// hands on the way to a part and back takes some 60 ns, and a middle-sized net has a hundred operators of ten microseconds.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// The job that is open, or was last.
struct Open {
    /// Its number, above that of its parts.
    job: AtomicU64,
    /// Read by those who have taken a part of the open job, written while none is open.
    what: UnsafeCell<Option<Job>>,
}

const _: () = assert!(size_of::<Open>() <= size_of::<Block>());

/// Bits that the number of parts takes.
const PARTS_BITS: u32 = 8;

/// What became of a part: the number of the last job in which somebody took it, and in which it ended. The first the caller writes only where
/// it takes what others have not begun, the second it watches.
#[derive(Default)]
struct Part {
    taken: Line<AtomicU64>,
    ended: Line<AtomicU64>,
}

/// A job opens by a new number. Whoever raises a part's `taken` to that number has the part, and nobody else: numbers only grow. The
/// first part is always the caller's. It returns when all parts are taken and ended; a thread that comes late, with whatever number it
/// has seen, finds nothing to take and so touches nothing of the job. Locks are for sleepers alone: an operator of some microseconds has
/// no time for them.
struct Shared {
    open: Line<Open>,
    parts: Vec<Part>,
    /// Of each thread, so that all its parts find the same in its cache. Only that thread uses it, while it has a part, the caller's while it
    /// has `running`. No lock: one on the way to a part would wait until the other core has let go of the line that opened the job.
    scratch: Vec<Line<UnsafeCell<Vec<Block>>>>,
    /// Threads that wait for `wake`.
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    panicked: AtomicBool,
    quit: AtomicBool,
    sleep: Mutex<()>,
    /// A job was opened, or there will be none.
    wake: Condvar,
    /// A part has ended.
    ended: Condvar,
}

// SAFETY: `open.what` and `scratch` are the only fields that are not `Sync`. The first is written while no job is open, and read by whoever
// has taken a part of an open one: opening and ending order the two. What it points to is `Sync`, or lent out a part to each. Of the
// second each is used by one thread, which has a part, or by whoever holds `running` while no job is open.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointers are never used by whoever owns this.
unsafe impl Send for Shared {}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A panic elsewhere has not broken what these locks guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    /// `count` threads, the caller's own among them; 0 counts as 1. Where the system gives fewer, there are fewer; 127 at most.
    pub fn new(count: usize) -> Threads {
        let count = count.clamp(1, (1 << PARTS_BITS) / PARTS_A_THREAD - 1);
        let shared = Arc::new(Shared {
            open: Line(Open { job: AtomicU64::new(0), what: UnsafeCell::new(None) }),
            parts: (0..count * PARTS_A_THREAD).map(|_| Part::default()).collect(),
            scratch: (0..count).map(|_| Line::default()).collect(),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            ended: Condvar::new(),
        });
        let handles: Vec<_> = (1..count)
            .map_while(|index| {
                let shared = shared.clone();
                std::thread::Builder::new().name("mote".into()).spawn(move || shared.work(index)).ok()
            })
            .collect();
        Threads { shared, handles, running: Mutex::default() }
    }

    /// How many there are, the caller's own among them.
    pub fn count(&self) -> usize {
        self.handles.len() + 1
    }

    /// Bytes of scratch that the operators run so far have taken on the heap, beyond the arena.
    pub fn scratch_bytes(&self) -> usize {
        let _running = lock(&self.running);
        // SAFETY: with `running` held no job is open, so nobody has a part, and what was done in the last is ordered before: its caller,
        // who let go of `running`, has seen all parts end.
        let len = |scratch: &Line<UnsafeCell<Vec<Block>>>| unsafe { (*scratch.0.get()).len() };
        self.shared.scratch.iter().map(|scratch| len(scratch) * size_of::<Block>()).sum()
    }

    /// Runs `job` over pieces of `rows`; each is given its rows' bytes of `out`, `row_bytes` a row, and scratch of
    /// `scratch_bytes`. `false`, and nothing done, where that would not pay.
    pub(crate) fn over_rows(
        &self,
        rows: Range<usize>,
        (out, row_bytes): (&mut [u8], usize),
        scratch_bytes: usize,
        cost: Cost,
        job: &RowJob<'_>,
    ) -> bool {
        let a_thread = if cost.set_up || cost.work < WHOLE_COST { 1 } else { PARTS_A_THREAD };
        let parts = (self.count() * a_thread).min(rows.len());
        // The last row may be short: of a pair of image rows there may be one.
        if row_bytes == 0 || out.len().div_ceil(row_bytes) != rows.len() {
            return false;
        }
        let numbers = [rows.start, rows.len(), row_bytes, 0, scratch_bytes];
        self.start(job, (out.as_mut_ptr(), out.len()), core::ptr::null(), numbers, parts, cost)
    }

    /// As [`over_rows`](Threads::over_rows), of three outputs of one length.
    pub(crate) fn over_rows_of_three(
        &self,
        rows: Range<usize>,
        ([first, second, third], row_bytes): ([&mut [u8]; 3], usize),
        cost: Cost,
        job: &RowsOfThree<'_>,
    ) -> bool {
        if [second.len(), third.len()] != [first.len(); 2] {
            return false;
        }
        let (begin, others) = (rows.start, Others([second.as_mut_ptr(), third.as_mut_ptr()]));
        self.over_rows(rows, (first, row_bytes), 0, cost, &|rows, first, _| {
            let at = (rows.start - begin) * row_bytes;
            let [second, third] = others.pointers().map(|out| {
                // SAFETY: as long as the first, of which this part alone has the bytes from `at` on. It is lent to the job while that is open.
                unsafe { core::slice::from_raw_parts_mut(out.add(at), first.len()) }
            });
            job(rows, [first, second, third]);
        })
    }

    /// As [`over_rows`](Threads::over_rows), but what is cut are the `pixel_bytes` of every pixel of `out`, at multiples of `unit_bytes`. A
    /// part is given a piece of its own, `[pixels][its bytes]`, which is copied to its place afterwards. There it finds the bytes of that
    /// place of `found`, which is as long as `out`, or, where it is empty, of `out`.
    pub(crate) fn over_columns(
        &self,
        (out, pixel_bytes, unit_bytes): (&mut [u8], usize, usize),
        found: Option<&[u8]>,
        scratch_bytes: usize,
        cost: Cost,
        job: &RowJob<'_>,
    ) -> bool {
        let cut = unit_bytes > 0 && unit_bytes.is_multiple_of(COPIED_BYTES) && pixel_bytes.is_multiple_of(unit_bytes);
        if !cut || pixel_bytes == 0 || !out.len().is_multiple_of(pixel_bytes) {
            return false;
        }
        let (out_len, out) = (out.len(), out.as_mut_ptr());
        let found = match found {
            None => core::ptr::null(),
            Some([]) => out.cast_const(),
            Some(found) if found.len() == out_len => found.as_ptr(),
            Some(_) => return false,
        };
        let units = pixel_bytes / unit_bytes;
        let parts = self.count().min(units);
        self.start(job, (out, out_len), found, [0, units, unit_bytes, pixel_bytes, scratch_bytes], parts, cost)
    }

    /// Runs a job, if that pays; `numbers` are the last five of a [`Job`].
    fn start(
        &self,
        job: &RowJob<'_>,
        (out, out_len): (*mut u8, usize),
        found: *const u8,
        numbers: [usize; 5],
        parts: usize,
        cost: Cost,
    ) -> bool {
        if self.handles.is_empty() || parts < 2 || cost.work < LEAST_COST {
            return false;
        }
        let numbers = numbers.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let out_len = u32::try_from(out_len).unwrap_or(u32::MAX);
        if out_len == u32::MAX || numbers.contains(&u32::MAX) {
            return false;
        }
        let [first_row, rows, row_bytes, pixel_bytes, scratch_bytes] = numbers;
        let run = forget(job);
        let job = Job { run, out, found, out_len, first_row, rows, row_bytes, pixel_bytes, scratch_bytes };
        let mut jobs = match self.running.try_lock() {
            Ok(jobs) => jobs,
            // A job panicked; that is over.
            Err(TryLockError::Poisoned(jobs)) => jobs.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *jobs += 1;
        self.shared.run(*jobs, job, parts);
        true
    }
}

/// The other outputs of a job.
struct Others([*mut u8; 2]);

// SAFETY: each part makes slices of its own bytes alone.
unsafe impl Sync for Others {}

impl Others {
    fn pointers(&self) -> [*mut u8; 2] {
        self.0
    }
}

/// Forgets how long a job lives. However `run` ends, all parts have ended then, and who comes later takes none.
fn forget(job: &RowJob<'_>) -> *const RowJob<'static> {
    // SAFETY: only the lifetime changes, of a pointer.
    unsafe { core::mem::transmute::<*const RowJob<'_>, *const RowJob<'static>>(job) }
}

/// Waits a while for `condition` to end; whether it still holds. One pause before each look: without, a thread takes the line from whoever is
/// about to write it (a step of 250 M multiply-adds on two threads takes 1.035 times as long), with two it sees it later (1.006).
fn spin_while(spins: usize, condition: impl Fn() -> bool) -> bool {
    (0..spins).all(|_| {
        core::hint::spin_loop();
        condition()
    })
}

/// Ends a part that was taken, however it ends.
struct PartEnd<'a> {
    shared: &'a Shared,
    part: &'a Part,
    number: u64,
}

impl Drop for PartEnd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.panicked.store(true, Ordering::SeqCst);
        }
        self.part.ended.0.store(self.number, Ordering::SeqCst);
        if self.shared.caller_sleeps.load(Ordering::SeqCst) {
            drop(lock(&self.shared.sleep));
            self.shared.ended.notify_one();
        }
    }
}

/// Waits until all parts have ended; what nobody has begun, because the caller panicked, nobody will.
struct JobEnd<'a> {
    shared: &'a Shared,
    number: u64,
    parts: usize,
}

impl Drop for JobEnd<'_> {
    fn drop(&mut self) {
        let JobEnd { shared, number, parts } = *self;
        for part in shared.parts.iter().take(parts).skip(1) {
            let at_work = || part.ended.0.load(Ordering::SeqCst) < number;
            // What has ended was taken: that line stays with the thread that writes it.
            if !at_work() || part.taken.0.fetch_max(number, Ordering::SeqCst) < number || !spin_while(SPINS, at_work) {
                continue;
            }
            let mut sleep = lock(&shared.sleep);
            shared.caller_sleeps.store(true, Ordering::SeqCst);
            while at_work() {
                sleep = shared.ended.wait(sleep).unwrap_or_else(PoisonError::into_inner);
            }
            shared.caller_sleeps.store(false, Ordering::SeqCst);
        }
    }
}

impl Shared {
    /// Runs a job here and on the threads, and returns when all of it is done. Only with `running` held, and a new number.
    fn run(&self, number: u64, job: Job, parts: usize) {
        // SAFETY: no job is open, so nobody has a part; `running` keeps other callers out.
        unsafe { *self.open.0.what.get() = Some(job) };
        // Not unless it has to be: the others watch what lies beside it.
        if self.panicked.load(Ordering::Relaxed) {
            self.panicked.store(false, Ordering::Relaxed);
        }
        // Who falls asleep in this very moment may be missed: it sleeps through one job, and the caller takes its parts. To wait here until
        // all have seen the number takes as long as handing it over.
        self.open.0.job.store(number << PARTS_BITS | parts as u64, Ordering::Release);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
        let end = JobEnd { shared: self, number, parts };
        if let Some(scratch) = self.scratch.first() {
            // From a copy of its own: what it has just written lies in a line that is still on its way from the other core.
            // SAFETY: the job is open, and threads leave its first part alone, and the first scratch.
            unsafe { job.run([0, parts], &mut *scratch.0.get()) };
        }
        // The rest of its own, then of the others' what they have not begun after a while.
        let own = (parts / self.scratch.len()).max(1);
        self.take(0, [number, parts as u64], 1..own);
        let others = self.parts.get(own..parts).unwrap_or_default();
        let at_work = || others.iter().any(|part| part.ended.0.load(Ordering::SeqCst) < number);
        if at_work() && spin_while(STEAL_SPINS, at_work) {
            self.take(0, [number, parts as u64], (own..parts).rev());
        }
        drop(end);
        if self.panicked.load(Ordering::SeqCst) {
            resume_unwind(Box::new("a part of an operator panicked on another thread"));
        }
    }

    /// Thread `index` runs those of some parts of job `number` that nobody has taken.
    fn take(&self, index: usize, [number, parts]: [u64; 2], some: impl Iterator<Item = usize>) {
        let Some(scratch) = self.scratch.get(index) else { return };
        for (place, part) in some.filter_map(|place| Some((place, self.parts.get(place)?))) {
            if part.taken.0.fetch_max(number, Ordering::SeqCst) < number {
                let _end = PartEnd { shared: self, part, number };
                // SAFETY: all parts of a job that is not open are taken, so this one is open, and until this part has ended it stays so;
                // nobody else has taken it. The scratch is this thread's, which runs one part at a time.
                unsafe {
                    let scratch = &mut *scratch.0.get();
                    (*self.open.0.what.get()).iter().for_each(|job| job.run([place, parts as usize], scratch));
                }
            }
        }
    }

    /// What thread `index` does until it is told to end; the caller's is 0.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            let nothing = |job| job == seen && !self.quit.load(Ordering::SeqCst);
            if spin_while(SPINS, || nothing(self.open.0.job.load(Ordering::Relaxed))) {
                let mut sleep = lock(&self.sleep);
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while nothing(self.open.0.job.load(Ordering::SeqCst)) {
                    sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
            if self.quit.load(Ordering::SeqCst) {
                return;
            }
            seen = self.open.0.job.load(Ordering::SeqCst);
            let (number, parts) = (seen >> PARTS_BITS, seen as usize & ((1 << PARTS_BITS) - 1));
            // Its own, and then the next ones.
            let own = index * parts / self.scratch.len();
            let others = (own..own + parts).map(|part| part % parts).filter(|&part| part > 0);
            // A panic is the caller's: `PartEnd` has told it.
            let _ = catch_unwind(AssertUnwindSafe(|| self.take(index, [number, parts as u64], others)));
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}
