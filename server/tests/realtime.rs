//! Real time of the capture: granted, or refused with a reason, and never required.
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[path = "../../engine/tests/common/pulse.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod pulse;

use std::fs;
use std::process::Command;

use common::{Server, command, eventually};
use pulse::{PulseServer, Way};
use serde_json::Value;

/// Returns the policy and the real-time priority of the server's thread of this name; policy 2 is SCHED_RR.
fn scheduling(server: &Server, thread: &str) -> (u8, u8) {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let stat = stats.into_iter().find(|stat| stat.contains(&format!("({thread})"))).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[38].parse().unwrap(), fields[37].parse().unwrap())
}

fn realtime(server: &Server) -> Value {
    // The thread asks when it starts.
    eventually("an outcome", || {
        let realtime = server.json("api/v1/status")["capture"]["realtime"].clone();
        (realtime["priority"].is_number() || realtime["priority_refusal"].is_string()).then_some(realtime)
    })
}

#[test]
fn the_status_says_what_is_granted() {
    let server = Server::start(&["--source", "tone:440"]);
    let realtime = realtime(&server);
    // A container may permit nothing, whoever runs the test.
    match realtime["priority"].as_u64() {
        Some(priority) => {
            assert_eq!(scheduling(&server, "capture"), (2, priority as u8));
            assert!(realtime["priority_refusal"].is_null(), "{realtime}");
        }
        None => {
            assert_eq!(scheduling(&server, "capture"), (0, 0));
            assert!(realtime["priority_refusal"].is_string(), "{realtime}");
        }
    }
    assert_eq!(realtime["locked_bytes"].as_u64() > Some(60_000), realtime["lock_refusal"].is_null(), "{realtime}");
}

/// The callback of a sound server's client runs on a thread that was started with the connection, and has the name of the one that
/// connected.
#[test]
fn the_thread_of_a_sound_server_has_what_the_status_says() {
    let sound_server = PulseServer::start();
    let program = sound_server.command(env!("CARGO_BIN_EXE_aircheck"), Way::Pulse);
    let server = Server::launch(program, &["--source", "mic"], |command| command);
    let granted = realtime(&server)["priority"].as_u64().map_or((0, 0), |priority| (2, priority as u8));
    eventually("its priority", || (scheduling(&server, "sound-system") == granted).then_some(()));
}

#[test]
fn without_permission_the_service_runs_and_the_status_says_why() {
    let mut limited = Command::new("setpriv");
    limited.args(["--bounding-set", "-sys_nice,-ipc_lock", "--inh-caps", "-sys_nice,-ipc_lock"]);
    limited.args(["prlimit", "--rtprio=0", "--memlock=0"]).arg(command().get_program());
    let server = Server::launch(limited, &["--source", "tone:440"], |command| command);
    let realtime = realtime(&server);
    assert_eq!(scheduling(&server, "capture"), (0, 0));
    assert!(realtime["priority"].is_null() && realtime["locked_bytes"] == 0, "{realtime}");
    assert!(realtime["priority_refusal"].as_str().unwrap().contains("LimitRTPRIO="), "{realtime}");
    assert!(realtime["lock_refusal"].as_str().unwrap().contains("LimitMEMLOCK="), "{realtime}");
}
