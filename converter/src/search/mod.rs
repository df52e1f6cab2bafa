//! The search.
pub mod evaluate;
pub use evaluate::Evaluator;
