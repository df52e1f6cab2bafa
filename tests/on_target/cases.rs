//! What every machine draws to be compared: the one list that the host and the firmware share.
//!
//! Included by path into `mote-tests` (which says what the bytes are) and into the firmware (which has to draw the
//! same). So it is `no_std`, and the seeds stand here only.

use mote_runtime::Request;

/// The seeds of the pictures, of each model.
pub const SEEDS: [u64; 3] = [7, 0xdead_beef_0bad_cafe, 2026];

/// A class embedding for models that take one of four elements.
const EMBEDDING: [f32; 4] = [0.5, -1.25, 2.0, 0.125];

/// A digit.
pub fn digits(seed: u64) -> Request<'static> {
    Request { seed, class: Some((seed % 10) as u16), poll_budget: 250_000, ..Default::default() }
}

/// A picture of the model with every operator: guided, so both branches run, and in many polls.
pub fn small(seed: u64) -> Request<'static> {
    Request {
        seed,
        class: Some((seed % 2) as u16),
        guidance: 2.5,
        class_embedding: Some(&EMBEDDING),
        poll_budget: 1000,
        ..Default::default()
    }
}
