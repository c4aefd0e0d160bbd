//! What a check has printed: see the properties of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ccl_fuzz::check::check(bytes));
