//! The table that says it all, and what it says in words.

use maud::{Markup, html};

use super::colour;
use crate::compare::{FileStudy, Study};
use crate::report::table::{count, short_bytes};

/// How good a finding is; the colour of its mark, which has words beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Good,
    Fair,
    Poor,
}

impl Grade {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Fair => "fair",
            Self::Poor => "poor",
        }
    }
}

/// The section.
pub fn section(study: &Study) -> Markup {
    html! {
        section aria-label="Summary" {
            (table(study))
            div.cards {
                @for (index, file) in study.files.iter().enumerate() {
                    article class={ "card " (colour(1 + index)) } {
                        h3 { span.key aria-hidden="true" {} (file.file) }
                        ul {
                            @for (grade, words) in findings(file, study) {
                                li class=(grade.class()) { (words) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn table(study: &Study) -> Markup {
    let judged = study.judge.is_some();
    let float = study.float.judged.as_ref();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Summary table" {
            table.numbers {
                thead {
                    tr {
                        td rowspan="2" {}
                        th scope="colgroup" colspan="2" { "needs, bytes" }
                        th scope="colgroup" colspan="3" { "PSNR against float, dB" }
                        @if judged {
                            th scope="colgroup" colspan="2" { "class share, %" }
                            th scope="colgroup" colspan="2" { "Fréchet distance" }
                        }
                    }
                    tr {
                        th scope="col" { "file" }
                        th scope="col" { "arena" }
                        th scope="col" { "mean" }
                        th scope="col" { "5th percentile" }
                        th scope="col" { "worst" }
                        @if judged {
                            th scope="col" { "share" }
                            th scope="col" { "against float" }
                            th scope="col" { "distance" }
                            th scope="col" { "against float" }
                        }
                    }
                }
                tbody {
                    tr.s0 {
                        th scope="row" { span.key aria-hidden="true" {} "float" }
                        @for _ in 0..5 { td.none { "–" } }
                        @if judged {
                            td { (percent(float.and_then(|judged| judged.class_share))) }
                            td.none { "–" }
                            td { (number(float.and_then(|judged| judged.frechet).map(|d| (d.value, d.standard_error)))) }
                            td.none { "–" }
                        }
                    }
                    @for other in &study.float.other_seeds {
                        tr.s0 {
                            th scope="row" { span.key aria-hidden="true" {} "float, other seeds" }
                            @for _ in 0..5 { td.none { "–" } }
                            td { (percent(other.class_share)) }
                            td.none { "–" }
                            td { (number(other.frechet.map(|d| (d.value, d.standard_error)))) }
                            td.none { "–" }
                        }
                    }
                    @for (index, file) in study.files.iter().enumerate() { (row(index, file, judged)) }
                }
            }
        }
    }
}

fn row(index: usize, file: &FileStudy, judged: bool) -> Markup {
    let psnr = file.comparison.psnr_db;
    let of_judge = file.judged.as_ref();
    html! {
        tr class=(colour(1 + index)) {
            th scope="row" { span.key aria-hidden="true" {} (file.file) }
            td title=(short_bytes(file.file_bytes)) { (count(file.file_bytes as u64)) }
            td title=(short_bytes(file.arena_bytes)) { (count(file.arena_bytes as u64)) }
            td { strong { (format!("{:.1}", psnr.mean)) } }
            td { (format!("{:.1}", psnr.percentile_5)) }
            td { (format!("{:.1}", psnr.min)) }
            @if judged {
                td { strong { (percent(of_judge.and_then(|judged| judged.class_share))) } }
                td { (number(file.class_share_difference.map(|d| (d.points, d.standard_error_points))).signed(2)) }
                td { strong { (number(of_judge.and_then(|judged| judged.frechet).map(|d| (d.value, d.standard_error)))) } }
                td {
                    (number(file.frechet_difference.map(|found| {
                        // The error of pairs, in per cent of float's distance as well.
                        let scale = found.percent / found.difference.value;
                        (found.percent, (scale * found.difference.standard_error).abs())
                    })).signed(1))
                    @if file.frechet_difference.is_some() { " %" }
                }
            }
        }
    }
}

/// A number with its error, or a dash.
struct Number {
    value: Option<(f64, f64)>,
    decimals: usize,
    is_signed: bool,
}

fn number(value: Option<(f64, f64)>) -> Number {
    Number { value, decimals: 3, is_signed: false }
}

impl Number {
    fn signed(self, decimals: usize) -> Self {
        Self { decimals, is_signed: true, ..self }
    }
}

impl maud::Render for Number {
    fn render(&self) -> Markup {
        let decimals = self.decimals;
        let Some((value, error)) = self.value else { return html! { "–" } };
        html! {
            @if self.is_signed { (format!("{value:+.decimals$}")) } @else { (format!("{value:.decimals$}")) }
            span.error { " ± " (format!("{error:.decimals$}")) }
        }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.2}", 100.0 * share))
}

/// What the numbers of a file mean.
fn findings(file: &FileStudy, study: &Study) -> Vec<(Grade, String)> {
    let mut findings = vec![pictures(file)];
    findings.extend(share(file));
    if let (Some(found), Some(spread)) = (file.frechet_difference, study.float.frechet_seed_spread) {
        let float = study.float.judged.as_ref().and_then(|judged| judged.frechet).map_or(1.0, |d| d.value);
        let seeds = 100.0 * spread / float;
        let words =
            format!("{:+.1} % in Fréchet distance, where other seeds alone change ±{seeds:.1} %", found.percent);
        findings.push(match (found.inside_seed_spread, found.difference.value > 0.0) {
            (true, _) => (Grade::Good, format!("As a set, as near to real pictures as float's: {words}.")),
            (false, false) => (Grade::Good, format!("As a set, nearer to real pictures than float's: {words}.")),
            (false, true) if found.percent <= 10.0 => {
                (Grade::Fair, format!("As a set, a little farther from real pictures than float's: {words}."))
            }
            (false, true) => (Grade::Poor, format!("As a set, farther from real pictures than float's: {words}.")),
        });
    }
    findings
}

/// In words that the eye can check in the section below.
fn pictures(file: &FileStudy) -> (Grade, String) {
    let psnr = file.comparison.psnr_db;
    let (grade, words) = match psnr.mean {
        40.0.. => (Grade::Good, "The same pictures to the eye"),
        30.0..40.0 => (Grade::Good, "The same pictures; differences show side by side"),
        20.0..30.0 => (Grade::Fair, "The same motifs with visible differences"),
        _ => (Grade::Poor, "Other pictures than float's"),
    };
    (grade, format!("{words}: {:.1} dB on average, nineteen of twenty above {:.1}.", psnr.mean, psnr.percentile_5))
}

fn share(file: &FileStudy) -> Option<(Grade, String)> {
    let found = file.class_share_difference?;
    let pairs = format!("of the pairs {} lost, {} won", count(found.lost as u64), count(found.won as u64));
    Some(match (found.points.abs() <= 2.0 * found.standard_error_points, found.points < 0.0) {
        (true, _) => (
            Grade::Good,
            format!(
                "The judge reads what was asked for as often as with float: {:+.2} ± {:.2} points ({pairs}).",
                found.points, found.standard_error_points
            ),
        ),
        (false, true) => (
            if found.points > -1.5 { Grade::Fair } else { Grade::Poor },
            format!(
                "The judge reads what was asked for less often: {:+.2} ± {:.2} points ({pairs}).",
                found.points, found.standard_error_points
            ),
        ),
        (false, false) => (
            Grade::Good,
            format!(
                "The judge reads what was asked for more often: {:+.2} ± {:.2} points ({pairs}).",
                found.points, found.standard_error_points
            ),
        ),
    })
}
