//! What holds for everything that is read: for what the fuzzers found, and for what proptest makes up.
#![allow(clippy::unwrap_used)]

mod checked;
mod corpus;
#[path = "../fuzz/properties/lib.rs"]
mod properties;
mod routing;
