//! (to come)
pub mod claude;
pub mod command;
pub mod screen;
