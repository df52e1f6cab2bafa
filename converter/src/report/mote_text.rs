//! A `.mote` file's contents as text.

use std::fmt::{self, Display};

use super::call_name;
use super::mote::{MoteReport, ScheduleLine};
use super::table::{Table, bytes, count, shape, short_bytes, short_count};

/// Operators shown at each end, unless all are asked for.
const OPS_SHOWN: usize = 8;

/// The report as text; all operators and rows with `verbose`.
#[derive(Clone, Copy, Debug)]
pub struct MoteText<'a> {
    /// The report.
    pub report: &'a MoteReport,
    /// All operators, and the schedules' coefficients.
    pub verbose: bool,
}

impl Display for MoteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let mut line = |name: &str, text: String| writeln!(f, "  {name:<10} {text}");
        line("file", format!("{}, format version {}", bytes(report.file_bytes), report.version))?;
        let payload = match report.damaged_block {
            None => format!("{} payload blocks of {} bytes, all intact", report.payload_blocks, report.block_bytes),
            Some(block) => format!("payload block {block} of {} is DAMAGED", report.payload_blocks),
        };
        line("checksums", format!("header and records {} (intact); {payload}", report.meta_crc))?;
        line("pictures", format!("{} (height x width x channels)", shape(report.image)))?;
        line("condition", condition(report))?;
        line("steps", report.schedules.iter().map(schedule).collect::<Vec<_>>().join("; "))?;
        let host = match report.arena_host_bytes == report.arena_bytes {
            true => String::new(),
            false => format!("; {} on this machine", count(report.arena_host_bytes as u64)),
        };
        line(
            "arena",
            format!(
                "{} ({} kernels){host}; a snapshot carries {}",
                bytes(report.arena_bytes),
                report.target,
                short_bytes(report.carried_bytes)
            ),
        )?;
        let [arch, os] = [std::env::consts::ARCH, std::env::consts::OS];
        line("machine", format!("{arch} {os}, kernels: {}", report.host_kernels))?;
        let shallow = report.shallow_macs.map_or(String::new(), |macs| {
            let cached = short_bytes(report.cached_bytes);
            format!(", {} a shallow one, which reuses {cached} of an earlier call", short_count(macs))
        });
        line("work", format!("{} multiply-adds a network call{shallow}", short_count(report.macs)))?;
        line("weights", bytes(report.weights_bytes))?;
        line("self-test", self_test(report))?;
        for (i, (key, value)) in report.info.iter().enumerate() {
            line(if i == 0 { "info" } else { "" }, format!("{key}: {value}"))?;
        }

        writeln!(f)?;
        let mut table = Table::new(&["section", ">offset", ">bytes", ">records"]);
        for section in &report.sections {
            let records = section.records.map_or("-".to_owned(), |n| count(n as u64));
            table.row([
                section.tag.clone(),
                count(u64::from(section.offset)),
                count(u64::from(section.bytes)),
                records,
            ]);
        }
        let payload = report.file_bytes - report.meta_bytes;
        table.row(["payload".into(), count(report.meta_bytes as u64), count(payload as u64), "-".into()]);
        writeln!(f, "{table}")?;

        let mut table = Table::new(&[
            ">op",
            "operator",
            "",
            ">inputs",
            ">output",
            "type",
            ">at",
            ">multiply-adds",
            "weights",
            ">bytes",
            ">live end",
            ">scratch",
        ]);
        for (index, op) in report.ops.iter().enumerate() {
            let peak = if index == report.peak_op { " peak" } else { "" };
            let inputs: Vec<String> = op.inputs.iter().map(|dims| shape(dims.map(usize::from))).collect();
            table.row([
                index.to_string(),
                op.op.to_owned(),
                op.detail.clone(),
                inputs.join(" "),
                shape(op.out.map(usize::from)),
                op.dtype.to_owned(),
                count(u64::from(op.offset)),
                count(op.macs),
                op.weights.join(" "),
                if op.weights_bytes == 0 { "-".into() } else { count(op.weights_bytes as u64) },
                count(u64::from(op.live_end)),
                format!("{}{peak}", count(op.scratch_bytes as u64)),
            ]);
        }
        if !self.verbose {
            table.shorten(OPS_SHOWN, OPS_SHOWN);
        }
        writeln!(f, "{table}")?;
        write!(f, "{}", report.map)?;
        if self.verbose {
            for schedule in &report.schedules {
                writeln!(
                    f,
                    "\n  {} steps: x0 = p·x + q·model, clipped; eps = r·x + s·model; x' = a·x + b·x0 + c·eps + d·noise\n",
                    schedule.steps
                )?;
                write!(f, "{}", rows(schedule))?;
            }
        }
        Ok(())
    }
}

fn condition(report: &MoteReport) -> String {
    match (report.class_embedding_len, report.classes, report.null_class) {
        (0, 0, _) => "none".into(),
        (0, n, Some(null)) => format!("{n} classes; {null} is the null class, so guidance is possible"),
        (0, n, None) => format!("{n} classes, no null class, so no guidance"),
        (len, ..) => format!("a class vector of {len} elements, from the caller"),
    }
}

fn self_test(report: &MoteReport) -> String {
    let Some(test) = &report.self_test else { return "none".into() };
    let class = test.class.map_or(String::new(), |class| format!(", class {class}"));
    format!("seed {}{class}: CRC-32 {} after one step, {} of the sample", test.seed, test.step_crc32, test.sample_crc32)
}

/// `20 (timesteps 950 … 0)`, with the number of network calls where it is another.
fn schedule(schedule: &ScheduleLine) -> String {
    let calls = match schedule.rows.len() == usize::from(schedule.steps) {
        true => String::new(),
        false => format!(" in {} network calls", schedule.rows.len()),
    };
    let ends = schedule.rows.first().zip(schedule.rows.last());
    let timesteps =
        ends.map_or(String::new(), |(first, last)| format!(" (timesteps {} … {})", first.timestep, last.timestep));
    let full: Vec<String> =
        (0..).zip(&schedule.rows).filter(|(_, row)| !row.shallow).map(|(i, _)| i.to_string()).collect();
    let shallow = match full.len() == schedule.rows.len() {
        true => String::new(),
        false => format!(", rows {} full, {} shallow", full.join(" "), schedule.rows.len() - full.len()),
    };
    format!("{}{calls}{timesteps}{shallow}", schedule.steps)
}

fn rows(schedule: &ScheduleLine) -> Table {
    let mut table =
        Table::new(&[">row", ">timestep", "call", ">p", ">q", "clip", ">r", ">s", ">a", ">b", ">c", ">d", "history"]);
    for (index, row) in schedule.rows.iter().enumerate() {
        let number = |x: f32| format!("{x:.5}");
        let history = if row.e == [0.0; 4] { "-".to_owned() } else { row.e.map(|e| e.to_string()).join(" ") };
        table.row([
            index.to_string(),
            row.timestep.to_string(),
            call_name(row.shallow).to_owned(),
            number(row.p),
            number(row.q),
            row.clip.clone(),
            number(row.r),
            number(row.s),
            number(row.a),
            number(row.b),
            number(row.c),
            number(row.d),
            history,
        ]);
    }
    table
}
