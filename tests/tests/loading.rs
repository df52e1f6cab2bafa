//! Bytes that are no model, and bytes that almost are.

use mote_runtime::error::{Fault, Record};
use mote_runtime::format::header::tag;
use mote_runtime::format::{Encoding, Header, Section, Weights};
use mote_runtime::{Error, Model, Poll, Request, Sampler, arena_len};
use mote_tests::{Flash, Random, arena, arena_for, repeats, seal, small};

#[test]
fn the_small_file_is_valid_and_const_arena_len_agrees() {
    let file = Flash::new(&small());
    let model = Model::from_bytes(file.bytes()).expect("valid");
    assert_eq!(model.arena_len(), arena_len(file.bytes()));
    assert_eq!(model.image_shape(), [4, 6, 1]);
    assert_eq!((model.classes(), model.null_class()), (3, Some(2)));
    assert_eq!(model.info().collect::<Vec<_>>(), [("name", "test"), ("license", "MIT")]);
    assert!(file.bytes().len() < 16_384, "small means small: {}", file.bytes().len());
}

#[test]
fn every_truncation_is_refused() {
    let mut file = Flash::new(&small());
    let whole = file.bytes().to_vec();
    for len in 0..whole.len() {
        let error = Model::from_bytes(&file.bytes()[..len]).map(|_| ()).expect_err("truncated");
        assert!(matches!(error, Error::Truncated { have, .. } if have as usize == len), "{len}: {error}");
    }
    // Bytes behind the file are none of its business.
    let mut longer = whole.clone();
    longer.extend([7; 100]);
    file = Flash::new(&longer);
    assert_eq!(Model::from_bytes(file.bytes()).map(|model| model.bytes().len()), Ok(whole.len()));
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut file = Flash::new(&small());
    for at in 0..file.bytes().len() {
        for bit in 0..8 {
            file.bytes_mut()[at] ^= 1 << bit;
            assert!(Model::from_bytes(file.bytes()).is_err(), "byte {at} bit {bit}");
            file.bytes_mut()[at] ^= 1 << bit;
        }
    }
    assert!(Model::from_bytes(file.bytes()).is_ok());
}

#[test]
fn a_trusted_payload_may_be_damaged_and_still_draws() {
    let mut file = Flash::new(&small());
    let payload = Header::decode(file.bytes()).meta_bytes as usize;
    let mut rng = Random::new(5);
    for byte in &mut file.bytes_mut()[payload..] {
        *byte = rng.bits() as u8;
    }
    assert!(matches!(Model::from_bytes(file.bytes()), Err(Error::PayloadChecksum { block: 0 })));
    let model = Model::from_bytes_trusting_payload(file.bytes()).expect("records are whole");
    draw(&model);
}

#[test]
fn unaligned_bytes_are_refused() {
    let bytes = small();
    for offset in 1..4 {
        let mut shifted = vec![0; offset];
        shifted.extend(&bytes);
        let file = Flash::new(&shifted);
        assert_eq!(Model::from_bytes(&file.bytes()[offset..]).map(|_| ()), Err(Error::Unaligned));
    }
    let mut shifted = vec![0; 4];
    shifted.extend(&bytes);
    assert!(Model::from_bytes(&Flash::new(&shifted).bytes()[4..]).is_ok(), "any multiple of four will do");
}

#[test]
fn random_bytes_are_refused() {
    let mut rng = Random::new(1);
    for i in 0..repeats(2000) {
        let mut bytes: Vec<u8> = (0..rng.range(0, 600)).map(|_| rng.bits() as u8).collect();
        if i % 2 == 0 && bytes.len() >= 6 {
            bytes[..6].copy_from_slice(b"MOTE\x01\0");
        }
        let file = Flash::new(&bytes);
        assert!(Model::from_bytes(file.bytes()).is_err());
        // The constant function has no errors to give, but must not panic either.
        arena_len(file.bytes());
    }
}

/// An attacker's file: records changed, checksums right. It is refused, or it draws something; it never panics. Debug
/// builds check every sum for overflow.
#[test]
fn hostile_records_are_refused_or_harmless() {
    let whole = small();
    let meta = Header::decode(&whole).meta_bytes as usize;
    let directory = Header::BYTES + Header::decode(&whole).sections as usize * Section::BYTES;
    let (mut rng, mut drawn) = (Random::new(2), 0);
    for _ in 0..repeats(20_000) {
        let mut bytes = whole.clone();
        for _ in 0..rng.range(1, 3) {
            // Mostly records, sometimes header and directory.
            let low = if rng.range(0, 9) == 0 { 5 } else { directory };
            let at = rng.range(low as i64, meta as i64 - 1) as usize;
            let value = [0, 1, 2, 0x7f, 0x80, 0xff, rng.bits() as u8];
            bytes[at] = value[rng.range(0, 6) as usize];
        }
        seal(&mut bytes);
        let file = Flash::new(&bytes);
        if let Ok(model) = Model::from_bytes(file.bytes())
            && model.arena_len() <= 1 << 20
        {
            draw(&model);
            drawn += 1;
        }
    }
    assert!(drawn > 100, "most of these should be refused, but some must get through: {drawn}");
}

