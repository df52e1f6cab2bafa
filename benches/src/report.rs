//! A measurement as text: the whole, then kinds of operators, then the slowest single ones.

use std::fmt::Write;

use mote_converter::report::table::{Table, bytes, count, shape, short_count};

use crate::measure::{Measurement, OpTime};

/// Single operators shown, unless all are asked for.
const OPS_SHOWN: usize = 12;

/// The report.
pub fn text(measurement: &Measurement, verbose: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, measurement, verbose);
    text
}

fn write(text: &mut String, m: &Measurement, verbose: bool) -> std::fmt::Result {
    writeln!(text, "  file      {}, {}", m.file, bytes(m.file_bytes))?;
    writeln!(text, "  arena     {}", bytes(m.arena_bytes))?;
    let threads = match m.threads {
        1 => String::new(),
        count => format!(", {count} threads (scratch of theirs: {})", bytes(m.thread_scratch_bytes)),
    };
    let direct = if m.direct { ", direct" } else { "" };
    writeln!(text, "  machine   {}, kernels: {}{direct}{threads}", m.machine, m.kernels)?;
    let class = m.class.map_or(String::new(), |class| format!(", class {class}"));
    writeln!(
        text,
        "  drawn     {}, {} steps, seed {}{class}, guidance {}",
        shape(m.image),
        m.steps,
        m.seed,
        m.guidance
    )?;
    let self_test = m.self_test.as_deref().unwrap_or("none in the file");
    writeln!(text, "  output    CRC-32 {}; the file's self-test: {self_test}", m.output_crc32)?;
    let picture = m.picture_ms;
    writeln!(
        text,
        "  picture   {:.3} ms (median of {}; {:.3} to {:.3}), {} multiply-adds, {:.0} M/s",
        picture.median,
        m.repeats,
        picture.min,
        picture.max,
        short_count(m.macs),
        m.macs as f64 / picture.median / 1e3
    )?;
    if let Some(scaling) = m.scaling {
        let [alone, one, most] =
            [scaling.alone_ms, scaling.one_by_one_ms, scaling.side_by_side_ms].map(|times| times.median);
        let [inside, beside] = [alone / picture.median, one / most];
        writeln!(text, "  threads   {} inside a step: {inside:.2} times as fast as one ({alone:.3} ms)", m.threads)?;
        let beside =
            format!("{beside:.2} times as many as one behind the other ({most:.3} instead of {one:.3} ms a picture)");
        writeln!(text, "            {} pictures side by side: {beside}", m.threads)?;
    }
    let mut rows = m.rows_ms.clone();
    rows.sort_unstable_by(f64::total_cmp);
    let ends = rows.first().zip(rows.last());
    let (fastest, slowest) = ends.map_or((0.0, 0.0), |(fastest, slowest)| (*fastest, *slowest));
    writeln!(
        text,
        "  step      {fastest:.3} to {slowest:.3} ms; updates of the sample {:.3} ms a picture",
        m.update_ms
    )?;

    let roof = match m.peak.macs_per_s {
        Some(macs) => format!("{:.1} G multiply-adds/s, ", macs / 1e9),
        None => String::new(),
    };
    writeln!(
        text,
        "  peak      {roof}{:.1} GB/s in the second cache, measured on one thread\n",
        m.peak.bytes_per_s / 1e9
    )?;

    let mut kinds: Vec<Kind> = Vec::new();
    for op in &m.ops {
        let name = kind(op);
        let at = kinds.iter().position(|kind| kind.name == name).unwrap_or_else(|| {
            kinds.push(Kind { name, ..Kind::default() });
            kinds.len() - 1
        });
        let kind = &mut kinds[at];
        (kind.ops, kind.ms, kind.share, kind.macs) =
            (kind.ops + 1, kind.ms + op.ms, kind.share + op.share, kind.macs + op.macs);
        // Of the time that each would take at its peak.
        kind.peak_ms = kind.peak_ms.zip(op.of_peak).map(|(ms, of_peak)| ms + op.ms * of_peak);
    }
    kinds.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let mut table =
        Table::new(&["kind", ">operators", ">ms a picture", ">share", ">M multiply-adds/s", ">of the peak"]);
    for Kind { name, ops, ms, share, macs, peak_ms } in kinds {
        let speed = if macs > 0 { format!("{:.0}", macs as f64 / ms / 1e3) } else { "-".into() };
        let of_peak = peak_ms.map_or("-".into(), |peak_ms| percent(peak_ms / ms));
        table.row([name, ops.to_string(), format!("{ms:.3}"), percent(share), speed, of_peak]);
    }
    writeln!(text, "{table}")?;

    let mut order: Vec<(usize, &OpTime)> = m.ops.iter().enumerate().collect();
    if !verbose {
        order.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    }
    let title = if verbose { "operator" } else { "the slowest operators" };
    let mut table = Table::new(&[
        ">op",
        title,
        "",
        ">output",
        "type",
        ">multiply-adds",
        ">ms a picture",
        ">share",
        ">M multiply-adds/s",
        ">of the peak",
    ]);
    for (index, op) in order {
        table.row([
            index.to_string(),
            op.op.to_owned(),
            op.detail.clone(),
            shape(op.out.map(usize::from)),
            op.dtype.to_owned(),
            if op.macs == 0 { "-".into() } else { count(op.macs) },
            format!("{:.3}", op.ms),
            percent(op.share),
            op.mmacs_per_s.map_or("-".into(), |speed| format!("{speed:.0}")),
            op.of_peak.map_or("-".into(), percent),
        ]);
    }
    if !verbose {
        table.shorten(OPS_SHOWN, 0);
    }
    write!(text, "{table}")?;
    if verbose {
        let mut table = Table::new(&[">row", ">ms"]);
        m.rows_ms.iter().enumerate().for_each(|(row, ms)| table.row([row.to_string(), format!("{ms:.3}")]));
        write!(text, "\n{table}")?;
    }
    Ok(())
}

/// Operators of one kind, together.
struct Kind {
    name: String,
    ops: usize,
    ms: f64,
    share: f64,
    macs: u64,
    /// What they would take at the machine's peak, where that is known of all.
    peak_ms: Option<f64>,
}

impl Default for Kind {
    fn default() -> Self {
        Kind { name: String::new(), ops: 0, ms: 0.0, share: 0.0, macs: 0, peak_ms: Some(0.0) }
    }
}

/// `conv 3x3`, `norm_stats`, …: what operators of one inner loop have in common.
fn kind(op: &OpTime) -> String {
    match op.detail.split(' ').next().filter(|_| op.op == "conv") {
        Some(kernel) => format!("{} {kernel}", op.op),
        None => op.op.to_owned(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
