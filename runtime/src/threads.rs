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
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// What is done with some rows: their bytes of the output, and scratch.
type RowJob<'j> = dyn Fn(Range<usize>, &mut [u8], &mut [u8]) + Sync + 'j;

/// Threads that wait for a [`Sampler`]'s operators, and end when this is dropped.
#[derive(Debug)]
pub struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// One for each thread, so that all its parts find the same in its cache.
    scratch: Vec<Mutex<Vec<u128>>>,
    /// Held while a job runs: a second sampler on the same threads runs alone meanwhile.
    /// Counts jobs.
    running: Mutex<usize>,
}

/// What a thread does with a part: its own number, and the part's.
type PartJob<'j> = dyn Fn(usize, usize) + Sync + 'j;

/// The job that is open. All of it in what a cache hands over at a time, and nothing else: who sees it open has the rest, too.
#[repr(align(128))]
struct Job {
    /// Its number; 0 for none.
    open: AtomicUsize,
    /// Read by those who are active on an open job, written while none is open; what it points to is gone then.
    run: UnsafeCell<Option<*const PartJob<'static>>>,
    parts: AtomicUsize,
}

/// Alone in what a cache hands over at a time: threads that watch one of these would slow whoever writes a neighbour.
#[repr(align(128))]
struct Line<T>(T);

/// A job opens by a new number in `job.open` and closes by 0 there. A thread counts itself as active and then looks at `open`; who closes
/// writes 0 and then waits until nobody is active. Both in one order for all (`SeqCst`), so a thread that has seen the job open is
/// waited for. Locks are for sleepers alone: an operator of some microseconds has no time for them.
struct Shared {
    job: Job,
    /// Threads that were asked for.
    count: usize,
    /// Threads at work on the open job, or about to see that there is none; the caller not among them.
    active: Line<AtomicUsize>,
    /// Threads that wait for `wake`.
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    panicked: AtomicBool,
    quit: AtomicBool,
    sleep: Mutex<()>,
    /// A job was opened, or there will be none.
    wake: Condvar,
    /// The last thread has left a closed job.
    left: Condvar,
}

// SAFETY: `job.run` is the only field that is not `Sync`. It is written while no job is open and nobody is active, and read between: the
// job's opening and closing order the two. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is never used by whoever owns this.
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
    /// `count` threads, the caller's own among them; 0 counts as 1. Where the system gives fewer, there are fewer.
    pub fn new(count: usize) -> Threads {
        let shared = Arc::new(Shared {
            job: Job { open: AtomicUsize::new(0), run: UnsafeCell::new(None), parts: AtomicUsize::new(0) },
            count: count.max(1),
            active: Line(AtomicUsize::new(0)),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            left: Condvar::new(),
        });
        let handles: Vec<_> = (1..count)
            .map_while(|index| {
                let shared = shared.clone();
                std::thread::Builder::new().name("mote".into()).spawn(move || shared.work(index)).ok()
            })
            .collect();
        let scratch = (0..handles.len() + 1).map(|_| Mutex::default()).collect();
        Threads { shared, handles, scratch, running: Mutex::default() }
    }

    /// How many there are, the caller's own among them.
    pub fn count(&self) -> usize {
        self.handles.len() + 1
    }

    /// Bytes of scratch that the operators run so far have taken on the heap, beyond the arena.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.iter().map(|scratch| lock(scratch).len() * size_of::<u128>()).sum()
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
        // Never 0, and not the last one's number either.
        *jobs = jobs.wrapping_add(1).max(1);
        let begin = |part: usize| rows.start + rows.len() * part / parts;
        let mut rest = out;
        let pieces: Vec<_> = (0..parts)
            .map(|part| {
                let rows = begin(part)..begin(part + 1);
                let len = (rows.len() * row_bytes).min(rest.len());
                let piece = rest.split_off_mut(..len).unwrap_or_default();
                Mutex::new(Some((rows, piece)))
            })
            .collect();
        self.run(parts, *jobs, &|thread, part| {
            let (Some(piece), Some(scratch)) = (pieces.get(part), self.scratch.get(thread)) else { return };
            let Some((rows, out)) = lock(piece).take() else { return };
            let mut scratch = lock(scratch);
            let need = scratch_bytes.div_ceil(size_of::<u128>());
            if scratch.len() < need {
                scratch.resize(need, 0);
            }
            let scratch = bytemuck::cast_slice_mut(&mut scratch);
            job(rows, out, scratch.get_mut(..scratch_bytes).unwrap_or_default());
        });
        true
    }

    /// Runs `job` for each part, here and on the threads, and returns when all are done. Only with `running` held.
    fn run(&self, parts: usize, number: usize, job: &PartJob<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. `_end` closes the job and waits for everyone who is at work on it, however this
        // function ends; who comes later finds none open.
        let run = unsafe { core::mem::transmute::<&PartJob<'_>, &'static PartJob<'static>>(job) };
        // SAFETY: no job is open, and the last one's end has waited for all who had seen it open; `running` keeps other callers out.
        unsafe { *shared.job.run.get() = Some(run) };
        shared.job.parts.store(parts, Ordering::Relaxed);
        // The last job's caller may have panicked too, and not have read it.
        shared.panicked.store(false, Ordering::Relaxed);
        shared.job.open.store(number, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&shared.sleep));
            shared.wake.notify_all();
        }
        let end = End(shared);
        shared.take_parts(0, run);
        drop(end);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a part of an operator panicked on another thread"));
        }
    }
}

