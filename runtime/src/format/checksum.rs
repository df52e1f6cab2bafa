//! CRC-32 (ISO-HDLC, the one of zip and Ethernet), from the `crc` crate: with its 16 KB table on hosts, without a table
//! on small cores. There the 1 KB table would be 4 % of the runtime's flash, and bit by bit the 229 KB of `digits` take
//! a tenth of a step once, when they are loaded.

use super::header::Header;
use crc::{CRC_32_ISO_HDLC, Crc, Digest};

#[cfg(target_pointer_width = "64")]
type Lookup = crc::Table<16>;
#[cfg(not(target_pointer_width = "64"))]
type Lookup = crc::NoTable;

static CRC32: Crc<u32, Lookup> = Crc::<u32, Lookup>::new(&CRC_32_ISO_HDLC);

/// CRC-32 of some bytes.
pub fn crc32(bytes: &[u8]) -> u32 {
    CRC32.checksum(bytes)
}

/// A CRC-32 over bytes that come in pieces.
pub fn crc32_digest() -> Digest<'static, u32, Lookup> {
    CRC32.digest()
}

/// CRC-32 of header and records with the checksum's own field as zero.
pub fn meta_crc(meta: &[u8]) -> u32 {
    let mut digest = CRC32.digest();
    let at = Header::META_CRC_AT;
    digest.update(meta.get(..at).unwrap_or(meta));
    digest.update(&[0; 4]);
    digest.update(meta.get(at + 4..).unwrap_or(&[]));
    digest.finalize()
}

/// As [`meta_crc`], for the compiler: with a table, which then is in no program. Without one, 15 KB of records would take
/// more steps than a compiler takes without asking.
pub(crate) const fn meta_crc_const(meta: &[u8]) -> u32 {
    const CRC: Crc<u32, crc::Table<1>> = Crc::<u32, crc::Table<1>>::new(&CRC_32_ISO_HDLC);
    let mut digest = CRC.digest();
    if let Some((before, rest)) = meta.split_at_checked(Header::META_CRC_AT) {
        digest.update(before);
        digest.update(&[0; 4]);
        digest.update(super::cursor::tail(rest, 4));
    }
    digest.finalize()
}
