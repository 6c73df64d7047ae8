//! The cases: a number of consumers under a condition.

const CONSUMERS: [usize; 5] = [1, 4, 16, 64, 256];

/// What else goes on while consumers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Idle,
    Loaded,
    Frozen,
}

impl Condition {
    pub(crate) const ALL: [Self; 3] = [Self::Idle, Self::Loaded, Self::Frozen];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Loaded => "loaded",
            Self::Frozen => "one-frozen",
        }
    }
}

/// A number of consumers under one condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) condition: Condition,
    pub(crate) consumers: usize,
}

impl Case {
    /// Returns all cases. A frozen consumer needs others beside it.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let with = |consumers| Condition::ALL.map(|condition| Self { condition, consumers });
        CONSUMERS.into_iter().flat_map(with).filter(|case| case.condition != Condition::Frozen || case.consumers > 1)
    }

    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.condition.name(), self.consumers)
    }
}
