//! A bar for each layer, in the order of the graph, and the list of the worst.

use maud::{Markup, html};

use super::chart::round;
use super::{colour, heading};
use crate::compare::{FileStudy, LayerQuality, Study};
use crate::report::table;

/// Layers of the short list.
const WORST: usize = 10;
/// Height of a chart in user units.
const H: f64 = 120.0;
/// The longest bar, the same for all files; 16-bit layers may be better still.
const LONGEST_DB: f64 = 50.0;

/// The section; nothing where no layer was looked at.
pub fn section(study: &Study) -> Markup {
    let looked = study.files.first().map_or(0, |file| file.comparison.layered);
    if looked == 0 {
        return html! {};
    }
    html! {
        section {
            (heading("layers", "Layer by layer", html! {
                "SQNR of each layer's output over all steps, against the float network on the same x_t (" (looked) " pictures): what a layer \
                 hands on, its inputs' errors included. A bar's mark is its worst step; bars end at " (LONGEST_DB) " dB."
            }))
            @for (index, file) in study.files.iter().enumerate() { (of_file(file, index)) }
        }
    }
}

fn of_file(file: &FileStudy, index: usize) -> Markup {
    let layers = &file.comparison.layers;
    let mut order: Vec<&LayerQuality> = layers.iter().collect();
    order.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    let worst = order.first().map_or(String::new(), |layer| format!("{}, {:.1} dB", layer.name, layer.sqnr_db));
    html! {
        article class=(colour(1 + index)) {
            h3 { span.key aria-hidden="true" {} (file.file) }
            div.scroll tabindex="0" role="region" aria-label={ "Layers of " (file.file) } {
                (bars(layers, &worst))
            }
            (list(&order[..order.len().min(WORST)], "The worst"))
            details {
                summary { "All " (layers.len()) " in the order of the graph" }
                (list(&layers.iter().collect::<Vec<_>>(), "All"))
            }
        }
    }
}

fn bars(layers: &[LayerQuality], worst: &str) -> Markup {
    let pitch = (1060.0 / layers.len().max(1) as f64).clamp(8.0, 40.0);
    let width = pitch * layers.len() as f64 + 30.0;
    let height = |db: f64| round((db / LONGEST_DB).clamp(0.0, 1.0) * (H - 20.0));
    html! {
        svg.bars viewBox={ "0 0 " (round(width)) " " (H) } style={ "min-width:" (round(width * 0.62)) "px" } role="img"
            aria-label={ "SQNR of " (layers.len()) " layers in the order of the graph; the worst is " (worst) } {
            @for db in (0..).map(|i| 10.0 * f64::from(i)).take_while(|db| *db <= LONGEST_DB) {
                line.grid x1="28" x2=(round(width)) y1=(H - 10.0 - height(db)) y2=(H - 10.0 - height(db)) {}
                text.tick x="24" y=(H - 6.5 - height(db)) text-anchor="end" { (db) }
            }
            @for (index, layer) in layers.iter().enumerate() {
                @let x = 30.0 + pitch * index as f64;
                rect.bar x=(round(x)) width=(round(pitch - 2.0)) y=(round(H - 10.0 - height(layer.sqnr_db)))
                    height=(height(layer.sqnr_db)) {
                    title { (layer.name) ": " (format!("{:.1} dB, worst step {:.1}", layer.sqnr_db, layer.worst_sqnr_db)) }
                }
                line.mark x1=(round(x)) x2=(round(x + pitch - 2.0)) y1=(round(H - 10.0 - height(layer.worst_sqnr_db)))
                    y2=(round(H - 10.0 - height(layer.worst_sqnr_db))) {}
            }
        }
    }
}

fn list(layers: &[&LayerQuality], caption: &str) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label={ (caption) " layers" } {
            table.numbers.layers {
                thead {
                    tr {
                        th scope="col" { (caption) }
                        th scope="col" { "output" }
                        th scope="col" { "type" }
                        th scope="col" { "weights" }
                        th scope="col" { "SQNR, dB" }
                        th scope="col" { span.unseen { "SQNR as a bar" } }
                        th scope="col" { "worst step" }
                        th scope="col" { "at call" }
                    }
                }
                tbody {
                    @for layer in layers {
                        tr {
                            th scope="row" { (layer.name) }
                            td { (table::shape(layer.shape).replace('x', "×")) }
                            td { (layer.dtype) }
                            td { (layer.weights.join(", ")) }
                            td { (format!("{:.1}", layer.sqnr_db)) }
                            td.meter { span style={ "width:" (format!("{:.0}", 100.0 * (layer.sqnr_db / LONGEST_DB).clamp(0.0, 1.0))) "%" } {} }
                            td { (format!("{:.1}", layer.worst_sqnr_db)) }
                            td { (1 + layer.worst_row) }
                        }
                    }
                }
            }
        }
    }
}
