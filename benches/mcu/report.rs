//! From counts to rows: operators by their shape, beside CMSIS-NN's figures where there are any.

use std::collections::HashMap;
use std::fmt::Write;

use miette::{Result, miette};
use mote_runtime::Model;
use mote_runtime::format::op::Conv;
use mote_runtime::format::{NONE, Op};
use mote_runtime::shape::op_macs;
use serde::Serialize;

use crate::cases::{ADD, RESNET_8};
use crate::count::Interval;

/// CMSIS-NN's instructions a multiply-add or element: by name, then by board.
pub struct Peers {
    boards: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

impl Peers {
    /// From a table with `#` comments.
    pub fn read(text: &str) -> Result<Peers> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let boards = lines.next().ok_or_else(|| miette!("the table of peers is empty"))?.split(',').skip(1);
        let boards = boards.map(str::to_owned).collect();
        let row = |line: &str| {
            let (name, values) = line.split_once(',')?;
            Some((name.to_owned(), values.split(',').map(|value| value.parse().ok()).collect::<Option<Vec<f64>>>()?))
        };
        let rows = lines.map(|line| row(line).ok_or_else(|| miette!("no row of the table of peers: {line:?}")));
        Ok(Peers { boards, rows: rows.collect::<Result<_>>()? })
    }

    fn value(&self, name: &str, board: &str) -> Option<f64> {
        let at = self.boards.iter().position(|other| other == board)?;
        self.rows.iter().find(|(other, _)| other == name)?.1.get(at).copied()
    }
}

/// An operator, or several together.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    name: String,
    /// How many operators.
    calls: u64,
    /// Multiply-adds, or elements where nothing is multiplied.
    work: u64,
    instructions: u64,
    instructions_each: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    m4_cycles_estimated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmsis_nn: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    /// By Winograd's algorithm, in part at least.
    winograd: bool,
    histogram: Vec<(String, u64)>,
}

/// What ran on a board.
#[derive(Debug, Serialize)]
pub struct Board {
    board: String,
    rows: Vec<Row>,
    /// The whole picture, all steps and what lies between them.
    picture: Row,
    steps: usize,
    #[serde(skip)]
    compared: bool,
}

impl Board {
    /// The rows of a run: of every shape in the file, or with `peers` of what those have.
    pub fn new(board: &str, model: &Model<'_>, intervals: &[Interval], peers: Option<&Peers>) -> Result<Board> {
        let ops = model.graph(0).ops as usize;
        let (Some(by_op), [softmax, picture]) = (intervals.get(..ops), intervals.get(ops..).unwrap_or_default()) else {
            let found = intervals.len();
            return Err(miette!(
                help = "did the firmware end early? Its text is beside the counter's file",
                "{board}: {found} intervals were counted, not {}",
                ops + 2
            ));
        };
        let row = |name: &str, work: u64, interval: &Interval| Row {
            name: name.to_owned(),
            calls: 1,
            work,
            instructions: interval.instructions(),
            // The M7 runs the same code, but not in these cycles.
            m4_cycles_estimated: (board == "m4").then(|| interval.m4_cycles()),
            histogram: interval.histogram().into_iter().map(|(name, times)| (name.to_owned(), times)).collect(),
            ..Row::default()
        };
        let mut rows: Vec<Row> = Vec::new();
        for (index, interval) in by_op.iter().enumerate() {
            let index = model.graph(0).first_op as usize + index;
            let Some(record) = model.op(index) else { continue };
            let mut one = row(&label(&record.op, model), op_macs(&record.op, model), interval);
            one.winograd = matches!(record.op, Op::Conv(Conv { winograd: true, .. }));
            match rows.iter_mut().find(|row| row.name == one.name) {
                Some(row) => row.add(&one),
                None => rows.push(one),
            }
        }
        let sum = rows.iter().fold(Row { name: "a step".into(), ..Row::default() }, |mut sum, row| {
            sum.add(row);
            sum.calls += row.calls - 1;
            sum
        });
        rows.push(sum);
        if let Some(peers) = peers {
            rows = compared(rows, row("softmax 49×49", 49 * 49, softmax), peers);
        }
        for row in &mut rows {
            row.instructions_each = row.instructions as f64 / row.work.max(1) as f64;
            if let Some(theirs) = peers.and_then(|peers| peers.value(&row.name, board)) {
                let limit = match (row.is_elementwise(), row.winograd) {
                    (true, _) => "limit element",
                    (false, true) => "limit winograd",
                    (false, false) => "limit multiply-add",
                };
                row.limit = peers.and_then(|peers| peers.value(limit, board));
                (row.cmsis_nn, row.ratio) = (Some(theirs), Some(row.instructions_each / theirs));
            }
        }
        let steps = model.schedules().next().map_or(0, |schedule| schedule.rows as usize);
        let work = rows.last().map_or(0, |step| step.work) * steps as u64;
        Ok(Board {
            board: board.to_owned(),
            rows,
            picture: row("a picture", work, picture),
            steps,
            compared: peers.is_some(),
        })
    }

