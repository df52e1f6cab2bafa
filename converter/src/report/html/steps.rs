//! Curves over the steps: where does the error come in, and what becomes of it?

use maud::{Markup, html};

use super::chart::{Axes, Series, chart, legend};
use super::heading;
use crate::compare::{RowQuality, Study};

/// The section.
pub fn section(study: &Study) -> Markup {
    let labels = study.files.first().map_or(Vec::new(), |file| {
        file.comparison.rows.iter().map(|row| format!("{}", row.timestep)).collect::<Vec<_>>()
    });
    let series = |value: &dyn Fn(&RowQuality) -> Option<f64>| -> Vec<Series> {
        let of_file = |(index, file): (usize, &crate::compare::FileStudy)| Series {
            name: file.file.clone(),
            set: 1 + index,
            points: file
                .comparison
                .rows
                .iter()
                .enumerate()
                .filter_map(|(x, row)| Some((x as f64, value(row)?)))
                .collect(),
        };
        study.files.iter().enumerate().map(of_file).collect()
    };
    let axes = |title| Axes {
        title,
        x: "timestep, noise to picture →",
        x_labels: labels.clone(),
        is_stepped: false,
        is_log: false,
        y_from: None,
    };
    let keys: Vec<_> = study.files.iter().enumerate().map(|(index, file)| (1 + index, &file.file[..])).collect();
    html! {
        section {
            (heading("steps", "Step by step", html! {
                "The first two let both samplers run freely, so errors add up. The third gives the float network the quantized \
                 sampler's state, so each step stands for itself."
            }))
            @if keys.len() > 1 { (legend(&keys)) }
            div.charts {
                (chart(&axes("State x_t, SQNR in dB"), &series(&|row| Some(row.state_sqnr_db))))
                (chart(&axes("Preview of the picture, PSNR in dB"), &series(&|row| Some(row.preview_psnr_db))))
                (chart(&axes("Network's output, SQNR in dB"), &series(&|row| row.model_sqnr_db)))
            }
        }
    }
}
