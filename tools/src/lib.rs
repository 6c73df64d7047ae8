//! What the commands of `aircheckctl` share with the benchmarks: reports on what a run showed.

pub mod report;
