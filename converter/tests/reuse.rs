//! Reuse of deep features on small networks: float's shallow calls against full ones, the device against float row by row, and
//! what is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use mote_converter::arch::{Network, TimePath};
use mote_converter::calibrate::condition;
use mote_converter::compare::{self, compare};
use mote_converter::draw::{AlignedBuffer, Device, Draw, Prompt};
use mote_converter::graph::Reuse;
use mote_converter::interpret::{Deep, Interpreter, Observed};
use mote_converter::pipeline::{Calibrated, Options, prepare};
use mote_converter::quantize::Level;
use mote_converter::schedule::is_shallow;
use mote_converter::weights::Checkpoint;
use mote_runtime::format::{Graph, Header, Row, Section, tag};
use mote_runtime::{Model, Poll, Sampler};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/oracle/{name}.safetensors"))
}

/// Networks of several levels: attention in the last block, changes of size by resnets, a class vector, classes.
const CASES: [&str; 6] = ["case-02", "case-03", "case-07", "case-09", "case-10", "case-17"];
/// Classes, and which of them stands for none in these tests.
const GUIDED: &str = "case-07";

fn options(name: &str, cache_interval: usize) -> Options {
    Options {
        steps: vec![6, 3],
        cache_interval,
        classes: Some(4),
        null_class: (name == GUIDED).then_some(0),
        trajectories: 4,
        activations: Some(Level::Int8),
        size: Some([16, 16]),
        ..Options::default()
    }
}

fn calibrated(name: &str, options: &Options) -> Calibrated {
    prepare(&Checkpoint::open(&fixture(name)).unwrap(), options, &|_, _, _| {}).unwrap()
}

/// With the tensor that a full call of the same input left, a shallow one gives the same output and makes the same tensors, but
/// for those that it skips.
#[test]
fn a_shallow_call_on_fresh_features_is_a_full_one() {
    for name in CASES {
        let network = Network::import(&Checkpoint::open(&fixture(name)).unwrap(), Some([16, 16])).unwrap();
        let graph = &network.graph;
        let reuse = graph.reuse.as_ref().unwrap();
        let skipped = reuse.deep_tensors(graph);
        let x: Vec<f32> = (0..graph.tensors[graph.input].elems()).map(|i| (i as f32 * 0.7).sin()).collect();
        let embedding: Vec<f32> = (0..network.time.dim()).map(|i| (i as f32 * 0.3).cos()).collect();
        let projections = TimePath::projections(graph, &embedding);
        let interpreter = Interpreter::new(graph);
        let mut kept = Vec::new();
        let mut full = Vec::new();
        let want = interpreter.run_observed(&x, &projections, Deep::Keep(&mut kept), &mut |what, values| {
            if let Observed::Tensor(id) = what
                && !skipped[id]
            {
                full.push((id, values.to_vec()));
            }
        });
        let mut shallow = Vec::new();
        let got = interpreter.run_observed(&x, &projections, Deep::Reuse(&kept), &mut |what, values| {
            if let Observed::Tensor(id) = what {
                shallow.push((id, values.to_vec()));
            }
        });
        assert!(got == want && shallow == full, "{name}");
        assert!(shallow.len() < graph.ops.len() / 2, "{name}: {} of {}", shallow.len(), graph.ops.len());
        // Other features, another picture.
        kept.iter_mut().for_each(|x| *x += 1.0);
        assert!(interpreter.run_observed(&x, &projections, Deep::Reuse(&kept), &mut |_, _| {}) != want, "{name}");
        assert_eq!(Reuse::at(graph, graph.input), None);
    }
}

/// Full rows are as many as asked for, the first one among them, and closest where the noise is.
#[test]
fn one_row_in_n_is_full() {
    for interval in [1, 2, 3, 6] {
        let options = Options { steps: vec![30, 6], ..options("case-09", interval) };
        let calibrated = calibrated("case-09", &options);
        for schedule in &calibrated.schedules.schedules {
            let rows = &calibrated.schedules.rows[usize::from(schedule.first_row)..][..usize::from(schedule.rows)];
            let full: Vec<usize> = (0..rows.len()).filter(|&row| !is_shallow(&rows[row])).collect();
            assert_eq!((full[0], full.len()), (0, rows.len().div_ceil(interval)));
            let first_half = full.iter().filter(|&&row| row < rows.len() / 2).count();
            assert!(interval == 1 || 2 * first_half >= full.len(), "{full:?}");
        }
    }
}

