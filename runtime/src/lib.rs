#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]
//! Diffusion models on microcontrollers.

pub mod error;
pub mod format;
pub mod quant;
pub use error::Error;
pub struct Model;
impl Model { pub fn from_bytes() {} }
