//! Helpers that the benchmarks share.
//!
//! Absolute times belong to one machine, and other programs disturb them. So every claim is a *ratio* of contenders
//! that ran in turn within one run ([`Rounds`]), printed beside its [`Target`] in a [`Table`]. criterion shows how a
//! cost grows with consumers, blocks, channels or listeners. No benchmark but `ten_thousand` fails because of a number:
//! people judge, and a slow machine is no defect. Each program describes its method in its first lines.
//!
//! ```text
//! cargo bench -p aircheck-benches                      # everything, some minutes
//! cargo bench -p aircheck-benches --bench ring         # how a cost grows: steps callback ring fanout encode scrape
//! cargo bench -p aircheck-benches --bench throughput   # side by side: push throughput paced latency frozen listeners memory sight
//! cargo bench -p aircheck-benches --bench poll         # with a microphone: poll realtime
//! cargo test -p aircheck-benches --bench scale         # no measurement, but what follows from some: trees of servers
//! cargo bench -p aircheck-benches --bench paced -- 64  # only the cases with `64` in their name
//! cargo test -p aircheck-benches --benches             # each of them once and briefly, to see that it runs
//! ```

mod arguments;
mod clock;
mod process;
mod program;
mod request;
mod rounds;
mod spin;
mod steal;
mod sum;
mod table;
mod tap;
mod target;
mod wav;

pub use arguments::Arguments;
pub use clock::clock_cost;
pub use process::{Cpu, Memory, open_files, thread_time};
pub use program::Program;
pub use request::request;
pub use rounds::Rounds;
pub use spin::spin_until;
pub use steal::Steal;
pub use sum::sum;
pub use table::{Table, number};
pub use tap::tap;
pub use target::Target;
pub use wav::{WAV_RATE_HZ, write_wav};

/// Runs the example of docs/library.md as a documentation test. It is here because the engine is published without that page.
#[cfg(doctest)]
#[doc = include_str!("../../docs/library.md")]
struct LibraryPage;
