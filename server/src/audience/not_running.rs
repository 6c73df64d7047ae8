//! In place of the tasks, in a build without the feature `nats`: there are none, because no settings name a subject.

use std::sync::Arc;

use super::gathering::Gathering;
use super::reporting::Reporting;
use crate::delivery::listeners::Listeners;
use crate::mounts::Mounts;

/// No tasks.
#[derive(Debug)]
pub struct Running;

impl Running {
    /// Starts none.
    #[must_use]
    pub fn start(_: Option<&Arc<Reporting>>, _: Option<&Arc<Gathering>>, _: &Arc<Listeners>, _: &Arc<Mounts>) -> Self {
        Self
    }

    /// Ends none.
    pub async fn finish(self) {}
}
