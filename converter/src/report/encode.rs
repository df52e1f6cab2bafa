//! Canvases as PNG and GIF files, in memory; who writes them does so by rename.

use gif::{Encoder, Frame, Repeat};
use miette::{Result, miette};
use png::{BitDepth, ColorType};

use super::canvas::Canvas;

/// Hundredths of a second that a frame of an animation stands.
const FRAME_CS: u16 = 10;
/// The last frame stands longer, so that the picture can be looked at.
const LAST_FRAME_CS: u16 = 250;

/// A PNG file: 8-bit RGB.
pub fn png(canvas: &Canvas) -> Result<Vec<u8>> {
    let failed = |error: png::EncodingError| miette!(help = "report this", "the PNG cannot be encoded: {error}");
    let (Ok(w), Ok(h)) = (u32::try_from(canvas.w), u32::try_from(canvas.h)) else {
        return Err(miette!(
            help = "draw fewer samples, or use a smaller `--scale`",
            "the picture is too large for PNG"
        ));
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w, h);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(canvas.pixels.as_flattened()).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// An animated GIF that repeats, for canvases of one size. Gray pictures keep all their 256 shades.
pub fn gif(canvases: &[Canvas]) -> Result<Vec<u8>> {
    let failed = |error: gif::EncodingError| miette!(help = "report this", "the GIF cannot be encoded: {error}");
    let side = |len: usize| {
        u16::try_from(len).map_err(|_| {
            miette!(
                help = "draw fewer samples, or use a smaller `--scale`",
                "{len} pixels are too many for a side of a GIF"
            )
        })
    };
    let (w, h) =
        canvases.first().map_or(Ok((1, 1)), |canvas| Ok::<_, miette::Report>((side(canvas.w)?, side(canvas.h)?)))?;
    let is_gray = canvases.iter().all(Canvas::is_gray);
    // Coloured frames bring palettes of their own, so the common one is for gray pictures.
    let shades: Vec<u8> = if is_gray { (0..=255).flat_map(|x| [x; 3]).collect() } else { Vec::new() };
    let mut encoder = Encoder::new(Vec::new(), w, h, &shades).map_err(failed)?;
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    for (i, canvas) in canvases.iter().enumerate() {
        let mut frame = if is_gray {
            Frame::from_indexed_pixels(w, h, canvas.pixels.iter().map(|pixel| pixel[1]).collect::<Vec<u8>>(), None)
        } else {
            // 10 is the crate's own middle between speed and quality.
            Frame::from_rgb_speed(w, h, canvas.pixels.as_flattened(), 10)
        };
        frame.delay = if i + 1 == canvases.len() { LAST_FRAME_CS } else { FRAME_CS };
        encoder.write_frame(&frame).map_err(failed)?;
    }
    encoder.into_inner().map_err(|error| miette!(help = "report this", "the GIF cannot be encoded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(pixel: [u8; 3]) -> Canvas {
        Canvas { w: 3, h: 2, pixels: vec![pixel; 6] }
    }

    #[test]
    fn a_png_decodes_to_the_canvas() {
        let bytes = png(&canvas([1, 2, 3])).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!(pixels, canvas([1, 2, 3]).pixels.as_flattened());
    }

    #[test]
    fn a_gif_decodes_to_its_frames() {
        for (pixels, near) in [([[7; 3], [250; 3]], 0), ([[200, 10, 30], [0, 90, 255]], 8)] {
            let bytes = gif(&pixels.map(canvas)).unwrap();
            let mut options = gif::DecodeOptions::new();
            options.set_color_output(gif::ColorOutput::RGBA);
            let mut decoder = options.read_info(&bytes[..]).unwrap();
            for (pixel, delay) in pixels.iter().zip([FRAME_CS, LAST_FRAME_CS]) {
                let frame = decoder.read_next_frame().unwrap().unwrap();
                assert_eq!(frame.delay, delay);
                for (have, need) in frame.buffer[..3].iter().zip(pixel) {
                    assert!(have.abs_diff(*need) <= near, "{:?}", frame.buffer);
                }
            }
            assert!(decoder.read_next_frame().unwrap().is_none());
        }
    }
}
