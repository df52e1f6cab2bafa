//! Bytes of a safetensors tensor to f32, and its header's errors to words.

use std::path::Path;

use half::{bf16, f16};
use miette::{Report, miette};
use safetensors::SafeTensorError;
use safetensors::tensor::Dtype;

/// Little-endian floats of any width to f32; `None` where `dtype` is no float that is used for weights.
/// f64 rounds to nearest; one beyond f32's range becomes infinite, which the caller refuses.
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
    }
    Some(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        _ => return None,
    })
}

/// The error for a file that is no whole safetensors file.
pub fn invalid_file(path: &Path, len_bytes: usize, error: &SafeTensorError) -> Report {
    let at = path.display();
    match error {
        SafeTensorError::MetadataIncompleteBuffer
        | SafeTensorError::InvalidHeaderLength
        | SafeTensorError::HeaderTooSmall => {
            miette!(
                help = "the download or the copy stopped early; fetch the file again",
                "{at}: the file is truncated or not safetensors: {len_bytes} bytes do not match its header ({error})"
            )
        }
        _ => miette!(
            help = "a checkpoint is a .safetensors file, a model folder or a config.json; save a PyTorch `.bin` or `.pt` with `save_pretrained(folder, safe_serialization=True)`",
            "{at}: neither a .mote nor a valid safetensors file: {error}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_float_types_come_out_as_f32() {
        let value = 1.5f32;
        assert_eq!(to_f32(Dtype::F32, &value.to_le_bytes()), Some(vec![value]));
        assert_eq!(to_f32(Dtype::F64, &f64::from(value).to_le_bytes()), Some(vec![value]));
        assert_eq!(to_f32(Dtype::F16, &f16::from_f32(value).to_le_bytes()), Some(vec![value]));
        assert_eq!(to_f32(Dtype::BF16, &bf16::from_f32(value).to_le_bytes()), Some(vec![value]));
        assert_eq!(to_f32(Dtype::I8, &[1]), None);
    }
}
