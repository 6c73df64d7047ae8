//! What the benchmarks share.
//!
//! Absolute times are the machine's, and other programs disturb them; so every claim is a *ratio* of contenders that
//! ran in turn within one run ([`Rounds`]), printed beside its [`Target`] in a [`Table`]. No benchmark fails because
//! of a number: people judge, and a slow machine is no defect. Each names its method in its first lines.
//!
//! ```text
//! cargo bench -p aircheck-benches                    # everything, some minutes
//! cargo bench -p aircheck-benches --bench throughput # one of: steps encode callback push throughput paced latency frozen listeners memory
//! ```

mod clock;
mod rounds;
mod steal;
mod sum;
mod table;
mod tap;
mod target;

pub use clock::clock_cost;
pub use rounds::Rounds;
pub use steal::Steal;
pub use sum::sum;
pub use table::Table;
pub use tap::tap;
pub use target::Target;