/// Every encoding and group length in every weight record: known ones are drawn as long as their bytes are there, others
/// refused by the record's number.
#[test]
fn weight_records_of_every_encoding() {
    let whole = small();
    let section = Section::find(&whole, tag::WEIGHTS);
    let (mut drawn, mut refused) = (0, 0);
    for index in 0..section.bytes as usize / Weights::BYTES {
        let at = section.offset as usize + index * Weights::BYTES;
        let old = Weights::decode(&whole[at..]).expect("valid");
        for encoding in 0..=255u8 {
            for quads in [0, 1, 2, 3, 4, 60, 255] {
                let mut bytes = whole.clone();
                (bytes[at + 10], bytes[at + 11]) = (encoding, quads);
                seal(&mut bytes);
                let file = Flash::new(&bytes);
                let loaded = Model::from_bytes(file.bytes());
                let known = match (encoding, quads) {
                    (0, 0) => Some(Encoding::I8),
                    (1, quads) => Some(Encoding::I4 { group_len: 4 * quads as u16 }),
                    _ => None,
                };
                let error = |what| Error::Record { kind: Record::Weights, index: index as u32, what };
                let Some(encoding) = known else {
                    assert_eq!(loaded.map(|_| ()), Err(error(Fault::Unknown)), "{encoding} {quads}");
                    refused += 1;
                    continue;
                };
                let new = Weights { encoding, ..old };
                if old.offset as usize + new.len_bytes() > bytes.len() {
                    assert_eq!(loaded.map(|_| ()), Err(error(Fault::Range)));
                    continue;
                }
                draw(&loaded.expect("its bytes are there"));
                drawn += 1;
            }
        }
    }
    assert!(drawn > 50 && refused > 1000, "{drawn} drawn, {refused} refused");
}

/// Int4 takes what its record says, to the byte: one less in the file and it is refused.
#[test]
fn int4_records_end_where_their_bytes_end() {
    let whole = small();
    let section = Section::find(&whole, tag::WEIGHTS);
    let mut packed = 0;
    for index in 0..section.bytes as usize / Weights::BYTES {
        let at = section.offset as usize + index * Weights::BYTES;
        let old = Weights::decode(&whole[at..]).expect("valid");
        if !old.encoding.is_packed() {
            continue;
        }
        packed += 1;
        for (short, fits) in [(0, true), (4, false)] {
            let mut bytes = whole.clone();
            let offset = bytes.len() - old.len_bytes() + short;
            assert!(offset.is_multiple_of(4), "rows of four are whole words");
            bytes[at..at + 4].copy_from_slice(&(offset as u32).to_le_bytes());
            seal(&mut bytes);
            assert_eq!(Model::from_bytes(Flash::new(&bytes).bytes()).is_ok(), fits);
        }
    }
    assert!(packed >= 2);
}

fn draw(model: &Model<'_>) {
    let mut arena = arena_for(model);
    let mut sampler = Sampler::new(model, arena.bytes_mut()).expect("the arena fits");
    let guidance = if model.null_class().is_some() { 2.0 } else { 1.0 };
    if sampler.start(Request { class: (model.classes() > 0).then_some(0), guidance, ..Default::default() }).is_ok() {
        for _ in 0..1000 {
            if sampler.poll() == Poll::Ready {
                break;
            }
        }
    }
}

#[test]
fn sections_missing_twice_or_unknown() {
    let whole = small();
    let count = Header::decode(&whole).sections as usize;
    let renamed = |index: usize, to: [u8; 4]| {
        let mut bytes = whole.clone();
        let at = Header::BYTES + index * Section::BYTES;
        bytes[at..at + 4].copy_from_slice(&to);
        seal(&mut bytes);
        Model::from_bytes(Flash::new(&bytes).bytes()).map(|_| ())
    };
    for index in 0..count {
        let tag = Section::decode(&whole[Header::BYTES + index * Section::BYTES..]).tag;
        let optional = [tag::INFO, tag::SELF_TEST].contains(&tag);
        assert_eq!(renamed(index, *b"xtra").is_ok(), optional, "{tag:?} renamed to an unknown optional one");
        assert_eq!(renamed(index, *b"XTRA"), Err(Error::Section { tag: *b"XTRA" }));
    }
    assert!(renamed(count - 1, tag::OPS) == Err(Error::Section { tag: tag::OPS }));
}

#[test]
fn an_arena_one_byte_short_or_askew_is_refused() {
    let file = Flash::new(&small());
    let model = Model::from_bytes(file.bytes()).expect("valid");
    let need = model.arena_len();
    let mut short = arena(need - 1);
    let error = Sampler::new(&model, short.bytes_mut()).map(|_| ()).expect_err("short");
    assert_eq!(error, Error::ArenaTooShort { have: need as u32 - 1, need: need as u32 });
    assert_eq!(error.to_string(), format!("the arena has {} bytes, these kernels need {need} (arena_len)", need - 1));
    let mut askew = arena(need + 4);
    assert_eq!(
        Sampler::new(&model, &mut askew.bytes_mut()[4..]).map(|_| ()).expect_err("askew"),
        Error::ArenaUnaligned
    );
}

/// The firmware links this file; `cargo run -p mote-tests --bin golden -- --write` writes it.
#[test]
fn small_file_is_current() {
    assert!(
        std::fs::read("vectors/small.mote").expect("a file") == small(),
        "vectors/small.mote is not what small() builds"
    );
}
