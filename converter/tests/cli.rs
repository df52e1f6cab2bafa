//! The command line from outside: what it writes, what it says, and what it leaves behind when it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mote_converter::report::metrics::psnr;
use mote_converter::report::npy;
use ndarray::{Array1, Array4};
use serde_json::Value;

/// 16x16 gray pictures, two classes.
const CLASSES: &str = "case-07";
/// 2x6, two channels, a class vector.
const VECTOR: &str = "case-15";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/oracle/{name}.safetensors"))
}

/// A folder of its own for each test, where the command runs.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_converter"));
        command.args(args).current_dir(self.0.path()).env("NO_COLOR", "1").output().unwrap()
    }

    /// Standard output of a run that has to succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// What a run that has to fail says, unwrapped into one line.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let words = stderr.split_whitespace().filter(|word| !["│", "×", "╰─▶"].contains(word));
        words.collect::<Vec<_>>().join(" ")
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Quantizes a fixture and gives the JSON report.
    fn quantize(&self, name: &str, more: &[&str]) -> Value {
        let path = fixture(name);
        let mut args = vec!["quantize", path.to_str().unwrap(), "-o", "a.mote", "--json", "--calibration", "4"];
        args.extend(more);
        self.json(&args)
    }
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
}

#[test]
fn a_checkpoint_becomes_a_file_that_draws_the_same() {
    let desk = Desk::new();
    let weights = fixture(CLASSES);
    let weights = weights.to_str().unwrap();
    let report = desk.quantize(CLASSES, &["--steps", "4,2", "--null-class", "0"]);
    let file = std::fs::read(desk.path("a.mote")).unwrap();
    assert_eq!(report["costs"]["file_bytes"], file.len());
    assert!(report["quality"]["psnr_db"]["mean"].as_f64().unwrap() > 20.0, "{report}");
    assert_eq!(desk.names(), ["a.mote"]);
    desk.quantize(CLASSES, &["--steps", "4,2", "--null-class", "0"]);
    assert_eq!(std::fs::read(desk.path("a.mote")).unwrap(), file, "the same checkpoint, the same file");

    let inspected = desk.json(&["inspect", "a.mote", "--json"]);
    assert_eq!(inspected["arena_bytes"], report["costs"]["arena_bytes"]);
    assert_eq!(inspected["macs"], report["costs"]["macs"]);
    assert_eq!([&inspected["classes"], &inspected["null_class"]], [2, 0]);
    assert_eq!(inspected["schedules"].as_array().unwrap().len(), 2);
    contains(&desk.ok(&["inspect", "a.mote", "--verbose"]), &["TENS", "conv", "peak", "one line is", "2 steps: x0"]);

    let draw = |model: &str, more: &[&str]| {
        let mut args =
            vec!["run", model, "--seed", "5", "--class", "1", "--count", "3", "--steps", "4", "--raw", "x.npy"];
        args.extend(more);
        desk.ok(&args);
        npy::read_samples(&desk.path("x.npy"), [16, 16, 1]).unwrap()
    };
    for guidance in ["1", "2.5"] {
        let quantized = draw("a.mote", &["--guidance", guidance]);
        assert_eq!(quantized, draw("a.mote", &["--guidance", guidance]), "the same seed, the same bytes");
        let float = draw(weights, &["--guidance", guidance, "--null-class", "0"]);
        let each: Vec<f64> = float.iter().zip(&quantized).map(|(f, q)| psnr(f, q)).collect();
        // `compare` sees the same pairs.
        let compared = desk.json(&[
            "compare",
            weights,
            "a.mote",
            "--json",
            "--count",
            "3",
            "--seed",
            "5",
            "--class",
            "1",
            "--guidance",
            guidance,
        ]);
        let compared = &compared["files"][0];
        for (told, seen) in compared["psnr_each_db"].as_array().unwrap().iter().zip(each) {
            assert!((told.as_f64().unwrap() - seen).abs() < 1e-6 && seen > 15.0, "{told} {seen}");
        }
        assert_eq!(compared["rows"].as_array().unwrap().len(), 4);
        let layers = compared["layers"].as_array().unwrap();
        assert!(
            layers.len() > 10 && layers.iter().all(|layer| layer["sqnr_db"].as_f64().unwrap() > 10.0),
            "{compared}"
        );
    }
    contains(
        &desk.ok(&["compare", weights, "a.mote", "--count", "2"]),
        &["PSNR", "SQNR", "worst row", "(--verbose shows them)"],
    );
}

