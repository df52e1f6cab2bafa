//! A comparison as text: pictures, steps, layers.

use std::fmt::Write;

use super::table::{Table, count, shape};
use crate::compare::{Comparison, LayerQuality};

/// Steps shown at each end, unless all are asked for.
const STEPS_SHOWN: usize = 6;
/// Layers shown, unless all are asked for.
const LAYERS_SHOWN: usize = 12;

/// The whole report.
pub fn text(comparison: &Comparison, verbose: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, comparison, verbose);
    text
}

fn write(text: &mut String, comparison: &Comparison, verbose: bool) -> std::fmt::Result {
    let psnr = comparison.psnr_db;
    writeln!(
        text,
        "  float against quantized: {} pairs of pictures, {} steps, guidance {}",
        count(comparison.samples as u64),
        comparison.steps,
        comparison.guidance
    )?;
    writeln!(
        text,
        "  PSNR (range -1..1): mean {:.2} dB, 5th percentile {:.2} dB, worst {:.2} dB\n",
        psnr.mean, psnr.percentile_5, psnr.min
    )?;
    write!(text, "{}", steps(comparison, verbose))?;
    if comparison.layers.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n  x_t and preview: both samplers run freely, so errors add up from step to step.")?;
    writeln!(
        text,
        "  output and layers: on the same x_t ({} samples), so each step stands for itself.\n",
        comparison.layered
    )?;
    write!(text, "{}", layers(comparison, verbose))
}

fn steps(comparison: &Comparison, verbose: bool) -> Table {
    let mut table = Table::new(&[">row", ">timestep", ">x_t SQNR dB", ">preview PSNR dB", ">output SQNR dB"]);
    for (index, row) in comparison.rows.iter().enumerate() {
        table.row([
            index.to_string(),
            row.timestep.to_string(),
            format!("{:.1}", row.state_sqnr_db),
            format!("{:.1}", row.preview_psnr_db),
            row.model_sqnr_db.map_or("-".into(), |db| format!("{db:.1}")),
        ]);
    }
    if !verbose {
        table.shorten(STEPS_SHOWN, STEPS_SHOWN);
    }
    table
}

/// In the graph's order where all are shown, else the worst ones first.
fn layers(comparison: &Comparison, verbose: bool) -> Table {
    let mut order: Vec<&LayerQuality> = comparison.layers.iter().collect();
    let title = if verbose { "layer" } else { "layers, the worst first" };
    if !verbose {
        order.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    }
    let mut table = Table::new(&[title, ">output", "type", ">SQNR dB", ">worst row dB", ">row"]);
    for layer in order {
        table.row([
            layer.name.clone(),
            shape(layer.shape),
            layer.dtype.to_owned(),
            format!("{:.1}", layer.sqnr_db),
            format!("{:.1}", layer.worst_sqnr_db),
            layer.worst_row.to_string(),
        ]);
    }
    if !verbose {
        table.shorten(LAYERS_SHOWN, 0);
    }
    table
}