/// Waits a while for `condition` to end; whether it still holds.
fn spin_while(condition: impl Fn() -> bool) -> bool {
    (0..SPINS).all(|_| {
        core::hint::spin_loop();
        condition()
    })
}

/// Closes the job and waits for those at work on it.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        shared.job.open.store(0, Ordering::SeqCst);
        let at_work = || shared.active.0.load(Ordering::SeqCst) > 0;
        if at_work() && spin_while(at_work) {
            let mut sleep = lock(&shared.sleep);
            shared.caller_sleeps.store(true, Ordering::SeqCst);
            while at_work() {
                sleep = shared.left.wait(sleep).unwrap_or_else(PoisonError::into_inner);
            }
            shared.caller_sleeps.store(false, Ordering::SeqCst);
        }
    }
}

impl Shared {
    /// All parts, from the thread's own on; what has been taken is nothing to do any more.
    fn take_parts(&self, index: usize, run: &PartJob<'_>) {
        let parts = self.job.parts.load(Ordering::Relaxed);
        let own = index * parts / self.count;
        (own..own + parts).for_each(|part| run(index, part % parts));
    }

    /// What thread `index` does until it is told to end; the caller's is 0.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            let nothing = |open| (open == 0 || open == seen) && !self.quit.load(Ordering::SeqCst);
            if spin_while(|| nothing(self.job.open.load(Ordering::Relaxed))) {
                let mut sleep = lock(&self.sleep);
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while nothing(self.job.open.load(Ordering::SeqCst)) {
                    sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
            if self.quit.load(Ordering::SeqCst) {
                return;
            }
            // Counted before it looks, so that `End` waits.
            self.active.0.fetch_add(1, Ordering::SeqCst);
            let open = self.job.open.load(Ordering::SeqCst);
            let mut ended = Ok(());
            if open != 0 {
                seen = open;
                // SAFETY: the job is open, and `End` waits until this thread is no longer active.
                let run = unsafe { (*self.job.run.get()).map(|run| &*run) };
                ended = catch_unwind(AssertUnwindSafe(|| run.into_iter().for_each(|run| self.take_parts(index, run))));
            }
            if ended.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            if self.active.0.fetch_sub(1, Ordering::SeqCst) == 1 && self.caller_sleeps.load(Ordering::SeqCst) {
                drop(lock(&self.sleep));
                self.left.notify_one();
            }
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
