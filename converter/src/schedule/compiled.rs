//! The rows of every number of steps that a file will offer.

use miette::{Result, miette};
use mote_runtime::format::{Row, Schedule};

use super::Scheduler;

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
}
