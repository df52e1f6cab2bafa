//! A study as one HTML page, to be sent to a colleague: nothing is fetched, pictures are data URIs, curves are inline SVG,
//! and there is no script. Light and dark follow the reader's system.
//!
//! `maud` writes the tags, so they are balanced and every name that comes from a file is escaped.
//! [`page()`] has the order of the sections; each is a file: `headline` (the table and what it means in words),
//! `pictures`, `sets` (what the judge and the pixels say), `steps`, `layers`. `chart` draws for all of them.
//!
//! Voids the promise: nothing.

mod chart;
mod headline;
mod layers;
mod pictures;
mod sets;
mod steps;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use miette::Result;

use super::table::count;
use crate::arch::Cond;
use crate::compare::Study;

const STYLE: &str = include_str!("style.css");

/// The page. `metadata` is the checkpoint's: `name` and `class_names` are shown where they are there.
pub fn page(study: &Study, metadata: &BTreeMap<String, String>) -> Result<String> {
    let names = Names::new(study, metadata);
    let title = format!("{}: float against quantized", names.model);
    let pictures = pictures::section(study, &names)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content=(concat!("converter ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { (names.model) " " span.soft { "float against quantized" } }
                        p.lead { (setting(study)) }
                    }
                    (headline::section(study))
                    (pictures)
                    (sets::section(study, &names))
                    (steps::section(study))
                    (layers::section(study))
                    (method(study))
                }
            }
        }
    };
    Ok(page.into_string())
}

/// What things are called.
struct Names {
    model: String,
    classes: Vec<String>,
}

impl Names {
    fn new(study: &Study, metadata: &BTreeMap<String, String>) -> Self {
        let classes = metadata.get("class_names").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let stem = || study.files.first().map_or("model", |file| file.file.trim_end_matches(".mote")).to_owned();
        Self { model: metadata.get("name").cloned().unwrap_or_else(stem), classes }
    }

    /// A class by its name, else by its number.
    fn class(&self, class: usize) -> String {
        self.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    fn cond(&self, cond: &Cond) -> Option<String> {
        match cond {
            Cond::Class(class) => Some(self.class(*class)),
            Cond::None | Cond::Vector(_) => None,
        }
    }
}

fn setting(study: &Study) -> String {
    let [h, w, c] = study.shape;
    let channels = match c {
        1 => "grey".to_owned(),
        3 => "colour".to_owned(),
        c => format!("{c} channels"),
    };
    format!(
        "{} pictures of {h}×{w} {channels}, each drawn in float and by each file from the same noise; {} steps, guidance {}, seeds \
         from {}.",
        count(study.samples as u64),
        study.steps,
        study.guidance,
        study.seed
    )
}

/// A heading with an anchor, and what the section says in a sentence or two.
fn heading(id: &str, title: &str, says: Markup) -> Markup {
    html! {
        h2 id=(id) { (title) }
        p.says { (says) }
    }
}

/// The colour of a set: 0 is float, then the files.
fn colour(set: usize) -> String {
    format!("s{}", if set == 0 { 0 } else { 1 + (set - 1) % 5 })
}

fn method(study: &Study) -> Markup {
    html! {
        section {
            h2 id="method" { "How it was measured" }
            dl.method {
                dt { "PSNR" }
                dd { "of a pair of pictures, both clipped to −1…1 as a display does, with the range 2 as the peak: 10·log₁₀(4 / mean square \
                      error). The mean is that of the pictures' decibels." }
                dt { "SQNR" }
                dd { "signal to quantization noise: 10·log₁₀(Σf² / Σ(f − q)²), summed over all elements and pictures before the logarithm." }
                @if let Some(judge) = &study.judge {
                    dt { "Class share" }
                    dd {
                        "of how many pictures a separate classifier reads the class that was asked for"
                        @if let Some(accuracy) = judge.held_out_accuracy {
                            " (it reads " (format!("{:.1}", 100.0 * accuracy)) " % of real pictures that it has not seen)"
                        }
                        ". The difference's error comes from the pairs on which float and file do not agree (McNemar)."
                    }
                    dt { "Fréchet distance" }
                    dd {
                        "between the classifier's " (judge.features) " features of these pictures and of real held-out ones, as between two \
                         normal distributions. It falls with the number of pictures, so only sets of the same size are compared. ± is the \
                         standard error over seeds, by leaving out one twentieth of the pictures after the other."
                    }
                    dt { "Seed-to-seed spread" }
                    dd { "the standard deviation of the difference between two float sets of other seeds. A file whose distance differs by \
                          less cannot be told from float with another seed." }
                }
                dt { "Pixel values" }
                dd { "Wasserstein-1 distance between the distributions of all pixels, in display levels of 256." }
            }
        }
    }
}
