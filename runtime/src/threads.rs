//! Threads inside a step, for hosts (feature `std`): the same bytes on any number of them.
//!
//! An operator's output rows are cut into parts, each with scratch of its own. Each thread, the caller's among them, first takes the
//! parts that it took of the last operator, whose rows it has in its cache, and then what the others have not begun. No sum crosses a part except a group norm's statistics, which are cut
//! between groups instead; so nothing depends on who took what, or on how many there were. Threads wait for the next
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

use core::cell::UnsafeCell;
use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::vec::Vec;

use crate::error::Error;
use crate::model::Model;
use crate::ops::Cost;
use crate::opset::OpSet;
use crate::sampler::{Request, Sampler};

/// Parts for each thread: where one is held up, another takes its second part.
const PARTS_A_THREAD: usize = 2;

/// Operators below this many output bytes, or 64 multiply-adds instead of a byte, are not worth two threads: some
/// microseconds of work.
const LEAST_COST: usize = 8 << 10;

/// Below this many of the same, some ten microseconds, each thread has one part: every part costs a little. So has it where a part
/// begins with work of its own.
const WHOLE_COST: usize = 16 * LEAST_COST;

/// Looks at what is waited for before a thread sleeps: some tens of microseconds. It does not yield in between, because on a busy
/// machine that gives a whole time slice away.
const SPINS: usize = 4_000;

/// Looks at whether the others have ended before the caller takes what they have not begun: about a microsecond.
const STEAL_SPINS: usize = 64;

/// What is done with some rows: their bytes of the output, and scratch.
type RowJob<'j> = dyn Fn(Range<usize>, &mut [u8], &mut [u8]) + Sync + 'j;

/// Threads that wait for a [`Sampler`]'s operators, and end when this is dropped.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Counts jobs. Held while one runs: a second sampler on the same threads runs alone meanwhile.
    running: Mutex<u64>,
}

/// A job: what to do with which rows, in how many parts.
struct Job {
    run: *const RowJob<'static>,
    rows: Range<usize>,
    parts: usize,
    out: *mut u8,
    out_len: usize,
    row_bytes: usize,
    scratch_bytes: usize,
}

impl Job {
    /// Runs part `part`.
    ///
    /// # Safety
    /// The job is open, and nobody else runs this part of it.
    unsafe fn run(&self, part: usize, scratch: &Mutex<Vec<u128>>) {
        let begin = |part: usize| self.rows.len() * part / self.parts;
        let (first, end) = (begin(part), begin(part + 1));
        let bytes = (first * self.row_bytes).min(self.out_len)..(end * self.row_bytes).min(self.out_len);
        // SAFETY: within the output, of which each part has its own bytes; it is lent to the job while that is open.
        let out = unsafe { core::slice::from_raw_parts_mut(self.out.add(bytes.start), bytes.len()) };
        let mut scratch = lock(scratch);
        let need = self.scratch_bytes.div_ceil(size_of::<u128>());
        if scratch.len() < need {
            scratch.resize(need, 0);
        }
        let scratch = bytemuck::cast_slice_mut(&mut scratch).get_mut(..self.scratch_bytes).unwrap_or_default();
        // SAFETY: so is what it runs.
        unsafe { (*self.run)(self.rows.start + first..self.rows.start + end, out, scratch) };
    }
}

/// Alone in what a cache hands over at a time: threads that watch one of these would slow whoever writes a neighbour. Each that changes
/// hands on the way to a part and back takes some 60 ns, and a middle-sized net has a hundred operators of ten microseconds.
#[repr(align(128))]
struct Line<T>(T);

/// The job that is open, or was last.
struct Open {
    /// Its number, above that of its parts.
    job: AtomicU64,
    /// Read by those who have taken a part of the open job, written while none is open.
    what: UnsafeCell<Option<Job>>,
}

/// Bits that the number of parts takes.
const PARTS_BITS: u32 = 8;

