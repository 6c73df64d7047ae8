//! The tasks of reports and gathering.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::gathering::Gathering;
use super::reporting::Reporting;
use super::{gatherer, reporter};
use crate::delivery::listeners::Listeners;
use crate::mounts::Mounts;

/// Time that the last report may take. It runs beside the stop, which may take 5 s.
const LAST_REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The running tasks.
#[derive(Debug)]
pub struct Running {
    reporter: JoinSet<()>,
    /// Ends when it is dropped.
    _gatherer: JoinSet<()>,
    closing: watch::Sender<bool>,
}

impl Running {
    /// Starts the tasks for what there is.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn start(
        reporting: Option<&Arc<Reporting>>,
        gathering: Option<&Arc<Gathering>>,
        listeners: &Arc<Listeners>,
        mounts: &Arc<Mounts>,
    ) -> Self {
        let (closing, closed) = watch::channel(false);
        let (mut reporters, mut gatherers) = (JoinSet::new(), JoinSet::new());
        if let Some(reporting) = reporting {
            reporters.spawn(reporter::run(Arc::clone(reporting), Arc::clone(listeners), closed));
        }
        if let Some(gathering) = gathering {
            gatherers.spawn(gatherer::run(Arc::clone(gathering), Arc::clone(mounts)));
        }
        Self { reporter: reporters, _gatherer: gatherers, closing }
    }

    /// Says that the listeners here are gone, and ends the tasks.
    pub async fn finish(mut self) {
        let _ = self.closing.send(true);
        let _ = timeout(LAST_REPORT_TIMEOUT, self.reporter.join_next()).await;
    }
}
