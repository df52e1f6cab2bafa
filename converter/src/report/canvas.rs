//! Samples as pixels: one picture or a grid of them, enlarged so that a person can see it.
//!
//! Bytes come from the runtime's own conversion, so a pixel here is the byte that a display on the board gets. Pictures
//! with other than one or three channels are shown as a gray panel a channel, side by side.
//!
//! Voids the promise: nothing.

use miette::{Result, miette};
use mote_runtime::Image;

/// Enlarged pictures are at least this wide, in pixels.
const READABLE_W: usize = 256;
/// The automatic enlargement stops here.
const MAX_AUTO_SCALE: usize = 16;
/// Pixels of the largest picture that is made.
const MAX_PIXELS: usize = 1 << 28;
/// Between pictures of a grid.
const BORDER: [u8; 3] = [72, 76, 84];

/// Pixels, row by row, red first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// Width.
    pub w: usize,
    /// Height.
    pub h: usize,
    /// `w·h` of them.
    pub pixels: Vec<[u8; 3]>,
}

/// How pictures are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Pictures in a row.
    pub columns: usize,
    /// Each pixel becomes `scale`×`scale`.
    pub scale: usize,
    /// Pixels between pictures, before enlarging.
    pub gap: usize,
}

impl Grid {
    /// A nearly square grid for `count` pictures (or rows of `columns`), large enough to see unless `scale` says how.
    pub fn new(count: usize, columns: Option<usize>, scale: Option<usize>, [_, w, c]: [usize; 3]) -> Self {
        let columns = columns.unwrap_or((count as f64).sqrt().ceil() as usize).clamp(1, count.max(1));
        let gap = usize::from(count > 1);
        let grid_w = (columns * (w * panels(c) + gap)).max(1);
        let scale = scale.unwrap_or(READABLE_W.div_ceil(grid_w).min(MAX_AUTO_SCALE)).max(1);
        Self { columns, scale, gap }
    }

    /// Draws the samples (HWC) in order, row by row.
    pub fn draw(&self, samples: &[&[f32]], [h, w, c]: [usize; 3]) -> Result<Canvas> {
        let (tile_w, gap) = (w * panels(c), self.gap);
        let rows = samples.len().div_ceil(self.columns);
        let side = |tiles: usize, tile: usize| (tiles * (tile + gap) + gap).saturating_mul(self.scale);
        let (canvas_w, canvas_h) = (side(self.columns, tile_w), side(rows, h));
        if canvas_w.saturating_mul(canvas_h) > MAX_PIXELS {
            return Err(miette!(
                help = "draw fewer samples, or use a smaller `--scale`",
                "a picture of {canvas_w}x{canvas_h} pixels is too large"
            ));
        }
        let mut canvas = Canvas { w: canvas_w, h: canvas_h, pixels: vec![BORDER; canvas_w * canvas_h] };
        for (i, sample) in samples.iter().enumerate() {
            let (left, top) = (gap + (i % self.columns) * (tile_w + gap), gap + (i / self.columns) * (h + gap));
            let tile = pixels(sample, [h, w, c])?;
            for (y, row) in tile.chunks_exact(tile_w.max(1)).enumerate() {
                canvas.enlarge_row(row, left, top + y, self.scale);
            }
        }
        Ok(canvas)
    }
}

impl Canvas {
    /// Writes a row of small pixels at small coordinates.
    fn enlarge_row(&mut self, row: &[[u8; 3]], left: usize, y: usize, scale: usize) {
        let start = y * scale * self.w + left * scale;
        let len = row.len() * scale;
        for (i, pixel) in row.iter().enumerate() {
            self.pixels[start + i * scale..start + (i + 1) * scale].fill(*pixel);
        }
        for copy in 1..scale {
            self.pixels.copy_within(start..start + len, start + copy * self.w);
        }
    }

    /// Whether no pixel has a colour (the grid's border is nearly gray and counts as such).
    pub fn is_gray(&self) -> bool {
        self.pixels.iter().all(|pixel| *pixel == BORDER || pixel.iter().all(|x| *x == pixel[0]))
    }
}

/// Gray panels of a picture that is neither gray nor coloured.
fn panels(c: usize) -> usize {
    if c == 1 || c == 3 { 1 } else { c }
}

/// The pixels of one sample, `h` rows of `w·panels`.
fn pixels(sample: &[f32], [h, w, c]: [usize; 3]) -> Result<Vec<[u8; 3]>> {
    let side_by_side: Vec<f32>;
    let (elems, shape) = if panels(c) == 1 {
        (sample, [h, w, c])
    } else {
        let at = |i: usize| ((i / (w * c)) * w + i % w) * c + (i / w) % c;
        side_by_side = (0..sample.len()).map(|i| sample[at(i)]).collect();
        (&side_by_side[..], [h, w * c, 1])
    };
    let mut bytes = vec![0; 3 * shape[0] * shape[1]];
    let image = Image::new(elems, shape).and_then(|image| image.write_rgb888(&mut bytes));
    image.map_err(|error| miette!(help = "report this", "a sample cannot be shown: {error}"))?;
    Ok(bytes.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_borders_and_enlarged_pictures() {
        let (black, white) = (vec![-1.0; 4], vec![1.0; 4]);
        let grid = Grid { columns: 2, scale: 3, gap: 1 };
        let canvas = grid.draw(&[&black, &white, &white], [2, 2, 1]).unwrap();
        assert_eq!((canvas.w, canvas.h), (21, 21));
        let at = |x: usize, y: usize| canvas.pixels[y * 21 + x];
        assert_eq!(
            [at(0, 0), at(3, 3), at(8, 8), at(9, 3), at(12, 3), at(17, 8)],
            [BORDER, [0; 3], [0; 3], BORDER, [255; 3], [255; 3]]
        );
        assert_eq!([at(3, 12), at(12, 12)], [[255; 3], BORDER], "a missing picture is border");
        assert!(canvas.is_gray());
    }

    #[test]
    fn single_pictures_are_made_visible() {
        assert_eq!(Grid::new(1, None, None, [28, 28, 1]), Grid { columns: 1, scale: 10, gap: 0 });
        assert_eq!(Grid::new(10, None, None, [28, 28, 1]), Grid { columns: 4, scale: 3, gap: 1 });
        assert_eq!(Grid::new(9, Some(3), Some(2), [512, 512, 3]), Grid { columns: 3, scale: 2, gap: 1 });
        assert!(Grid { columns: 1, scale: 1 << 40, gap: 0 }.draw(&[&[0.0]], [1, 1, 1]).is_err());
    }

    #[test]
    fn channels_that_are_no_colours_are_panels() {
        let sample = [-1.0, 1.0, -1.0, 1.0]; // two pixels, two channels
        let canvas = Grid::new(1, None, Some(1), [1, 2, 2]).draw(&[&sample], [1, 2, 2]).unwrap();
        assert_eq!(canvas.pixels, [[0; 3], [0; 3], [255; 3], [255; 3]]);
    }
}
