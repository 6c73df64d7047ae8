//! The `aircheckctl` command; the library of this package is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    aircheck_tools::run()
}
