//! Whether a benchmark is only to be seen running.

use std::env;

/// Whether the command line has `--test`, as criterion's benchmarks understand it, or `--quick`: then each case is
/// measured as briefly as can be, and the figures mean nothing.
#[must_use]
pub fn is_quick() -> bool {
    env::args().any(|argument| argument == "--test" || argument == "--quick")
}
