//! The `aircheckctl` command.

fn main() {}
