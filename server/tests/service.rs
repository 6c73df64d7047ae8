//! The program as a service: its reports to the service manager.

mod common;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::Server;

/// Time for the next report, beyond which none comes.
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);

/// The part of systemd that services talk to.
struct Manager(UnixDatagram);

impl Manager {
    /// Returns the next report, in lines.
    fn next(&self) -> Vec<String> {
        let mut report = [0; 4096];
        let length = self.0.recv(&mut report).expect("no report came");
        String::from_utf8_lossy(&report[..length]).lines().map(str::to_owned).collect()
    }
}

#[test]
fn it_reports_that_it_is_ready_alive_and_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(REPORT_TIMEOUT)).unwrap();
    let mut server = Server::start_with(&["--source", "tone:440"], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000")
    });
    let ready = manager.next();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=on air: ") && ready[1].contains(&server.url("")), "{ready:?}");
    for _ in 0..3 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    server.terminate();
    let last = std::iter::repeat_with(|| manager.next()).find(|report| *report != ["WATCHDOG=1"]);
    assert_eq!(last.unwrap(), ["STOPPING=1"]);
    assert!(server.wait().success());
}

#[test]
fn a_service_manager_that_is_gone_changes_nothing_but_the_log() {
    let mut server = Server::start_with(&["--source", "tone:440"], |command| {
        command.env("NOTIFY_SOCKET", "/nowhere/notify").env("WATCHDOG_USEC", "300000")
    });
    server.wait_for_log("cannot report to the service manager: No such file or directory");
    assert_eq!(server.json("api/v1/status")["state"], "live");
    server.terminate();
    assert!(server.wait().success());
}
