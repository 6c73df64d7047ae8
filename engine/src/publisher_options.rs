//! The options of a publisher.

use crate::Head;

/// Options of a [`Publisher`](crate::Publisher).
///
/// ```
/// use aircheck_engine::{Publisher, PublisherOptions};
///
/// // A copy from file to file, whose consumers may start up to 100 items back.
/// let options = PublisherOptions { history: 100, live: false, ..PublisherOptions::default() };
/// let (publisher, hub) = Publisher::<String>::new(options);
/// # drop((publisher, hub));
/// ```
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// Blocks kept for consumers that start in the past.
    pub history: usize,
    /// Blocks that an item stands for, at most; at least 1. Rings have fewer slots where items stand for several.
    pub group: usize,
    /// Whether the items come at their own pace. A live publisher refuses
    /// [`OverflowPolicy::Block`](crate::OverflowPolicy::Block).
    pub live: bool,
    /// The head that consumers' lag is measured against; the publisher's own if `None`. An encoder passes the
    /// dispatcher's head, so that its own delay counts as lag too.
    pub head: Option<Head>,
    /// Whether the items are as late as their consumers want them, as those of a recording are. The distance to the head
    /// at which a consumer starts is then requested lag, as that of a start in the history is.
    pub delayed: bool,
}

impl Default for PublisherOptions {
    /// Live, with no history and its own head, one block an item.
    fn default() -> Self {
        Self { history: 0, group: 1, live: true, head: None, delayed: false }
    }
}
