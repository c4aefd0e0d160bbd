//! One HTTP request, and the response to it: what `ccl http` reads and writes.

mod connection;
pub mod request;
mod response;

pub(crate) use connection::{Connection, Received};
pub(crate) use request::{Asked, Refusal, Request};
pub(crate) use response::Response;
