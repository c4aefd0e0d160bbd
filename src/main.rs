//! `ccl`: hands Markdown task files to coding agents. See the library for how.

use std::process::ExitCode;

fn main() -> ExitCode {
    ccl::command::main(&ccl::environment::Environment::of_process())
}
