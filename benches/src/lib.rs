//! What the benchmarks share.
//!
//! Absolute times are the machine's, and other programs disturb them; so every claim is a *ratio* of contenders that
//! ran in turn within one run ([`Rounds`]), printed beside its [`Target`] in a [`Table`]. How a cost grows, with
//! consumers, blocks, channels or listeners, is criterion's to show. No benchmark fails because of a number: people
//! judge, and a slow machine is no defect. Each names its method in its first lines.
//!
//! ```text
//! cargo bench -p aircheck-benches                    # everything, some minutes
//! cargo bench -p aircheck-benches --bench ring       # how a cost grows: steps callback ring fanout encode scrape
//! cargo bench -p aircheck-benches --bench throughput # side by side: push throughput paced latency frozen listeners memory
//! ```

mod clock;
mod process;
mod quick;
mod request;
mod rounds;
mod spin;
mod steal;
mod sum;
mod table;
mod tap;
mod target;
mod wav;

pub use clock::clock_cost;
pub use process::{Cpu, Memory, open_files};
pub use quick::is_quick;
pub use request::request;
pub use rounds::Rounds;
pub use spin::spin_until;
pub use steal::Steal;
pub use sum::sum;
pub use table::Table;
pub use tap::tap;
pub use target::Target;
pub use wav::{WAV_RATE_HZ, write_wav};
