//! The summary of a conversion, on one screen.

use std::fmt::{self, Display};

use serde::Serialize;

use super::Report;
use super::table::{bytes, count, short_bytes, short_count};
use crate::compare::{Comparison, ReuseCost};
use crate::search::Front;

/// What a conversion came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary<'a> {
    /// What was read.
    pub checkpoint: String,
    /// What was written.
    pub file: String,
    /// The arena budget.
    pub ram_bytes: Option<usize>,
    /// The file budget.
    pub flash_bytes: Option<usize>,
    /// What the file costs.
    pub costs: &'a Report,
    /// What the search over weights found, where there was one.
    pub front: Option<&'a Front>,
    /// What the reuse of deep features comes to, where there is any.
    pub reuse: Option<&'a ReuseCost>,
    /// Float against quantized, on a few pictures.
    pub quality: &'a Comparison,
    /// Duration of the whole conversion.
    pub seconds: f64,
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let costs = self.costs;
        let mut line = |name: &str, text: String| writeln!(f, "  {name:<10} {text}");
        line("wrote", format!("{}  (from {}, {:.1} s)", self.file, self.checkpoint, self.seconds))?;
        line("flash", format!("{}{}", bytes(costs.file_bytes), budget(self.flash_bytes, costs.file_bytes, "--flash")))?;
        let parts = [
            ("weights", costs.weights_bytes),
            ("constants", costs.constants_bytes),
            ("time path", costs.time_bytes),
            ("tables", costs.tables_bytes),
            ("records", costs.meta_bytes),
        ];
        line("", parts.map(|(name, size)| format!("{name} {}", short_bytes(size))).join(" · "))?;
        line("", time_path(costs))?;
        line("arena", format!("{}{}", bytes(costs.arena_bytes), budget(self.ram_bytes, costs.arena_bytes, "--ram")))?;
        let above = costs.arena_bytes.saturating_sub(costs.arena_lower_bound_bytes);
        let bound = match above {
            0 => "the least that these operators need".to_owned(),
            _ => format!("{} above the least that these operators need", bytes(above)),
        };
        line("", format!("{bound}; the peak is {}", costs.peak))?;
        line("", format!("activation tensors: {} of 16 bits, {} of 8", costs.wide_tensors, costs.narrow_tensors))?;
        let steps: Vec<String> = costs.steps.iter().map(u16::to_string).collect();
        let calls = self.quality.rows.len() as u64;
        let shallow = self.quality.rows.iter().filter(|row| row.shallow).count() as u64;
        let picture = costs.macs * (calls - shallow) + costs.shallow_macs.unwrap_or(0) * shallow;
        line(
            "work",
            format!(
                "{} multiply-adds a network call; {} in {calls} calls a picture (steps: {})",
                short_count(costs.macs),
                short_count(picture),
                steps.join(", ")
            ),
        )?;
        if costs.winograd_convolutions > 0 {
            let some = costs.winograd_convolutions;
            line("", format!("{some} convolutions by Winograd's algorithm on cores that gain: m4, m7, m33"))?;
        }
        for (index, text) in self.reuse.map(reuse).into_iter().flatten().enumerate() {
            line(if index == 0 { "reuse" } else { "" }, text)?;
        }
        let quality = self.quality;
        line(
            "quality",
            format!(
                "PSNR {:.1} dB against float (mean of {} pictures at guidance {}; the worst {:.1} dB)",
                quality.psnr_db.mean,
                count(quality.samples as u64),
                quality.guidance,
                quality.psnr_db.min
            ),
        )?;
        match self.front {
            Some(front) => write_front(f, front),
            None => Ok(()),
        }
    }
}

/// What reuse saves, and what it costs.
fn reuse(reuse: &ReuseCost) -> Vec<String> {
    let fewer = reuse.fewer_steps.as_ref().map_or(String::new(), |fewer| {
        format!("; {} steps without it, about as much work, keep {:.1} dB", fewer.steps, fewer.psnr_db.mean)
    });
    vec![
        format!(
            "{} of {} calls are full, the others {} multiply-adds: {} a picture, {} without reuse",
            reuse.full_rows.len(),
            reuse.calls,
            short_count(reuse.shallow_macs),
            short_count(reuse.picture_macs),
            short_count(reuse.picture_macs_without)
        ),
        format!("the arena without it, with the same widths: {}", bytes(reuse.arena_bytes_without)),
        format!(
            "it alone, in float, keeps a PSNR of {:.1} dB against no reuse (mean of {} pictures; the worst {:.1} dB){fewer}",
            reuse.psnr_db.mean, reuse.pictures, reuse.psnr_db.min
        ),
    ]
}

/// Points that were drawn, and the one that was taken.
fn write_front(f: &mut fmt::Formatter<'_>, front: &Front) -> fmt::Result {
    writeln!(
        f,
        "  front      size against PSNR (of {} pictures' mean squared error) as one layer after another gets 4 bits",
        front.pictures
    )?;
    for (index, point) in front.points.iter().enumerate() {
        let Some(db) = point.measured_psnr_db else { continue };
        let taken = if index == front.chosen { "  ◀ taken" } else { "" };
        let file = bytes(point.file_bytes);
        let layers = format!("{} of {} layers", point.layers, front.layers.len());
        writeln!(f, "             {file:<28} {db:5.1} dB  {layers}{taken}")?;
    }
    Ok(())
}

/// `, 62 % of --ram 256.0 KiB`.
fn budget(budget: Option<usize>, used: usize, name: &str) -> String {
    let Some(budget) = budget else { return String::new() };
    format!(", {:.0} % of {name} {}", 100.0 * used as f64 / budget as f64, short_bytes(budget))
}

fn time_path(costs: &Report) -> String {
    let layers = short_bytes(costs.time_as_layers_bytes);
    match (costs.time_layers, costs.time_as_tables_bytes) {
        (false, Some(tables)) => {
            format!("the time path is tables of {}; as layers it would be {layers}", short_bytes(tables))
        }
        (true, Some(tables)) => {
            format!("the time path is layers of {layers}; as tables it would be {}", short_bytes(tables))
        }
        (_, None) => format!("the time path is layers of {layers}, because the caller gives the class vector"),
    }
}
