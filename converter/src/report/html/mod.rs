//! A study as one HTML page.

use std::collections::BTreeMap;

use miette::Result;

use crate::compare::Study;

/// The page.
pub fn page(_study: &Study, _metadata: &BTreeMap<String, String>) -> Result<String> {
    Ok(String::new())
}
