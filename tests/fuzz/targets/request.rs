//! The head of an HTTP request: see the properties of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ccl_fuzz::request::check(bytes));
