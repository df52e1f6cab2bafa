//! The picture as an async task of `embassy`, beside others that stay responsive.
//!
//! One task draws and yields after every poll. Another waits for the timer's interrupt, as a button or a radio would,
//! and measures how long after it it gets its turn: at most two polls, whose length `poll_budget` bounds. (Two, because
//! the executor runs what has woken in one round last-woken first: the interrupt comes in one poll, and the drawing task
//! may have its next turn before the waiting one.) No clock crate is needed: SysTick is the interrupt and the clock.

#![no_std]
#![no_main]

use core::cell::Cell;
use cortex_m::peripheral::{SYST, syst::SystClkSource};
use embassy_executor::{Executor, Spawner};
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::blocking_mutex::{Mutex, raw::ThreadModeRawMutex};
use embassy_sync::signal::Signal;
use mote_firmware::{board, info, println};
use mote_runtime::{Arena, Error, Poll, Request, Sampler};

mote_runtime::model!(static MODEL = "../../../../models/digits/digits.mote");
static ARENA: Arena<{ MODEL.arena_len() }> = Arena::new();

/// Clock ticks between interrupts: 16 ms at 25 MHz.
const PERIOD: u32 = 400_000;
static TICK: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// What the waiting task has seen: how often it woke, and the most ticks from interrupt to its turn.
static SEEN: Mutex<ThreadModeRawMutex, Cell<(u32, u32)>> = Mutex::new(Cell::new((0, 0)));

mote_firmware::start!(program);

fn program() -> ! {
    static EXECUTOR: static_cell::StaticCell<Executor> = static_cell::StaticCell::new();
    EXECUTOR.init(Executor::new()).run(|spawner| {
        if spawn(spawner).is_err() {
            board::exit(1)
        }
    })
}

fn spawn(spawner: Spawner) -> Result<(), embassy_executor::SpawnError> {
    spawner.spawn(waiting()?);
    spawner.spawn(drawing()?);
    Ok(())
}

#[embassy_executor::task]
async fn waiting() {
    // SAFETY: nothing else uses SysTick.
    let mut syst = unsafe { cortex_m::Peripherals::steal().SYST };
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(PERIOD - 1);
    syst.clear_current();
    syst.enable_interrupt();
    syst.enable_counter();
    loop {
        TICK.wait().await;
        let late = PERIOD - 1 - SYST::get_current();
        SEEN.lock(|seen| seen.set((seen.get().0 + 1, seen.get().1.max(late))));
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    TICK.signal(());
}

#[embassy_executor::task]
async fn drawing() {
    let code = match draw().await {
        Ok(()) => 0,
        Err(error) => {
            println!("error: {error}");
            1
        }
    };
    board::exit(code)
}

async fn draw() -> Result<(), Error> {
    // The checksum over the weights alone would take longer than a poll.
    let mut sampler = Sampler::new(&MODEL, ARENA.take()?)?;
    sampler.start(Request { seed: 7, class: Some(7), poll_budget: 250_000, ..Default::default() })?;
    yield_now().await;
    let mut longest = 0;
    loop {
        let begin = SYST::get_current();
        let poll = sampler.poll();
        // SysTick counts down, and begins anew every period.
        longest = longest.max((begin + PERIOD - SYST::get_current()) % PERIOD);
        let Poll::Pending(progress) = poll else { break };
        if progress.step_done {
            info!("step {=u16} of {=u16}", progress.step, progress.steps);
        }
        yield_now().await;
    }
    let (woken, latest) = SEEN.lock(Cell::get);
    println!("the other task woke {woken} times, at most {latest} ticks after its interrupt");
    println!("longest poll, ticks: {longest}");
    println!("crc digits 7 {:08x}", sampler.sample_crc());
    // Two polls and the switch of tasks: 1,000 ticks are 40 µs.
    if woken > 10 && latest < 2 * longest + 1000 { Ok(()) } else { board::exit(1) }
}
