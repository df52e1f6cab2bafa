//! A 32×32 frame of gray8: the picture, and around it a ring that fills as the steps go by.
//!
//! The ring's points come from `micromath`, whose sine is good to about 0.002: on a radius of 15 pixels that is 0.03
//! pixels. [`ring_errors`] counts the points that an exact sine would have put into another pixel.

use cortex_m_semihosting::hprint;
use micromath::F32Ext;

const SIDE: usize = 32;
const PICTURE: usize = 28;
/// Points of the full ring.
const POINTS: u16 = 96;

/// The frame, as a display driver would take it.
pub struct Frame {
    pixels: [u8; SIDE * SIDE],
    picture: [u8; PICTURE * PICTURE],
}

impl Frame {
    /// All black.
    pub const fn new() -> Self {
        Self { pixels: [0; SIDE * SIDE], picture: [0; PICTURE * PICTURE] }
    }

    /// Lights the ring up to `step` of `steps`.
    pub fn ring(&mut self, step: u16, steps: u16) {
        for point in 0..POINTS * step / steps.max(1) {
            if let Some(pixel) = self.pixels.get_mut(position(point, F32Ext::sin, F32Ext::cos)) {
                *pixel = 255;
            }
        }
    }

    /// Where the picture goes.
    pub fn picture(&mut self) -> &mut [u8] {
        &mut self.picture
    }

    /// Shows the picture inside the ring, as characters.
    pub fn show(&self) {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let inside = y.checked_sub(2).zip(x.checked_sub(2)).filter(|&(y, x)| y < PICTURE && x < PICTURE);
                let picture = inside.and_then(|(y, x)| self.picture.get(y * PICTURE + x)).copied().unwrap_or(0);
                let ring = self.pixels.get(y * SIDE + x).copied().unwrap_or(0);
                let shade = picture.max(ring) as usize * 5 / 256;
                hprint!("{}", [' ', '.', 'o', 'O', '@'].get(shade).unwrap_or(&'?'));
            }
            hprint!("\n");
        }
    }
}

/// The pixel of a point of the ring, clockwise from the top.
fn position(point: u16, sin: fn(f32) -> f32, cos: fn(f32) -> f32) -> usize {
    let angle = point as f32 * (core::f32::consts::TAU / POINTS as f32);
    let x = 16.0 + 15.4 * sin(angle);
    let y = 16.0 - 15.4 * cos(angle);
    (y as usize).min(SIDE - 1) * SIDE + (x as usize).min(SIDE - 1)
}

/// Points of the ring for which `micromath` and an exact sine name different pixels.
pub fn ring_errors() -> usize {
    (0..POINTS).filter(|&point| position(point, F32Ext::sin, F32Ext::cos) != position(point, libm::sinf, libm::cosf)).count()
}