    /// Whether no row exceeds its limit.
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }

    /// For people.
    pub fn text(&self, histogram: bool) -> String {
        let mut text = format!("\n{}, instructions\n\n", self.board);
        // Writing to a string does not fail.
        let _ = self.write(&mut text, histogram);
        text
    }

    fn write(&self, text: &mut String, histogram: bool) -> std::fmt::Result {
        let estimated = self.picture.m4_cycles_estimated.is_some();
        let compared = self.compared;
        let head = |text: &mut String, names: &[&str]| {
            writeln!(text, "| {} |", names.join(" | "))?;
            writeln!(text, "|---|{}", "--:|".repeat(names.len() - 1))
        };
        let mut names = vec!["operator", "multiply-adds or elements", "all", "each"];
        names.extend(if compared { &["CMSIS-NN", "ratio", "limit"][..] } else { &["operators", "share"] });
        names.extend(if estimated { &["M4 cycles, estimated", "work a cycle"][..] } else { &[] });
        head(text, &names)?;
        let whole = self.rows.last().map_or(0, |step| step.instructions).max(1);
        for row in &self.rows {
            write!(text, "| {} | {} | {} | {:.3} |", row.name, row.work, row.instructions, row.instructions_each)?;
            if !compared {
                write!(text, " {} | {:.1} % |", row.calls, 100.0 * row.instructions as f64 / whole as f64)?;
            } else if let (Some(theirs), Some(ratio), Some(limit)) = (row.cmsis_nn, row.ratio, row.limit) {
                write!(text, " {theirs} | {ratio:.3} | {limit}{} |", if row.holds() { "" } else { ", exceeded" })?;
            } else {
                write!(text, " - | - | - |")?;
            }
            if let Some(cycles) = row.m4_cycles_estimated {
                write!(text, " {cycles} | {:.3} |", row.work as f64 / cycles.max(1) as f64)?;
            }
            writeln!(text)?;
        }
        if !compared {
            write!(text, "\nA picture of {} steps: {:.1} M", self.steps, self.picture.instructions as f64 / 1e6)?;
            if let Some(cycles) = self.picture.m4_cycles_estimated {
                let cycles = cycles as f64;
                write!(text, "; estimated {:.1} M cycles, {:.2} s at 120 MHz", cycles / 1e6, cycles / 120e6)?;
            }
            writeln!(text)?;
        }
        if histogram {
            for row in &self.rows {
                writeln!(text, "\n{}", row.name)?;
                for (name, times) in &row.histogram {
                    writeln!(text, "  {times:>10}  {:.3}  {name}", *times as f64 / row.work.max(1) as f64)?;
                }
            }
        }
        Ok(())
    }
}

impl Row {
    fn holds(&self) -> bool {
        self.ratio.zip(self.limit).is_none_or(|(ratio, limit)| ratio <= limit)
    }

    fn is_elementwise(&self) -> bool {
        self.name.starts_with("add") || self.name.starts_with("softmax")
    }