/// Layer by layer on the same input, full and shallow rows; for all schedules, with and without guidance.
#[test]
fn the_device_computes_what_float_computes() {
    for name in CASES {
        let options = options(name, 2);
        let calibrated = calibrated(name, &options);
        let quantized = calibrated.quantize(&options, &|_, _, _| {}).unwrap();
        let file = AlignedBuffer::copy_of(&quantized.packed.bytes);
        let model = Model::from_bytes(file.as_slice()).unwrap();
        assert_eq!(model.graph_count(), if name == GUIDED { 8 } else { 3 });
        for &steps in &options.steps {
            let prompt = |seed: u64| Prompt {
                seed,
                cond: condition(&calibrated.network, calibrated.classes, seed as usize, 4, seed),
                guidance: if calibrated.classes.null.is_some() { 1.5 } else { 1.0 },
                noise: None,
            };
            let draws = compare::Options { prompts: (0..4).map(prompt).collect(), steps: Some(steps), layered: 4 };
            let quality = compare(&calibrated.network, &model, &draws, &|| {}).unwrap();
            assert_eq!(quality.rows.iter().filter(|row| row.shallow).count(), steps / 2);
            for (index, row) in quality.rows.iter().enumerate() {
                let output = row.model_sqnr_db.unwrap();
                assert!(output > 10.0, "{name}, row {index} of {steps}: {output:.1} dB");
            }
        }
    }
}

/// A guided picture from a snapshot between a full row and the next: the bytes that it would have had, in an arena that is as
/// long as the report says.
#[test]
fn a_snapshot_within_an_interval_continues_to_the_same_bytes() {
    let options = options(GUIDED, 3);
    let calibrated = calibrated(GUIDED, &options);
    let quantized = calibrated.quantize(&options, &|_, _, _| {}).unwrap();
    let file = AlignedBuffer::copy_of(&quantized.packed.bytes);
    let model = Model::from_bytes(file.as_slice()).unwrap();
    let device = Device::new(&model, None).unwrap();
    let cond = mote_converter::arch::Cond::Class(1);
    let prompt = Prompt { seed: 9, cond, guidance: 2.0, noise: None };
    let want = device.draw(std::slice::from_ref(&prompt), false, &|| {}).unwrap().remove(0).x0;
    let mut snapshot = Vec::new();
    for rows in 0..6 {
        let mut arena = AlignedBuffer::zeroed(model.arena_len());
        arena.as_mut_slice().fill(0x5a);
        let mut sampler = Sampler::new(&model, arena.as_mut_slice()).unwrap();
        match rows {
            0 => sampler.start(device.request(&prompt)).unwrap(),
            _ => sampler.restore(&snapshot).unwrap(),
        }
        let poll = sampler.poll();
        assert_eq!(poll == Poll::Ready, rows == 5);
        snapshot.resize(sampler.snapshot_len(), 0);
        sampler.snapshot(&mut snapshot).unwrap();
        if rows == 5 {
            assert_eq!(sampler.image().elems(), want);
        }
    }
}

/// What a file without reuse is made of has not changed: fields that reuse brought are what they were.
#[test]
fn without_reuse_a_file_says_nothing_of_it() {
    let options = options(GUIDED, 1);
    let bytes = calibrated(GUIDED, &options).quantize(&options, &|_, _, _| {}).unwrap().packed.bytes;
    assert_eq!(bytes[38..Header::BYTES], [0; 10]);
    let graphs = Section::find(&bytes, tag::GRAPHS);
    assert_eq!(graphs.bytes as usize, Graph::BYTES);
    assert_eq!(bytes[graphs.offset as usize + 10..][..2], [0xff; 2]);
    let rows = Section::find(&bytes, tag::ROWS);
    for row in bytes[rows.offset as usize..][..rows.bytes as usize].chunks_exact(Row::BYTES) {
        assert_eq!((&row[4..6], &row[68..]), (&[0; 2][..], &[0; 12][..]));
    }
}

/// What `quantize` says where reuse is impossible: what, and what to do.
#[test]
fn what_cannot_reuse_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let said = |case: &str, interval: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_converter"));
        let path = fixture(case);
        command.args(["quantize", path.to_str().unwrap(), "--steps", "4,2", "-o", "a.mote", "--size", "16"]);
        let out =
            command.args(["--cache-interval", interval, "--calibration", "2"]).current_dir(&folder).output().unwrap();
        assert!(!out.status.success(), "{case} {interval}");
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        words.split_whitespace().filter(|word| !["│", "×", "╰─▶"].contains(word)).collect::<Vec<_>>().join(" ")
    };
    for (case, interval, words) in [
        ("case-09", "0", "from 1, which reuses nothing"),
        ("case-09", "two", "from 1, which reuses nothing"),
        ("case-09", "5", "a cache interval of 5 does not fit into a schedule of 4 network calls"),
        ("case-09", "3", "a cache interval of 3 does not fit into a schedule of 2 network calls"),
        ("case-08", "2", "no level below its outermost one"),
    ] {
        let said = said(case, interval);
        assert!(said.contains(words), "{case} {interval}: {said}");
        assert!(said.contains("help:") || said.contains("--cache-interval"), "{said}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
}
