//! (to come)
pub mod assign;
pub mod decide;
pub mod job;
pub mod reap;
pub mod scan;
pub mod status;
