//! Transcripts, the registry's files and screens: see the properties of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ccl_fuzz::transcript::check(bytes));
