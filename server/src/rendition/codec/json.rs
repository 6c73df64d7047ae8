//! Blocks as JSON.

use std::fmt::Write as _;

use aircheck_engine::{Block, Item};

/// Returns the block as a line of `/stream.json`, without its end. A float has the fewest digits that read back exactly;
/// one that is not a number is `null`.
pub(in crate::rendition) fn block_json(block: &Item<Block>) -> String {
    let stamp = block.stamp;
    let nanos = stamp.captured_at.unix_nanos();
    // A sample takes up to 14 characters with its comma.
    let mut json = String::with_capacity(100 + 14 * block.samples().len());
    // Writing to a string can't fail.
    let _ = write!(
        json,
        r#"{{"sequence":{},"position":{},"captured_at":{}.{:06},"samples":"#,
        stamp.sequence,
        block.position(),
        nanos / 1_000_000_000,
        nanos / 1000 % 1_000_000
    );
    json.push_str(&serde_json::to_string(block.samples()).unwrap_or_else(|_| "[]".to_owned()));
    json.push('}');
    json
}