#[test]
fn several_files_go_on_one_page() {
    let desk = Desk::new();
    let weights = fixture(CLASSES);
    let weights = weights.to_str().unwrap();
    desk.quantize(CLASSES, &["--steps", "2", "--activations", "int16"]);
    std::fs::rename(desk.path("a.mote"), desk.path("b.mote")).unwrap();
    desk.quantize(CLASSES, &["--steps", "2"]);
    let common = ["compare", weights, "a.mote", "b.mote", "--count", "2", "--layers", "1"];
    let text = desk.ok(&[&common[..], &["--json", "r.json", "--html", "r.html"]].concat());
    contains(&text, &["a.mote", "b.mote", "4 pairs", "PSNR dB: mean"]);
    assert_eq!(desk.names(), ["a.mote", "b.mote", "r.html", "r.json"]);
    let page = std::fs::read_to_string(desk.path("r.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    let written = std::fs::read_to_string(desk.path("r.json")).unwrap();
    let printed = desk.ok(&[&common[..], &["--json"]].concat());
    assert_eq!(written, printed, "the same comparison, the same numbers");
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    assert_eq!((&report["samples"], &report["judge"]), (&Value::from(4), &Value::Null));

    let before = std::fs::read(desk.path("b.mote")).unwrap();
    assert!(!desk.run(&["compare", weights, "a.mote", "--json", "b.mote"]).status.success());
    assert_eq!(std::fs::read(desk.path("b.mote")).unwrap(), before, "a model is not written over");
    let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/judge/classifier.safetensors");
    contains(
        &desk.fails(&[&common[..], &["--judge", judge.to_str().unwrap()]].concat()),
        &["reads pictures of [11, 11, 3], the model draws [16, 16, 1]", "--judge FILE"],
    );
    contains(&desk.fails(&[&common[..], &["--judge", "no.safetensors"]].concat()), &["no such file"]);
}

#[test]
fn noise_comes_from_a_file_and_is_the_seeds_own() {
    let desk = Desk::new();
    desk.quantize(CLASSES, &["--steps", "2", "--eta", "1"]);
    let noise = |seed: u64| {
        let mut x = vec![0.0; 256];
        mote_runtime::sampler::noise::fill(seed, 0, &mut x);
        x
    };
    npy::write_samples(&desk.path("n.npy"), &[noise(7), noise(8)], [16, 16, 1]).unwrap();
    let draw = |model: &str, more: &[&str]| {
        let args = [&["run", model, "--seed", "7", "--class", "0", "--raw", "x.npy"], more].concat();
        desk.ok(&args);
        npy::read_samples(&desk.path("x.npy"), [16, 16, 1]).unwrap()
    };
    let given = draw("a.mote", &["--noise", "n.npy"]);
    assert_eq!(given, draw("a.mote", &["--count", "2"]), "two samples in the file, two drawn");
    // The steps' own noise (eta) is paired too.
    let path = fixture(CLASSES);
    let float = draw(path.to_str().unwrap(), &["--count", "2", "--steps", "2", "--eta", "1"]);
    assert!(float.iter().zip(&given).all(|(f, q)| psnr(f, q) > 15.0));
    assert_ne!(given[0], given[1]);
}

#[test]
fn pictures_are_what_they_say() {
    let desk = Desk::new();
    desk.quantize(CLASSES, &["--steps", "3"]);
    let draw = |out: &str| desk.ok(&["run", "a.mote", "--class", "all", "--count", "3", "--scale", "2", "--out", out]);
    draw("x.png");
    draw("x.gif");
    // Three columns and two rows (classes) of 16 pixels, borders of 1, everything doubled.
    let size = (2 * (3 * 17 + 1), 2 * (2 * 17 + 1));
    let file = std::io::BufReader::new(std::fs::File::open(desk.path("x.png")).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), size);

    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(std::fs::File::open(desk.path("x.gif")).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        assert_eq!((u32::from(frame.width), u32::from(frame.height)), size);
        frames.push(frame.buffer.to_vec());
    }
    assert_eq!(frames.len(), 4, "noise and three steps");
    let near = frames[3].chunks_exact(4).zip(pixels.chunks_exact(3)).all(|(a, b)| a[0].abs_diff(b[0]) <= 8);
    assert!(near, "the animation ends with the picture");
    assert_ne!(frames[0], frames[3]);

    let text = desk.ok(&["run", "a.mote", "--class", "1"]);
    assert_eq!((text.lines().count(), text.lines().map(|line| line.chars().count()).max()), (8, Some(16)), "{text}");
    assert_eq!(desk.names(), ["a.mote", "x.gif", "x.png"]);
}

#[test]
fn class_vectors() {
    let desk = Desk::new();
    desk.quantize(VECTOR, &["--steps", "3"]);
    let path = fixture(VECTOR);
    let weights = path.to_str().unwrap();
    contains(&desk.fails(&["run", "a.mote"]), &["needs a class vector of 8 elements", "--class-embedding"]);
    contains(&desk.fails(&["run", "a.mote", "--class", "1"]), &["takes no class numbers"]);
    contains(&desk.fails(&["run", weights, "--null-class", "1"]), &["null class 1 does not exist"]);
    ndarray_npy::write_npy(desk.path("v.npy"), &Array1::from_elem(8, 0.5f32)).unwrap();
    let draw = |model: &str| {
        desk.ok(&["run", model, "--class-embedding", "v.npy", "--raw", "x.npy", "--steps", "3", "--count", "2"]);
        npy::read_samples(&desk.path("x.npy"), [2, 6, 2]).unwrap()
    };
    let (quantized, float) = (draw("a.mote"), draw(weights));
    assert!(float.iter().zip(&quantized).all(|(f, q)| psnr(f, q) > 15.0), "{float:?} {quantized:?}");
    desk.ok(&["compare", weights, "a.mote", "--class-embedding", "v.npy", "--count", "2"]);
    ndarray_npy::write_npy(desk.path("v.npy"), &Array1::from_elem(9, 0.5f32)).unwrap();
    contains(&desk.fails(&["run", "a.mote", "--class-embedding", "v.npy"]), &["shape [9], need [8]"]);
}

/// Winograd's algorithm is a matter of time and arena alone: never more than the budget on the core that it is for, and the same picture.
#[test]
fn winograd_keeps_the_budget_and_the_picture() {
    let desk = Desk::new();
    let path = fixture(CLASSES);
    let quantize = |more: &[&str]| {
        let path = path.to_str().unwrap();
        let args = ["quantize", path, "--size", "16", "--steps", "2", "--calibration", "1", "-o", "a.mote", "--json"];
        let text = desk.ok(&[&args, more].concat());
        let costs = serde_json::from_str::<serde_json::Value>(&text).unwrap()["costs"].clone();
        desk.ok(&["run", "a.mote", "--class", "1", "--raw", "x.npy"]);
        let number = |name: &str| costs[name].as_u64().unwrap();
        (number("winograd_convolutions"), number("arena_bytes"), std::fs::read(desk.path("x.npy")).unwrap())
    };
    let m4 = ["--target", "m4", "--activations", "int8"];
    let (none, least, picture) = quantize(&m4);
    assert_eq!(none, 0, "not without a budget");
    let (all, most, same) = quantize(&[&m4[..], &["--winograd", "on"]].concat());
    assert!(all > 1 && most > least && same == picture, "{all} {most} {least}");
    for ram in [least, (least + most) / 2, most] {
        let (some, arena, same) = quantize(&[&m4[..], &["--ram", &ram.to_string()]].concat());
        assert!(arena <= ram && same == picture, "{arena} of {ram}");
        assert!(if ram == most { some == all } else { some < all }, "{some} of {all} at {ram}");
    }
    // A budget that is held with the portable kernels is none for an M4's scratch.
    assert_eq!(quantize(&["--activations", "int8", "--ram", "1M"]).0, 0);
    let low = (least + 16).to_string();
    let args = ["--size", "16", "--calibration", "1", "-o", "b.mote", "--winograd", "on", "--ram", &low];
    let refused = desk.fails(&[&["quantize", path.to_str().unwrap()], &m4[..], &args].concat());
    contains(&refused, &["--ram", "leave `--winograd on` out"]);
}

#[test]
fn broken_budgets_leave_nothing() {
    let desk = Desk::new();
    let path = fixture(CLASSES);
    let quantize = |more: &[&str]| {
        let args = [&["quantize", path.to_str().unwrap(), "--steps", "2", "--calibration", "1", "-o", "b.mote"], more];
        desk.fails(&args.concat())
    };
    contains(&quantize(&["--ram", "1K"]), &["--ram", "the peak is", "cannot fall below"]);
    contains(&quantize(&["--flash", "4K"]), &["--flash", "the largest layer is", "help:"]);
    assert!(desk.names().is_empty(), "{:?}", desk.names());
    std::fs::write(desk.path("b.mote"), "precious").unwrap();
    quantize(&["--ram", "1K"]);
    assert_eq!(std::fs::read(desk.path("b.mote")).unwrap(), b"precious");
    // Within the budget, the report says how far.
    let text =
        desk.ok(&["quantize", path.to_str().unwrap(), "--steps", "2", "--ram", "64K", "--flash", "1M", "-o", "b.mote"]);
    contains(&text, &["% of --ram 64.0 KiB", "% of --flash 1.00 MiB", "the peak is", "PSNR", "2 calls a picture"]);
}

#[test]
fn wrong_files_are_named() {
    let desk = Desk::new();
    std::fs::write(desk.path("text.safetensors"), "this is no checkpoint").unwrap();
    std::fs::write(desk.path("empty.mote"), "").unwrap();
    std::fs::write(desk.path("config.json"), r#"{"sample_size": 4}"#).unwrap();
    contains(&desk.fails(&["quantize", "text.safetensors"]), &["text.safetensors"]);
    contains(&desk.fails(&["inspect", "nowhere"]), &["nowhere: no such file"]);
    contains(&desk.fails(&["run", "nowhere.mote"]), &["nowhere.mote"]);
    contains(&desk.fails(&["run", "empty.mote"]), &["empty.mote", "0 bytes of 48"]);
    contains(&desk.fails(&["quantize", "config.json"]), &["a configuration without weights", "inspect"]);

    desk.quantize(CLASSES, &["--steps", "2"]);
    let whole = std::fs::read(desk.path("a.mote")).unwrap();
    contains(&desk.fails(&["quantize", "a.mote"]), &["a .mote file, where a checkpoint is needed"]);
    std::fs::write(desk.path("cut.mote"), &whole[..whole.len() / 2]).unwrap();
    contains(&desk.fails(&["run", "cut.mote"]), &["cut short", "copy the file again"]);
    let mut damaged = whole.clone();
    let last = damaged.len() - 40;
    damaged[last] ^= 1;
    std::fs::write(desk.path("damaged.mote"), &damaged).unwrap();
    contains(&desk.fails(&["run", "damaged.mote", "--class", "0"]), &["weights are damaged", "block"]);
    let shown = desk.run(&["inspect", "damaged.mote"]);
    assert_eq!(shown.status.code(), Some(1));
    contains(&String::from_utf8_lossy(&shown.stdout), &["DAMAGED", "operators"]);

    // Another network's file.
    let other = fixture("case-06");
    contains(
        &desk.fails(&["compare", other.to_str().unwrap(), "a.mote", "--count", "1"]),
        &["compare a file with the checkpoint that it was made of"],
    );
    let path = fixture(CLASSES);
    contains(&desk.fails(&["compare", "a.mote", path.to_str().unwrap()]), &["other order"]);
    for to in ["--html", "--json"] {
        let late = desk.fails(&["compare", path.to_str().unwrap(), "a.mote", to, "no/such/x.json"]);
        contains(&late, &["no/such: no such folder", "make the folder first"]);
        assert!(!late.contains("comparing"), "{late}");
    }
}

#[test]
fn weights_are_as_wide_as_asked_for() {
    let desk = Desk::new();
    let bytes = |report: &Value| report["costs"]["file_bytes"].as_u64().unwrap();
    let steps = ["--steps", "2"];
    let int8 = desk.quantize(CLASSES, &steps);
    assert_eq!(int8["front"], Value::Null);
    let int4 = desk.quantize(CLASSES, &[&steps[..], &["--weights", "int4"]].concat());
    assert!(bytes(&int4) < bytes(&int8), "{int4}");
    let shown = desk.json(&["inspect", "a.mote", "--json"]);
    let convs = shown["ops"].as_array().unwrap().iter().filter_map(|op| op["weights"].as_array());
    let written: Vec<&str> = convs.flatten().filter_map(Value::as_str).collect();
    assert!(written.iter().filter(|kind| kind.starts_with("i4")).count() > 4, "{written:?}");
    assert_eq!((written.first(), written.last()), (Some(&"i8"), Some(&"i8")), "the first and the last layer");

    // A budget between the two is met, by some of the layers.
    let budget = (bytes(&int8) + bytes(&int4)) / 2;
    let flash = budget.to_string();
    let auto = desk.quantize(CLASSES, &[&steps[..], &["--weights", "auto", "--flash", &flash]].concat());
    assert!(bytes(&auto) <= budget, "{} of {budget}", bytes(&auto));
    let points = auto["front"]["points"].as_array().unwrap();
    let chosen = auto["front"]["chosen"].as_u64().unwrap() as usize;
    assert!(chosen > 0 && chosen + 1 < points.len(), "{}", auto["front"]);
    let fewer = points[chosen - 1]["file_bytes"].as_u64().unwrap();
    assert!(fewer > budget, "a layer less would do: {fewer} of {budget}");
    assert_eq!(points[chosen]["file_bytes"], bytes(&auto));
    assert!(points[chosen]["measured_psnr_db"].as_f64().unwrap() > 15.0, "{}", auto["front"]);
    // The same again, byte for byte.
    let file = std::fs::read(desk.path("a.mote")).unwrap();
    desk.quantize(CLASSES, &[&steps[..], &["--weights", "auto", "--flash", &flash]].concat());
    assert!(std::fs::read(desk.path("a.mote")).unwrap() == file);
    // What fits as it is stays as it is.
    let plenty = desk.quantize(CLASSES, &[&steps[..], &["--weights", "auto", "--flash", "1M"]].concat());
    assert_eq!((bytes(&plenty), &plenty["front"]["chosen"]), (bytes(&int8), &Value::from(0)));
    // What cannot be met says so, and nothing is written.
    let path = fixture(CLASSES);
    let quantize = ["quantize", path.to_str().unwrap(), "--calibration", "4", "-o", "b.mote", "--flash", "2K"];
    contains(&desk.fails(&[&quantize[..], &["--weights", "auto"]].concat()), &["more than --flash allows", "4 bits"]);
    contains(&desk.fails(&quantize), &["more than --flash allows", "--weights auto"]);
    assert_eq!(desk.names(), ["a.mote"]);
}

#[test]
fn ranges_are_chosen_as_asked_for() {
    let desk = Desk::new();
    let mut files = Vec::new();
    for ranges in ["mean-square", "min-max", "percentile", "search"] {
        let report = desk.quantize(CLASSES, &["--steps", "2", "--ranges", ranges]);
        assert!(report["quality"]["psnr_db"]["mean"].as_f64().unwrap() > 15.0, "{ranges}: {report}");
        files.push(std::fs::read(desk.path("a.mote")).unwrap());
    }
    assert!(files[0] != files[1] && files[1] != files[2]);
}

#[test]
fn wrong_requests_are_named() {
    let desk = Desk::new();
    desk.quantize(CLASSES, &["--steps", "2"]);
    let run = |more: &[&str]| desk.fails(&[&["run", "a.mote"], more].concat());
    contains(&run(&[]), &["needs a class from 0 to 1", "--class all"]);
    contains(&run(&["--class", "7"]), &["class 7", "0 to 1"]);
    contains(&run(&["--class", "0", "--guidance", "2"]), &["null class"]);
    contains(&run(&["--class", "0", "--steps", "9"]), &["no schedule of 9 steps", "--steps 2"]);
    contains(&run(&["--class", "0", "--out", "x.bmp"]), &[".png and .gif"]);
    contains(&run(&["--class", "0", "--eta", "0.5"]), &["no --eta"]);
    contains(&run(&["--class", "0", "--raw", "no/such/x.npy"]), &["no/such: no such folder"]);
    ndarray_npy::write_npy(desk.path("n.npy"), &Array4::<f32>::zeros((1, 1, 16, 8))).unwrap();
    contains(&run(&["--class", "0", "--noise", "n.npy"]), &["[1, 1, 16, 8], need [n, 1, 16, 16]"]);
    ndarray_npy::write_npy(desk.path("n.npy"), &Array4::<f64>::zeros((1, 1, 16, 16))).unwrap();
    contains(&run(&["--class", "0", "--noise", "n.npy"]), &["<f8", "need '<f4'"]);
    ndarray_npy::write_npy(desk.path("n.npy"), &Array4::<f32>::zeros((1, 1, 16, 16))).unwrap();
    contains(&run(&["--class", "0", "--noise", "n.npy", "--count", "2"]), &["holds 1 samples"]);
    // What clap refuses has exit code 2.
    for args in
        [&["quantize", "x", "--weights", "int5"][..], &["quantize", "x", "--ram", "1X"], &["run", "x", "--scale", "0"]]
    {
        assert_eq!(desk.run(args).status.code(), Some(2), "{args:?}");
    }
    let path = fixture(CLASSES);
    contains(&desk.fails(&["quantize", path.to_str().unwrap(), "-o", "no/such/x.mote"]), &["no/such: no such folder"]);
    contains(&desk.fails(&["quantize", path.to_str().unwrap(), "-o", "."]), &["is a folder"]);
}

#[test]
fn configurations_are_planned_before_training() {
    let desk = Desk::new();
    let config = r#"{"_class_name": "UNet2DModel", "sample_size": 16, "in_channels": 1, "out_channels": 1,
        "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "layers_per_block": 1}"#;
    std::fs::write(desk.path("config.json"), config).unwrap();
    let planned = desk.json(&["inspect", "config.json", "--json"]);
    assert_eq!(planned["image"], serde_json::json!([16, 16, 1]));
    assert!(planned["parameters"].as_u64().unwrap() > 10_000);
    contains(
        &desk.ok(&["inspect", "config.json"]),
        &["no weights", "no scheduler_config.json found", "int16", "conv_in"],
    );

    // A checkpoint's plan is what quantizing gives.
    let path = fixture(CLASSES);
    let planned = desk.json(&["inspect", path.to_str().unwrap(), "--json", "--steps", "3"]);
    for (cost, activations) in [(0, "int8"), (3, "int16")] {
        let report = desk.quantize(CLASSES, &["--steps", "3", "--activations", activations]);
        let planned = &planned["costs"][cost]["report"];
        for key in ["arena_bytes", "macs", "weights_bytes", "time_bytes", "constants_bytes"] {
            assert_eq!(planned[key], report["costs"][key], "{key}, {activations}");
        }
    }

    // Everything that is wrong, of both configurations, at once.
    std::fs::write(
        desk.path("config.json"),
        config.replace("\"norm_num_groups\": 4", "\"dropuot\": 1, \"act_fn\": \"tanh\""),
    )
    .unwrap();
    std::fs::write(desk.path("scheduler_config.json"), r#"{"solver_order": 2, "beta_schedule": "odd"}"#).unwrap();
    contains(&desk.fails(&["inspect", "config.json"]), &["dropuot", "act_fn", "solver_order", "beta_schedule"]);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let desk = Desk::new();
    desk.quantize(CLASSES, &["--steps", "2"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_converter"))
        .args(["inspect", "a.mote", "--verbose", "--json"])
        .current_dir(desk.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
