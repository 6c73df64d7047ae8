//! The polling of the server's API.

use std::time::Duration;

use aircheck_api::{ListenerRow, Status};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::client::{Address, ApiClient};
use crate::failure::Failure;

/// The pace of the server's page: fast enough for meters to look alive, and to show a frozen listener soon.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);
/// Rows come with every second status, or with every fourth if there are so many: a row is half a kilobyte.
const MANY_ROWS: usize = 100;
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take. A healthy server answers within milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer of the server.
#[derive(Debug)]
pub(crate) enum Update {
    Status(Box<Status>),
    Listeners(Vec<ListenerRow>),
    /// The server cannot be reached, or its answer cannot be read.
    Unreachable(String),
}

/// Makes a client that waits [`ANSWER_TIMEOUT`] for each answer.
pub(crate) fn client(address: &Address, mount: Option<&str>) -> ApiClient {
    ApiClient::new(address.clone(), ANSWER_TIMEOUT).of_mount(mount.map(str::to_owned))
}

/// Polls until the receiver is gone.
pub(crate) async fn watch(mut api: ApiClient, updates: mpsc::Sender<Update>) {
    let mut looks = 0_u64;
    let mut looks_per_rows = 2;
    loop {
        let began = Instant::now();
        let (answers, pause) = match look(&mut api, looks.is_multiple_of(looks_per_rows)).await {
            Ok(answers) => (answers, STATUS_INTERVAL),
            Err(failure) => {
                let why = match failure {
                    // The server's name stands above.
                    Failure::Connect { why, .. } => why,
                    other => other.to_string(),
                };
                (vec![Update::Unreachable(why)], RETRY_INTERVAL)
            }
        };
        // After a failure the rows come with the first status.
        looks = if pause == STATUS_INTERVAL { looks + 1 } else { 0 };
        for update in answers {
            if let Update::Listeners(rows) = &update {
                looks_per_rows = if rows.len() > MANY_ROWS { 4 } else { 2 };
            }
            if updates.send(update).await.is_err() {
                return;
            }
        }
        sleep_until(began + pause).await;
    }
}

/// Asks for the status, and for the rows with it: a status alone does not say that the rows are as new.
async fn look(api: &mut ApiClient, with_rows: bool) -> Result<Vec<Update>, Failure> {
    let mut updates = vec![Update::Status(Box::new(api.status().await?))];
    if with_rows {
        updates.push(Update::Listeners(api.listeners().await?));
    }
    Ok(updates)
}
