//! Decodes the defmt frames on stdin with the strings of a firmware file: `decode FIRMWARE.elf < frames`.
//!
//! One line a frame: timestamp, level, message. Bytes that are no frame end the program with an error.

use defmt_decoder::{DecodeError, Table};
use std::error::Error;
use std::io::Read;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: decode FIRMWARE.elf < frames")?;
    let table = Table::parse(&std::fs::read(&path)?)?.ok_or("the firmware has no defmt strings")?;
    let mut frames = Vec::new();
    std::io::stdin().read_to_end(&mut frames)?;
    let mut decoder = table.new_stream_decoder();
    decoder.received(&frames);
    loop {
        match decoder.decode() {
            Ok(frame) => {
                let time = frame.display_timestamp().map_or(String::new(), |time| format!("{time} "));
                let level = frame.level().map_or("", |level| level.as_str());
                println!("{time}{level} {}", frame.display_message());
            }
            Err(DecodeError::UnexpectedEof) => return Ok(()),
            Err(DecodeError::Malformed) => return Err("bytes that are no defmt frame".into()),
        }
    }
}
