//! The program as a service: its reports to the service manager, and the container that it is built into.
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Server, tls};

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

/// Returns the text of a file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// cargo does not begin without each member of the workspace.
#[test]
fn the_container_is_built_from_every_member_of_the_workspace() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let ignored = text("deploy/Containerfile.dockerignore");
    let kept: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).map(Path::new).collect();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let member = Path::new(member.as_str().unwrap());
        assert!(kept.iter().any(|kept| member.starts_with(kept)), "{member:?} is ignored: {kept:?}");
    }
}

#[test]
fn the_container_s_health_check_finds_out_whether_the_program_answers() {
    let file = text("deploy/Containerfile").replace("\\\n", "");
    let check = file.lines().find_map(|line| line.strip_prefix("HEALTHCHECK ")?.split_once("CMD ")).unwrap().1;
    let check: Vec<String> = serde_json::from_str(check).unwrap();
    let is_healthy = |listen: &str| {
        let mut command = Command::new(&check[0]);
        command.args(&check[1..]).env("AIRCHECK_LISTEN", listen).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    let with_tls = tls::flags();
    for flags in [vec![], with_tls.iter().map(String::as_str).collect()] {
        let server = Server::start(&[&["--source", "tone:440"], &flags[..]].concat());
        let address = server.address.to_string();
        assert!(is_healthy(&address), "{flags:?}");
        assert!(is_healthy(&format!("{address},unix:/run/aircheck/http.sock")), "{flags:?}");
        drop(server);
        assert!(!is_healthy(&address), "{flags:?}");
    }
}
