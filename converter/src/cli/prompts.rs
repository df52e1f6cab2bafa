//! From `--seed`, `--count`, `--class`, `--noise` to a list of prompts, with a number for each row of a contact sheet.

use std::path::Path;

use miette::{Result, miette};
use mote_converter::arch::Cond;
use mote_converter::draw::{Prompt, Signature};
use mote_converter::report::npy;

use super::parse::ClassChoice;

/// What was asked for, as the command line has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub seed: u64,
    pub count: Option<usize>,
    pub class: Option<ClassChoice>,
    pub guidance: f32,
    pub noise: Option<&'a Path>,
    pub class_embedding: Option<&'a Path>,
}

/// The prompts, and how many of them stand in a row of a grid where classes make the rows.
#[derive(Clone, Debug)]
pub struct Prompts {
    pub list: Vec<Prompt>,
    pub columns: Option<usize>,
}

/// Sample i has seed + i. With `--class all` each class has the same seeds, so a column of the sheet shares its noise.
pub fn prompts(wanted: &Wanted, signature: &Signature) -> Result<Prompts> {
    let noise = wanted.noise.map(|path| npy::read_samples(path, signature.shape)).transpose()?;
    let count = wanted.count.unwrap_or(noise.as_ref().map_or(1, Vec::len));
    if let Some(noise) = noise.as_ref().filter(|noise| noise.len() < count) {
        return Err(miette!(
            help = "leave --count out to draw as many as the file has",
            "--noise holds {} samples, --count asks for {count}",
            noise.len()
        ));
    }
    let conds = conditions(wanted, signature)?;
    let null_exists = signature.classes.null.is_some();
    if wanted.guidance != 1.0 && !null_exists {
        return Err(miette!(
            help = "leave --guidance out; a network that was trained with a null class takes it: say which with --null-class",
            "guidance {} needs a null class, and the model has none",
            wanted.guidance
        ));
    }
    let prompt = |cond: &Cond, i: usize| Prompt {
        seed: wanted.seed.wrapping_add(i as u64),
        cond: cond.clone(),
        guidance: wanted.guidance,
        noise: noise.as_ref().map(|noise| noise[i].clone()),
    };
    let list = conds.iter().flat_map(|cond| (0..count).map(move |i| prompt(cond, i))).collect();
    Ok(Prompts { list, columns: (conds.len() > 1 && count > 1).then_some(count) })
}

/// One condition, or one for each class.
fn conditions(wanted: &Wanted, signature: &Signature) -> Result<Vec<Cond>> {
    let classes = signature.classes;
    if signature.class_vector_len > 0 {
        if wanted.class.is_some() {
            return Err(miette!(
                help = "give its class vector with --class-embedding v.npy",
                "the network takes no class numbers (`class_embed_type` = \"identity\")"
            ));
        }
        let Some(path) = wanted.class_embedding else {
            return Err(miette!(
                help = "give it with --class-embedding v.npy",
                "the network needs a class vector of {} elements",
                signature.class_vector_len
            ));
        };
        return Ok(vec![Cond::Vector(npy::read_vector(path, signature.class_vector_len)?)]);
    }
    if wanted.class_embedding.is_some() {
        return Err(miette!(help = "leave --class-embedding out", "the network takes no class vector"));
    }
    match wanted.class {
        Some(_) if classes.count == 0 => {
            Err(miette!(help = "leave --class out", "the network is unconditional: it has no classes"))
        }
        Some(ClassChoice::One(class)) if class >= classes.count => Err(miette!(
            help = format!("classes are 0 to {}", classes.count - 1),
            "there is no class {class}: the model has {} classes",
            classes.count
        )),
        Some(ClassChoice::One(class)) => Ok(vec![Cond::Class(class)]),
        Some(ClassChoice::All) => Ok(every_class(signature)),
        None if classes.count > 0 && classes.null.is_none() => Err(miette!(
            help = "name one with --class N, or draw every one with --class all",
            "the network needs a class from 0 to {}",
            classes.count - 1
        )),
        None => Ok(vec![Cond::None]),
    }
}

/// Each class but the null class.
pub fn every_class(signature: &Signature) -> Vec<Cond> {
    let classes = signature.classes;
    (0..classes.count).filter(|class| Some(*class) != classes.null).map(Cond::Class).collect()
}