/// What became of a part: the number of the last job in which somebody took it, and in which it ended.
#[derive(Default)]
struct Part {
    taken: AtomicU64,
    ended: AtomicU64,
}

/// A job opens by a new number. Whoever raises a part's `taken` to that number has the part, and nobody else: numbers only grow. The
/// first part is always the caller's. It returns when all parts are taken and ended; a thread that comes late, with whatever number it
/// has seen, finds nothing to take and so touches nothing of the job. Locks are for sleepers alone: an operator of some microseconds has
/// no time for them.
struct Shared {
    open: Line<Open>,
    parts: Vec<Line<Part>>,
    /// Of each thread, so that all its parts find the same in its cache.
    scratch: Vec<Mutex<Vec<u128>>>,
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

// SAFETY: `open.what` is the only field that is not `Sync`. It is written while no job is open, and read by whoever has taken a part of
// an open one: opening and ending order the two. What it points to is `Sync`, or lent out a part to each.
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
            parts: (0..count * PARTS_A_THREAD).map(|_| Line(Part::default())).collect(),
            scratch: (0..count).map(|_| Mutex::default()).collect(),
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
        self.shared.scratch.iter().map(|scratch| lock(scratch).len() * size_of::<u128>()).sum()
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
        let fits = row_bytes > 0 && out.len().div_ceil(row_bytes) == rows.len();
        if self.handles.is_empty() || parts < 2 || cost.work < LEAST_COST || !fits {
            return false;
        }
        let mut jobs = match self.running.try_lock() {
            Ok(jobs) => jobs,
            // A job panicked; that is over.
            Err(TryLockError::Poisoned(jobs)) => jobs.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        *jobs += 1;
        // SAFETY: only the lifetime changes. However `run` ends, all parts have ended then, and who comes later takes none.
        let run = unsafe { core::mem::transmute::<*const RowJob<'_>, *const RowJob<'static>>(job) };
        let (out_len, out) = (out.len(), out.as_mut_ptr());
        self.shared.run(*jobs, Job { run, rows, parts, out, out_len, row_bytes, scratch_bytes });
        true
    }
}

