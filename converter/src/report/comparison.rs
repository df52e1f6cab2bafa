//! A study as text: the files side by side, then steps and layers of each.

use std::fmt::Write;

use super::call_name;
use super::table::{Table, count, shape};
use crate::compare::{Comparison, FileStudy, LayerQuality, Study};
use crate::judge::frechet::Estimate;

/// Steps shown at each end, unless all are asked for.
const STEPS_SHOWN: usize = 6;
/// Layers shown, unless all are asked for.
const LAYERS_SHOWN: usize = 12;

/// The whole report.
pub fn text(study: &Study, verbose: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, study, verbose);
    text
}

fn write(text: &mut String, study: &Study, verbose: bool) -> std::fmt::Result {
    writeln!(
        text,
        "  float against quantized: {} pairs of pictures from the same noise, {} steps, guidance {}\n",
        count(study.samples as u64),
        study.steps,
        study.guidance
    )?;
    write!(text, "{}", pairs(study))?;
    if study.judge.is_some() {
        write!(text, "\n{}", sets(study))?;
        notes(text, study)?;
    }
    for file in &study.files {
        if study.files.len() > 1 {
            writeln!(text, "\n  {}", file.file)?;
        }
        write!(text, "\n{}", steps(&file.comparison, verbose))?;
        if !file.comparison.layers.is_empty() {
            write!(text, "\n{}", layers(&file.comparison, verbose))?;
        }
    }
    if study.files.iter().any(|file| !file.comparison.layers.is_empty()) {
        writeln!(text, "\n  x_t and preview: both samplers run freely, so errors add up from step to step.")?;
        writeln!(
            text,
            "  output and layers: on the same x_t ({} samples), so each step stands for itself.",
            study.files.first().map_or(0, |file| file.comparison.layered)
        )?;
    }
    Ok(())
}

/// The same pictures?
fn pairs(study: &Study) -> Table {
    let mut table = Table::new(&[
        "file",
        ">bytes",
        ">arena",
        ">PSNR dB: mean",
        ">5th percentile",
        ">worst",
        ">pixel values, levels",
    ]);
    for file in &study.files {
        let psnr = file.comparison.psnr_db;
        table.row([
            file.file.clone(),
            count(file.file_bytes as u64),
            count(file.arena_bytes as u64),
            format!("{:.2}", psnr.mean),
            format!("{:.2}", psnr.percentile_5),
            format!("{:.2}", psnr.min),
            format!("{:.2}", file.pixel_distance_levels),
        ]);
    }
    table
}

/// As good pictures?
fn sets(study: &Study) -> Table {
    let mut table =
        Table::new(&["set", ">class share %", ">against float", ">Fréchet distance", ">against float", ">%"]);
    let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.2}", 100.0 * share));
    let judged = study.float.judged.as_ref();
    table.row([
        "float".into(),
        share(judged.and_then(|judged| judged.class_share)),
        String::new(),
        estimate(judged.and_then(|judged| judged.frechet)),
        String::new(),
        String::new(),
    ]);
    for other in &study.float.other_seeds {
        table.row([
            "float, other seeds".into(),
            share(other.class_share),
            String::new(),
            estimate(other.frechet),
            String::new(),
        ]);
    }
    for file in &study.files {
        let judged = file.judged.as_ref();
        table.row([
            file.file.clone(),
            share(judged.and_then(|judged| judged.class_share)),
            file.class_share_difference.map_or("-".into(), |d| signed(d.points, d.standard_error_points, 2)),
            estimate(judged.and_then(|judged| judged.frechet)),
            file.frechet_difference.map_or("-".into(), |d| signed(d.difference.value, d.difference.standard_error, 4)),
            file.frechet_difference.map_or("-".into(), |d| format!("{:+.1}", d.percent)),
        ]);
    }
    table
}

fn notes(text: &mut String, study: &Study) -> std::fmt::Result {
    match study.float.frechet_seed_spread {
        None => writeln!(
            text,
            "\n  Too few pictures for a Fréchet distance: it needs more than the judge has features, better thousands."
        ),
        Some(spread) => {
            writeln!(text, "\n  Two float sets of other seeds differ by {spread:.4} (standard deviation).")?;
            study.files.iter().try_for_each(|file| match verdict(file, spread) {
                Some(verdict) => writeln!(text, "  {}: {verdict}.", file.file),
                None => Ok(()),
            })
        }
    }
}

/// The Fréchet distance's difference, in words.
pub fn verdict(file: &FileStudy, spread: f64) -> Option<String> {
    let FileStudy { frechet_difference: Some(found), .. } = file else { return None };
    let percent = format!("{:+.1} % against float", found.percent);
    Some(match found.inside_seed_spread {
        true => format!("Fréchet distance {percent}, no more than other seeds would change it"),
        false => {
            format!(
                "Fréchet distance {percent}, {:.1} times what other seeds change",
                found.difference.value.abs() / spread
            )
        }
    })
}

fn estimate(estimate: Option<Estimate>) -> String {
    estimate.map_or("-".into(), |e| format!("{:.4} ± {:.4}", e.value, e.standard_error))
}

fn signed(value: f64, error: f64, decimals: usize) -> String {
    format!("{value:+.decimals$} ± {error:.decimals$}")
}

fn steps(comparison: &Comparison, verbose: bool) -> Table {
    // Only some files have calls of two kinds.
    let reuses = comparison.rows.iter().any(|row| row.shallow);
    let call = if reuses { "call" } else { "" };
    let mut table = Table::new(&[">row", ">timestep", call, ">x_t SQNR dB", ">preview PSNR dB", ">output SQNR dB"]);
    for (index, row) in comparison.rows.iter().enumerate() {
        table.row([
            index.to_string(),
            row.timestep.to_string(),
            if reuses { call_name(row.shallow).to_owned() } else { String::new() },
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
    let mut table = Table::new(&[title, ">output", "type", "weights", ">SQNR dB", ">worst row dB", ">row"]);
    for layer in order {
        table.row([
            layer.name.clone(),
            shape(layer.shape),
            layer.dtype.to_owned(),
            layer.weights.join(", "),
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
