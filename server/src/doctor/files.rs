//! Open files: whether the system permits as many as there may be listeners.

use rustix::process::{Resource, getrlimit};

use super::finding::{Area, Finding};
use crate::app::OTHER_FILES;

/// Compares the limit with the need of `max_listeners`. The hard limit counts, because the service raises its own.
pub(super) fn check(max_listeners: usize) -> Finding {
    finding(max_listeners, getrlimit(Resource::Nofile).maximum)
}

fn finding(max_listeners: usize, limit: Option<u64>) -> Finding {
    let needed = max_listeners as u64 + OTHER_FILES;
    match limit {
        Some(files) if files < needed => {
            let enough = files.saturating_sub(OTHER_FILES);
            Finding::note(
                Area::Files,
                format!(
                    "{files} files may be open, enough for some {enough} listeners; --max-listeners {max_listeners} needs \
                     {needed}"
                ),
                format!(
                    "set LimitNOFILE={needed} in the unit, or this line in /etc/security/limits.d/aircheck.conf and log in \
                     again:"
                ),
            )
            .with_command(format!("* - nofile {needed}"))
        }
        limit => {
            let files = limit.map_or_else(|| "any number of".to_owned(), |files| files.to_string());
            Finding::ok(Area::Files, format!("{files} files may be open, enough for {max_listeners} listeners"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn each_listener_takes_a_file() {
        assert_eq!(finding(1000, Some(1400)).level(), Level::Ok);
        assert_eq!(finding(1_048_576, None).level(), Level::Ok);
        let few = finding(1000, Some(1399));
        assert!(few.level() == Level::Note && few.text(false).contains("LimitNOFILE=1400"), "{few:?}");
        assert!(finding(1000, Some(100)).text(false).contains("some 0 listeners"));
    }
}
