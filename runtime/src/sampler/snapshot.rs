//! Snapshots: a picture under way as bytes, to survive a reset or a power cut.
//!
//! 48 bytes (magic, where the picture is, the request, the model's checksum, the body's length), the carried tensors,
//! and a CRC-32 over all of it. A snapshot in mid-step is the last step's end: the step is redone.

use super::{Run, Sampler};
use crate::error::Error;
use crate::format::checksum::crc32;
use crate::format::cursor::{Encoded, f32_at, u16_at, u32_at};
use crate::opset::OpSet;
use crate::step::Position;

const MAGIC: [u8; 4] = *b"MSNP";
const HEADER_BYTES: usize = 48;
const CRC_BYTES: usize = 4;

impl<const OPS: OpSet> Sampler<'_, OPS> {
    /// Bytes of a snapshot of this model.
    pub fn snapshot_len(&self) -> usize {
        HEADER_BYTES + self.carried().map(|tensor| tensor.len_bytes()).sum::<usize>() + CRC_BYTES
    }

    /// Writes a snapshot and returns its length.
    ///
    /// # Errors
    /// [`Error::NotStarted`]; [`Error::Length`] if `out` is shorter than [`Sampler::snapshot_len`].
    pub fn snapshot(&self, out: &mut [u8]) -> Result<usize, Error> {
        let run = self.run.ok_or(Error::NotStarted)?;
        let need = self.snapshot_len();
        let have = out.len();
        let Some(out) = out.get_mut(..need) else { return Err(Error::Length { have: have as u32, need: need as u32 }) };
        let header: Encoded<HEADER_BYTES> = Encoded::new()
            .put(0, MAGIC)
            .u16(4, run.schedule)
            .u16(6, run.row)
            .u16(8, run.step)
            .u16(10, run.class)
            .u32(12, run.guidance.to_bits())
            .put(16, run.seed.to_le_bytes())
            .u32(24, run.poll_budget)
            .u32(28, self.model.header().meta_crc)
            .u32(32, need as u32);
        let (body, crc) = out.split_at_mut_checked(need - CRC_BYTES).unwrap_or_default();
        let (to, mut rest) = body.split_at_mut_checked(HEADER_BYTES).unwrap_or_default();
        to.copy_from_slice(&header.0);
        for tensor in self.carried() {
            let bytes = self.arena.get(tensor.range()).unwrap_or_default();
            let (to, behind) = rest.split_at_mut_checked(bytes.len()).unwrap_or_default();
            to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            rest = behind;
        }
        let sum = crc32(body).to_le_bytes();
        crc.iter_mut().zip(sum).for_each(|(to, from)| *to = from);
        Ok(need)
    }

    /// Continues from a snapshot of the same model; the picture will be the same, byte for byte.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::SnapshotChecksum`] if it is damaged, [`Error::SnapshotModel`] if it was taken with
    /// another model. The sampler is idle after an error.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), Error> {
        self.run = None;
        let need = self.snapshot_len();
        let magic = snapshot.get(..4).is_some_and(|magic| magic == MAGIC);
        if !magic || snapshot.len() < HEADER_BYTES {
            return Err(Error::SnapshotChecksum);
        }
        if u32_at(snapshot, 28) != self.model.header().meta_crc || u32_at(snapshot, 32) as usize != need {
            return Err(Error::SnapshotModel);
        }
        let Some((body, crc)) = snapshot.get(..need).and_then(|whole| whole.split_at_checked(need - CRC_BYTES)) else {
            return Err(Error::Length { have: snapshot.len() as u32, need: need as u32 });
        };
        let schedule = u16_at(snapshot, 4);
        let rows = self.model.schedules().nth(schedule as usize).map_or(0, |schedule| schedule.rows);
        let (row, class) = (u16_at(snapshot, 6), u16_at(snapshot, 10));
        let in_range = row <= rows && rows > 0 && class < self.model.classes().max(1);
        if crc32(body).to_le_bytes() != crc || !in_range {
            return Err(Error::SnapshotChecksum);
        }
        let mut rest = body.get(HEADER_BYTES..).unwrap_or_default();
        for tensor in self.carried() {
            let to = self.arena.get_mut(tensor.range()).unwrap_or_default();
            let (bytes, behind) = rest.split_at_checked(to.len()).unwrap_or_default();
            to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            rest = behind;
        }
        self.run = Some(Run {
            seed: u32_at(snapshot, 16) as u64 | (u32_at(snapshot, 20) as u64) << 32,
            class,
            guidance: f32_at(snapshot, 12),
            poll_budget: u32_at(snapshot, 24),
            schedule,
            row,
            step: u16_at(snapshot, 8),
            branch_done: false,
            position: Position::default(),
            preview: false,
        });
        Ok(())
    }
}
