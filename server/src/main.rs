//! The `aircheck` command.

fn main() {}
