//! What a pass needs, looked at one thing at a time; each finding says how to mend what is wrong.
//!
//! Nothing here changes anything: the disk is tried out with temporary files, the login shell is asked for a path, the
//! server for a job that does not exist.

mod ask;
pub mod disk;
pub mod server;
pub mod service;
pub mod terminal;
