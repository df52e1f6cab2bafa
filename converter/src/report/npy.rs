//! NumPy's `.npy` files: noise and class vectors in, samples out, NCHW f32.
//!
//! Other element types are refused rather than converted, because a start sample that was rounded on the way in is not
//! the one that was compared with; Fortran order is read as what it means.
//!
//! Voids the promise: nothing.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

use miette::{Result, miette};
use ndarray::{Array4, ArrayD};
use ndarray_npy::{ReadNpyError, ReadNpyExt, WriteNpyExt};

use super::layout::{chw_from_hwc, hwc_from_chw};
use crate::emit::emit;

/// Reads a vector of `need` elements.
pub fn read_vector(path: &Path, need: usize) -> Result<Vec<f32>> {
    let array = read(path)?;
    if array.len() != need || array.shape().iter().filter(|&&n| n != 1).count() > 1 {
        return Err(miette!(
            help = "the vector is added to the time embedding as it is, so it has that many elements",
            "{}: an array of shape {:?}, need [{need}]",
            path.display(),
            array.shape()
        ));
    }
    finite(path, array.iter().copied().collect())
}

/// Reads samples, `[n, c, h, w]` or `[c, h, w]`, as HWC.
pub fn read_samples(path: &Path, [h, w, c]: [usize; 3]) -> Result<Vec<Vec<f32>>> {
    let array = read(path)?;
    let samples = match array.shape() {
        &[n, a, b, d] if n > 0 && [a, b, d] == [c, h, w] => n,
        &[a, b, d] if [a, b, d] == [c, h, w] => 1,
        other => {
            let is_hwc = c != h && other.ends_with(&[h, w, c]);
            return Err(miette!(
                help = if is_hwc {
                    "channels come first, as in PyTorch: `x.transpose(0, 3, 1, 2)`"
                } else {
                    "the first axis is the number of samples; save with `numpy.save(path, x_T.astype(numpy.float32))`"
                },
                "{}: an array of shape {other:?}, need [n, {c}, {h}, {w}] or [{c}, {h}, {w}]",
                path.display()
            ));
        }
    };
    let elems = finite(path, array.iter().copied().collect())?;
    Ok(elems.chunks_exact(elems.len() / samples).map(|sample| hwc_from_chw(sample, [h, w, c])).collect())
}

/// Writes HWC samples as `[n, c, h, w]`, by rename.
pub fn write_samples(path: &Path, samples: &[Vec<f32>], [h, w, c]: [usize; 3]) -> Result<()> {
    let elems: Vec<f32> = samples.iter().flat_map(|sample| chw_from_hwc(sample, [h, w, c])).collect();
    let mut bytes = Cursor::new(Vec::new());
    let unwritable = |error: String| miette!(help = "report this", "{}: cannot be encoded: {error}", path.display());
    Array4::from_shape_vec([samples.len(), c, h, w], elems)
        .map_err(|error| unwritable(error.to_string()))?
        .write_npy(&mut bytes)
        .map_err(|error| unwritable(error.to_string()))?;
    emit(path, &bytes.into_inner())
}

fn read(path: &Path) -> Result<ArrayD<f32>> {
    let at = path.display();
    let file = File::open(path)
        .map_err(|error| miette!(help = "check that the file exists and may be read", "{at}: {error}"))?;
    ArrayD::<f32>::read_npy(BufReader::new(file)).map_err(|error| match error {
        ReadNpyError::WrongDescriptor(have) => miette!(
            help = "save 32-bit floats: `numpy.save(path, x.astype(numpy.float32))`",
            "{at}: elements of type {have}, need '<f4'"
        ),
        ReadNpyError::MissingData => {
            miette!(help = "save or copy it again", "{at}: the file is cut short: fewer elements than its header says")
        }
        ReadNpyError::ExtraBytes(extra) => {
            miette!(
                help = "save or copy it again",
                "{at}: {extra} bytes follow the last element that the header announces"
            )
        }
        ReadNpyError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            miette!(
                help = "only `.npy` is read, as `numpy.save` writes it",
                "{at}: not an .npy file: it ends within the header"
            )
        }
        ReadNpyError::ParseHeader(error) => miette!(
            help = "only `.npy` is read, as `numpy.save` writes it; a `.npz` holds several",
            "{at}: not an .npy file: {error}"
        ),
        error => miette!(help = "save it again with `numpy.save`", "{at}: cannot be read: {error}"),
    })
}

fn finite(path: &Path, elems: Vec<f32>) -> Result<Vec<f32>> {
    match elems.iter().position(|x| !x.is_finite()) {
        None => Ok(elems),
        Some(index) => Err(miette!(
            help = "every value has to be a finite number",
            "{}: element {index} is {}",
            path.display(),
            elems[index]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, ShapeBuilder};

    fn message(result: Result<impl std::fmt::Debug>) -> String {
        let error = result.unwrap_err();
        format!("{error} {}", error.help().map_or(String::new(), |help| help.to_string()))
    }

    #[test]
    fn samples_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let samples = vec![(0..12).map(|i| i as f32).collect::<Vec<_>>(), vec![1.0; 12]];
        write_samples(&path, &samples, [3, 2, 2]).unwrap();
        assert_eq!(read_samples(&path, [3, 2, 2]).unwrap(), samples);
        let wrong = message(read_samples(&path, [2, 3, 2]));
        assert!(wrong.contains("[2, 2, 3, 2], need [n, 2, 2, 3]"), "{wrong}");
        assert!(message(read_vector(&path, 24)).contains("need [24]"));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(message(read_samples(&path, [3, 2, 2])).contains("cut short"));
        std::fs::write(&path, "hello").unwrap();
        assert!(message(read_samples(&path, [3, 2, 2])).contains("not an .npy file"));
    }

    #[test]
    fn other_types_and_orders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        ndarray_npy::write_npy(&path, &Array::<f64, _>::zeros((1, 2, 2))).unwrap();
        let wrong = message(read_samples(&path, [2, 2, 1]));
        assert!(wrong.contains("<f8") && wrong.contains("astype(numpy.float32)"), "{wrong}");
        ndarray_npy::write_npy(&path, &Array::<f32, _>::zeros((1, 4, 3, 2))).unwrap();
        assert!(message(read_samples(&path, [4, 3, 2])).contains("channels come first"));
        // Fortran order: the same logical array.
        let fortran = Array::from_shape_fn((1, 2, 3).f(), |(_, y, x)| (y * 3 + x) as f32);
        ndarray_npy::write_npy(&path, &fortran).unwrap();
        assert_eq!(read_samples(&path, [2, 3, 1]).unwrap(), [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]);
        ndarray_npy::write_npy(&path, &Array::<f32, _>::from_elem((1, 1, 2), f32::NAN)).unwrap();
        assert!(message(read_samples(&path, [1, 2, 1])).contains("element 0 is NaN"));
    }
}
