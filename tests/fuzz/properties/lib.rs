//! What holds for everything that `ccl` reads, whatever its bytes are.
//!
//! Each room has one `check`, which takes what a fuzzer makes or a file of a corpus holds, and panics where a property
//! does not hold. The fuzz targets and `tests/properties/` share them.
// One that fails ends its test.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod answer;
pub mod check;
pub mod marker;
pub mod request;
pub mod task;
pub mod transcript;

/// Panics where something does not hold for these bytes.
pub type Check = fn(&[u8]);

/// Every target: the name of its corpus, and what holds for each file there.
pub const TARGETS: [(&str, Check); 6] = [
    ("task", task::check),
    ("marker", marker::check),
    ("transcript", transcript::check),
    ("answer", answer::check),
    ("check", check::check),
    ("request", request::check),
];

/// Some places at which `bytes` may be cut off: spread over all of it, and none where there is nothing to cut.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    const CUTS: usize = 16;
    let length = bytes.len();
    (0..CUTS.min(length)).map(move |cut| length * cut / CUTS.min(length))
}
