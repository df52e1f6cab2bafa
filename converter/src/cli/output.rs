//! Progress on standard error: a bar on a terminal, a few plain lines elsewhere.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Stages that are done sooner are passed over where there is no bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a long job is: one bar at a time, a new one for each stage.
pub struct Progress {
    current: Mutex<Option<Stage>>,
    is_terminal: bool,
}

struct Stage {
    name: &'static str,
    bar: ProgressBar,
    /// Plain lines: since when, and quarters that were told.
    started: Instant,
    quarter: usize,
}

impl Progress {
    /// On standard error.
    pub fn new() -> Self {
        Self { current: Mutex::new(None), is_terminal: console::Term::stderr().is_term() }
    }

    /// `done` of `total` of the stage `name`; a new name ends the stage before it. May be called from any thread.
    pub fn at(&self, name: &'static str, done: usize, total: usize) {
        // A poisoned lock is one whose holder panicked; the bar is only text.
        let mut current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if current.as_ref().is_none_or(|stage| stage.name != name) {
            if let Some(stage) = current.take() {
                stage.bar.finish_and_clear();
            }
            let bar = if self.is_terminal { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
            let style = ProgressStyle::with_template("{msg:<28} {wide_bar} {pos}/{len}  {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(name);
            *current = Some(Stage { name, bar, started: Instant::now(), quarter: 0 });
        }
        let Some(stage) = current.as_mut() else { return };
        // Calls of several threads may come out of order.
        let done = (done as u64).max(stage.bar.position());
        stage.bar.set_length(total as u64);
        stage.bar.set_position(done);
        let quarter = (4 * done / total.max(1) as u64) as usize;
        if !self.is_terminal && quarter > stage.quarter && stage.started.elapsed() > PATIENCE {
            stage.quarter = quarter;
            let seconds_left = stage.started.elapsed().as_secs_f64() * (total as f64 / done as f64 - 1.0);
            let left = match seconds_left {
                0.0..1.0 => String::new(),
                1.0..90.0 => format!(", about {seconds_left:.0} s left"),
                _ => format!(", about {:.0} min left", seconds_left / 60.0),
            };
            note(&format!("{name}: {} %{left}", 25 * quarter.min(4)));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        let mut current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(stage) = current.take() {
            stage.bar.finish_and_clear();
        }
    }
}

/// A remark on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Counts finished pieces of a stage from any thread.
pub struct Counter<'a> {
    progress: &'a Progress,
    name: &'static str,
    done: std::sync::atomic::AtomicUsize,
    total: usize,
}

impl<'a> Counter<'a> {
    /// Of `total` pieces.
    pub fn new(progress: &'a Progress, name: &'static str, total: usize) -> Self {
        progress.at(name, 0, total);
        Self { progress, name, done: Default::default(), total }
    }

    /// One more is done.
    pub fn tick(&self) {
        let done = 1 + self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.progress.at(self.name, done, self.total);
    }
}