    fn add(&mut self, other: &Row) {
        self.calls += 1;
        self.work += other.work;
        self.instructions += other.instructions;
        self.winograd |= other.winograd;
        if let Some(cycles) = other.m4_cycles_estimated {
            *self.m4_cycles_estimated.get_or_insert(0) += cycles;
        }
        let mut times: HashMap<String, u64> = self.histogram.drain(..).collect();
        for (name, more) in &other.histogram {
            *times.entry(name.clone()).or_default() += more;
        }
        self.histogram = times.into_iter().collect();
        self.histogram.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    }
}

/// The rows that peers have, in their order, then ResNet-8's layers, attention and norm.
fn compared(rows: Vec<Row>, softmax: Row, peers: &Peers) -> Vec<Row> {
    let find = |name: &str| rows.iter().find(|row| row.name == name);
    let one = |row: &Row, calls: u64| {
        let mut copy = Row { name: row.name.clone(), ..Row::default() };
        copy.add(row);
        copy.calls = calls;
        copy
    };
    let mut resnet = Row { name: "ResNet-8".into(), ..Row::default() };
    let mut layers: Vec<Row> = Vec::new();
    for name in RESNET_8 {
        // An operator that the file has twice is one row already.
        if layers.iter().all(|layer| layer.name != name)
            && let Some(row) = find(name)
        {
            resnet.add(row);
            layers.push(one(row, row.calls));
        }
    }
    let mut sum = Row { name: "add 28×28×16".into(), ..Row::default() };
    if let [Some(with), Some(without)] = ADD.map(find) {
        sum.add(with);
        sum.work = 28 * 28 * 16;
        sum.instructions -= without.instructions;
        let cycles = with.m4_cycles_estimated.zip(without.m4_cycles_estimated);
        sum.m4_cycles_estimated = cycles.map(|(with, without)| with - without);
        sum.histogram.clear();
    }
    let mut all = Vec::new();
    let mut others = vec![resnet, sum, softmax];
    for (name, _) in peers.rows.iter().filter(|(name, _)| !name.starts_with("limit")) {
        if let Some(at) = others.iter().position(|row| row.name == *name) {
            all.push(others.remove(at));
        } else if let Some(row) = find(name) {
            all.push(one(row, row.calls));
        }
    }
    all.extend(others);
    all.extend(layers);
    let more = ["attention", "norm", "quantize", "pool"];
    all.extend(
        rows.iter().filter(|row| more.iter().any(|more| row.name.starts_with(more))).map(|row| one(row, row.calls)),
    );
    all
}

/// An operator by its kind and shape, in the input's size.
fn label(op: &Op, model: &Model<'_>) -> String {
    let shape = |id: u16| {
        let tensor = model.tensor(id);
        format!("{}×{}×{}", tensor.h, tensor.w, tensor.c)
    };
    let mut text = String::new();
    match op {
        Op::Conv(op) => {
            let (input, out) = (model.tensor(op.sources[0]), model.tensor(op.out));
            let _ = write!(text, "{}×{}", op.kernel[0], op.kernel[1]);
            if op.stride != 1 {
                let _ = write!(text, "/{}", op.stride);
            }
            let _ = write!(text, " {}×{} {}", input.h, input.w, input.c);
            if op.sources[1] != NONE {
                let _ = write!(text, " + {}", model.tensor(op.sources[1]).c);
            }
            let _ = write!(text, "→{}", out.c);
            text += if op.upsample { " upsampled" } else { "" };
            text += if op.residual != NONE { " + residual" } else { "" };
        }
        Op::Attention(op) => text = format!("attention {}, {} heads", shape(op.out), op.heads),
        Op::NormStats(op) => text = format!("norm, statistics {}", shape(op.sources[0])),
        Op::NormApply(op) => text = format!("norm, application {}", shape(op.out)),
        Op::Quantize { input, .. } => text = format!("quantize {}", shape(*input)),
        Op::AvgPool { input, .. } => text = format!("pool {}", shape(*input)),
        Op::Upsample { input, .. } => text = format!("upsample {}", shape(*input)),
        Op::EmbedLookup(op) => text = format!("embedding, lookup {}", shape(op.out)),
        Op::EmbedAdd(op) => text = format!("embedding, add {}", shape(op.out)),
    }
    text
}
