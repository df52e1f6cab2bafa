//! Reading a diffusers JSON configuration strictly.
//!
//! Every key is either read by its reader or reported: a key that this version does not know could change the network
//! or the sampler, so it is never skipped. All problems of one file are collected and told at once. Keys that start
//! with `_` are diffusers' own notes (`_class_name`, `_diffusers_version`) and are skipped, as diffusers does.
//! An absent key has the default of the diffusers class; so has `null` where the class takes no `None`.

use std::collections::BTreeSet;
use std::fmt::Display;

use miette::{Result, miette};
use serde_json::{Map, Value};

/// A parsed configuration and where it came from.
#[derive(Clone, Debug)]
pub struct ConfigText {
    /// For messages: a path, or the metadata key of a weights file.
    pub origin: String,
    /// The JSON object.
    pub object: Map<String, Value>,
}

impl ConfigText {
    /// Parses `text`, which must be a JSON object; `origin` says where it was found.
    pub fn parse(origin: impl Into<String>, text: &str) -> Result<Self> {
        let origin = origin.into();
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(object)) => Ok(Self { origin, object }),
            Ok(other) => Err(miette!(
                help = "a diffusers configuration is one JSON object: { \"key\": value, … }",
                "{origin}: expected a JSON object, found {}",
                brief(&other)
            )),
            Err(error) => Err(miette!(help = "repair or re-export the file", "{origin}: invalid JSON: {error}")),
        }
    }

    /// The `_class_name` that diffusers writes.
    pub fn class_name(&self) -> Option<&str> {
        self.object.get("_class_name").and_then(Value::as_str)
    }
}

/// A reader of one configuration that remembers what was asked for and what was wrong.
pub struct Fields<'a> {
    config: &'a ConfigText,
    known: BTreeSet<&'static str>,
    problems: Vec<String>,
}

impl<'a> Fields<'a> {
    /// Starts reading `config`.
    pub fn new(config: &'a ConfigText) -> Self {
        Self { config, known: BTreeSet::new(), problems: Vec::new() }
    }

    /// Records a problem that is found later than in the reading itself.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Records that `key` has a value outside of what is supported.
    pub fn refuse(&mut self, key: &str, value: impl Display, supported: impl Display) {
        self.problems.push(format!("`{key}` = {value} is not supported (supported: {supported})"));
    }

    /// The value of `key`, unless absent or `null`.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.config.object.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is present and `null`: `None` as a value, where the class gives it a meaning.
    pub fn is_null(&mut self, key: &'static str) -> bool {
        self.known.insert(key);
        self.config.object.get(key).is_some_and(Value::is_null)
    }

    /// A whole number in `range`; `None` where it is absent or `null`.
    pub fn integer(&mut self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        match as_integer(value) {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                self.refuse(key, brief(value), format!("a whole number from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// A finite number that passes `accept`; `supported` describes those.
    pub fn number(&mut self, key: &'static str, supported: &str, accept: impl Fn(f64) -> bool) -> Option<f64> {
        let value = self.value(key)?;
        match value.as_f64() {
            Some(number) if number.is_finite() && accept(number) => Some(number),
            _ => {
                self.refuse(key, brief(value), supported);
                None
            }
        }
    }

    /// A boolean.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        if value.as_bool().is_none() {
            self.refuse(key, brief(value), "true or false");
        }
        value.as_bool()
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let found = value.as_str().and_then(|name| choices.iter().find(|(choice, _)| *choice == name));
        if found.is_none() {
            self.refuse(key, brief(value), names(choices));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A list whose elements `read` understands; `supported` describes them.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        supported: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let Some(items) = value.as_array() else {
            self.refuse(key, brief(value), format!("a list of {supported}"));
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Some(item) => list.push(item),
                None => self.refuse(&format!("{key}[{index}]"), brief(item), supported),
            }
        }
        (list.len() == items.len()).then_some(list)
    }

    /// Ends the reading: an error that lists every problem and every key that nobody asked for.
    pub fn finish(mut self, what: &str) -> Result<()> {
        for (key, value) in &self.config.object {
            if !key.starts_with('_') && !self.known.contains(key.as_str()) {
                self.problems
                    .push(format!("`{key}` = {} is not a key of {what} that this version knows", brief(value)));
            }
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(miette!(
            help = "each line names what would have to change in the configuration; keys of another class do not apply",
            "{}: {} cannot be taken as it is:\n  - {}",
            self.config.origin,
            what,
            self.problems.join("\n  - ")
        ))
    }
}

/// The names of a choice list, for messages.
pub fn names<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A whole number, also where it was written as `1.0`.
pub fn as_integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}

/// JSON for a message, cut where it is long.
pub fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once() {
        let config = ConfigText::parse(
            "config.json",
            r#"{"_note": 1, "a": "x", "b": -1, "c": true, "d": [1, "two"], "rest": {"deep": 1}}"#,
        )
        .unwrap();
        let mut fields = Fields::new(&config);
        assert_eq!(fields.choice("a", &[("y", 1), ("z", 2)]), None);
        assert_eq!(fields.integer("b", 0..=9), None);
        assert_eq!(fields.flag("c"), Some(true));
        assert_eq!(fields.list("d", "whole numbers", as_integer), None);
        let message = fields.finish("Thing").unwrap_err().to_string();
        for part in ["`a` = \"x\"", "y, z", "`b` = -1", "0 to 9", "`d[1]` = \"two\"", "`rest` = {\"deep\":1}"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(!message.contains("_note") && !message.contains("`c`"), "{message}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(ConfigText::parse("c.json", "[1]").unwrap_err().to_string().contains("expected a JSON object"));
        assert!(ConfigText::parse("c.json", "{").unwrap_err().to_string().contains("c.json: invalid JSON"));
    }
}