/// Waits a while for `condition` to end; whether it still holds.
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
        self.part.ended.store(self.number, Ordering::SeqCst);
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
        for Line(part) in shared.parts.iter().take(parts).skip(1) {
            let at_work = || part.ended.load(Ordering::SeqCst) < number;
            if part.taken.fetch_max(number, Ordering::SeqCst) < number || !at_work() || !spin_while(SPINS, at_work) {
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
    fn run(&self, number: u64, job: Job) {
        let parts = job.parts;
        // SAFETY: no job is open, so nobody has a part; `running` keeps other callers out.
        let job = unsafe { &*(*self.open.0.what.get()).insert(job) };
        // The last job's caller may have panicked too, and not have read it.
        self.panicked.store(false, Ordering::Relaxed);
        self.open.0.job.store(number << PARTS_BITS | parts as u64, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
        let end = JobEnd { shared: self, number, parts };
        if let Some(scratch) = self.scratch.first() {
            // SAFETY: the job is open, and threads leave its first part alone.
            unsafe { job.run(0, scratch) };
        }
        // The rest of its own, then of the others' what they have not begun after a while.
        let own = (parts / self.scratch.len()).max(1);
        self.take(0, number, 1..own);
        let others = self.parts.get(own..parts).unwrap_or_default();
        let at_work = || others.iter().any(|Line(part)| part.ended.load(Ordering::SeqCst) < number);
        if at_work() && spin_while(STEAL_SPINS, at_work) {
            self.take(0, number, (own..parts).rev());
        }
        drop(end);
        if self.panicked.swap(false, Ordering::SeqCst) {
            resume_unwind(Box::new("a part of an operator panicked on another thread"));
        }
    }

    /// Thread `index` runs those of some parts of job `number` that nobody has taken.
    fn take(&self, index: usize, number: u64, parts: impl Iterator<Item = usize>) {
        let Some(scratch) = self.scratch.get(index) else { return };
        for (place, Line(part)) in parts.filter_map(|place| Some((place, self.parts.get(place)?))) {
            if part.taken.fetch_max(number, Ordering::SeqCst) < number {
                let _end = PartEnd { shared: self, part, number };
                // SAFETY: all parts of a job that is not open are taken, so this one is open, and until this part has ended it stays so;
                // nobody else has taken it.
                unsafe { (*self.open.0.what.get()).iter().for_each(|job| job.run(place, scratch)) };
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
            let _ = catch_unwind(AssertUnwindSafe(|| self.take(index, number, others)));
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

/// Draws a picture for each request, `threads` at a time, each in an arena of its own on one thread; `done` is given the
/// request's index and the picture's elements (HWC) as soon as it is drawn, in any order, on the thread that drew it.
///
/// ```
/// # use mote_runtime::{Error, Model, Request, threads};
/// # fn draw(model: &Model<'_>) -> Result<(), Error> {
/// let requests: Vec<Request> = (0..64).map(|seed| Request { seed, ..Default::default() }).collect();
/// let threads = std::thread::available_parallelism().unwrap_or(std::num::NonZero::<usize>::MIN);
/// threads::draw_batch(model, &requests, threads, |index, elems| println!("{index}: {:?}", elems.first()))
/// # }
/// ```
///
/// # Errors
/// The first that a request meets, as [`Sampler::start`]; the others are drawn or dropped.
pub fn draw_batch<const OPS: OpSet>(
    model: &Model<'_, OPS>,
    requests: &[Request<'_>],
    threads: NonZeroUsize,
    done: impl Fn(usize, &[f32]) + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let draw = || -> Result<(), Error> {
        let mut arena = std::vec![0u128; model.arena_len().div_ceil(size_of::<u128>())];
        let mut sampler = Sampler::new(model, bytemuck::cast_slice_mut(&mut arena))?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&request) = requests.get(index) else { return Ok(()) };
            done(index, sampler.generate(request)?.elems());
        }
    };
    let mut ended = Ok(());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get().min(requests.len())).map(|_| scope.spawn(draw)).collect();
        ended = draw();
        for other in others {
            let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            ended = ended.and(other);
        }
    });
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use std::vec;

    const LEAST: Cost = Cost { work: LEAST_COST, set_up: false };

    /// Jobs in quick succession and after pauses in which the threads fall asleep: every row is done, once, before `over_rows` returns.
    #[test]
    fn every_part_is_done_once_and_waited_for() {
        for count in [2, 3, 5] {
            let threads = Threads::new(count);
            for job in 0..4_000usize {
                if job.is_multiple_of(1_000) {
                    std::thread::sleep(Duration::from_millis(3));
                }
                let rows = 2 + job % 29;
                let mut out = vec![0u8; 3 * rows];
                let ran = threads.over_rows(0..rows, (&mut out, 3), 0, LEAST, &|rows, out, _| {
                    for (row, bytes) in rows.zip(out.chunks_exact_mut(3)) {
                        bytes.iter_mut().for_each(|byte| *byte += row as u8 + 1);
                    }
                });
                assert!(ran);
                assert!(out.chunks_exact(3).enumerate().all(|(row, bytes)| bytes == [row as u8 + 1; 3]), "{job}");
            }
        }
    }

    /// A panic on any thread reaches the caller, and the threads are good for another job.
    #[test]
    fn a_panic_reaches_the_caller() {
        let threads = Threads::new(3);
        for _ in 0..50 {
            let mut out = [0u8; 12];
            let ended = catch_unwind(AssertUnwindSafe(|| {
                threads.over_rows(0..12, (&mut out, 1), 0, LEAST, &|rows, _, _| {
                    assert!(!rows.contains(&7), "row 7");
                })
            }));
            assert!(ended.is_err());
            let mut out = [0u8; 12];
            assert!(threads.over_rows(0..12, (&mut out, 1), 0, LEAST, &|_, out, _| out.fill(1)));
            assert_eq!(out, [1; 12]);
        }
    }
}
