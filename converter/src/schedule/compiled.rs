//! The rows of every number of steps that a file will offer.

use miette::{Result, miette};
use mote_runtime::format::{Row, Schedule};

use super::Scheduler;

/// Numbers of the graphs that rows name: the whole network, and what of it runs on reused deep features.
pub const FULL_GRAPH: u16 = 0;
/// See [`FULL_GRAPH`].
pub const SHALLOW_GRAPH: u16 = 1;

/// Whether a row reuses the deep features of an earlier one.
pub fn is_shallow(row: &Row) -> bool {
    row.graph != FULL_GRAPH
}

/// Compiled schedules, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    /// Rows of all schedules.
    pub rows: Vec<Row>,
    /// One for each number of steps, the default one first.
    pub schedules: Vec<Schedule>,
}

impl Schedules {
    /// Compiles `steps`, in that order; see [`Scheduler::rows`].
    pub fn compile(scheduler: &Scheduler, steps: &[usize], eta: f64, output_over_timestep: bool) -> Result<Self> {
        let mut compiled = Self::default();
        for (i, &count) in steps.iter().enumerate() {
            if steps[..i].contains(&count) {
                return Err(miette!(help = "name each number of steps once", "{count} steps are asked for twice"));
            }
            let rows = scheduler.rows(count, eta, output_over_timestep)?;
            let advancing = rows.iter().filter(|row| row.advance).count();
            let (Ok(first_row), Ok(len), Ok(advancing)) =
                (compiled.rows.len().try_into(), rows.len().try_into(), u16::try_from(advancing))
            else {
                return Err(miette!(
                    help = "ask for fewer steps",
                    "a file holds at most 65,535 rows of all schedules together"
                ));
            };
            compiled.schedules.push(Schedule { first_row, rows: len, steps: advancing });
            compiled.rows.extend(rows);
        }
        if compiled.rows.is_empty() || compiled.rows.len() > usize::from(u16::MAX) {
            return Err(miette!(
                help = "ask for at least one step, and for at most 65,535 in all",
                "there is no schedule to write"
            ));
        }
        Ok(compiled)
    }

    /// The same with one row in `interval` full, the others shallow.
    ///
    /// Deep features change most while the noise is highest, so the full rows lie at steps·(k/count)^1.5: close together in
    /// the beginning. `digits` with two thirds shallow keeps 30 dB of PSNR so and 28.2 with equal distances, `fashion` 30 and
    /// 27.7; exponents from 1.25 to 1.75 differ by a few tenths, and 2 is worse.
    pub fn with_reuse(mut self, interval: usize) -> Result<Self> {
        for schedule in &self.schedules {
            let rows = &mut self.rows[usize::from(schedule.first_row)..][..usize::from(schedule.rows)];
            if interval == 0 || interval > rows.len() {
                return Err(miette!(
                    help = "1 makes every network call a full one, 2 every second",
                    "a cache interval of {interval} does not fit into a schedule of {} network calls",
                    rows.len()
                ));
            }
            rows.iter_mut().for_each(|row| (row.graph, row.null_graph) = (SHALLOW_GRAPH, SHALLOW_GRAPH));
            let count = rows.len().div_ceil(interval);
            let mut next = 0;
            for k in 0..count {
                let place = rows.len() as f64 * (k as f64 / count as f64).powf(1.5);
                let at = (place.round() as usize).max(next);
                (rows[at].graph, rows[at].null_graph) = (FULL_GRAPH, FULL_GRAPH);
                next = at + 1;
            }
        }
        Ok(self)
    }

    /// For each row, the full row whose deep features it has: itself, or the last one before it.
    pub fn full_rows(&self) -> Vec<usize> {
        let mut last = 0;
        let full = |(index, row): (usize, &Row)| {
            last = if is_shallow(row) { last } else { index };
            last
        };
        self.rows.iter().enumerate().map(full).collect()
    }

    /// Whether any row reuses deep features.
    pub fn reuses(&self) -> bool {
        self.rows.iter().any(is_shallow)
    }
}
