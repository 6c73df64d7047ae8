//! `deploy/compose.scale.yaml` without containers: each of its services as a process, with its command and its environment.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use common::{Server, curl, eventually};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
const NATS_SERVERS: [&str; 3] = ["nats-1", "nats-2", "nats-3"];
/// Where the file mounts the tokens.
const TOKENS: &str = "/etc/aircheck.toml";

/// Returns what stands after `key` in the lines below `service`, on one line.
fn value_of<'f>(file: &'f str, service: &str, key: &str) -> Option<&'f str> {
    let start = file.find(&format!("\n  {service}:\n"))? + service.len() + 4;
    let end = file[start..].find("\n\n").map_or(file.len(), |end| start + end);
    file[start..end].lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "))
}

/// Returns the file as it stands for this machine, where each service has an address of loopback in place of its name, and free ports.
fn for_this_machine(file: &str) -> String {
    let mut file = file.to_owned();
    for (index, name) in NATS_SERVERS.iter().enumerate() {
        file = file.replace(&format!("{name}:"), &format!("{}:", address(index)));
    }
    for port in ["4222", "6222"] {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        file = file.replace(port, &free.to_string());
    }
    let is_server = |rest: &str| rest.starts_with(|digit: char| digit.is_ascii_digit());
    assert!(!file.split("nats-").skip(1).any(is_server), "no other server is named");
    file
}

fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, index as u8 + 1)
}

/// The servers of the cluster, ended when dropped.
struct Cluster(Vec<Child>);

impl Cluster {
    fn start(file: &str, directory: &Path) -> Self {
        let (_, command) = file.split_once("\n  command: ").unwrap();
        let command: Vec<String> = serde_json::from_str(&command[..=command.find(']').unwrap()]).unwrap();
        let start = |index: usize| {
            let own = |word: &String| word.replace("0.0.0.0", &address(index).to_string());
            let log = directory.join(format!("nats-{index}.log"));
            Command::new("nats-server")
                .args(command.iter().map(own))
                .arg("--log")
                .arg(log)
                .stdin(Stdio::null())
                .spawn()
                .expect("nats-server is installed (make setup-test)")
        };
        Self((0..NATS_SERVERS.len()).map(start).collect())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Makes the tokens. Returns their file, and the user by which a person is known.
fn tokens(directory: &Path) -> (PathBuf, String) {
    let script = directory.join("tokens.sh");
    fs::copy(Path::new(DEPLOY).join("tokens.sh"), &script).unwrap();
    assert!(Command::new("bash").arg(&script).stdout(Stdio::null()).status().unwrap().success());
    let private = directory.join("private");
    let user = format!("any:{}", fs::read_to_string(private.join("page.token")).unwrap().trim());
    (private.join("aircheck.toml"), user)
}

#[test]
fn the_services_of_the_compose_file_find_each_other() {
    let written = fs::read_to_string(Path::new(DEPLOY).join("compose.scale.yaml")).unwrap();
    for name in NATS_SERVERS {
        assert!(written.contains(&format!("\n  {name}: *nats\n")), "{name}");
    }
    let file = for_this_machine(&written);
    let directory = tempfile::tempdir().unwrap();
    let _cluster = Cluster::start(&file, directory.path());
    let (config, user) = tokens(directory.path());
    let start = |service: &str, keys: &[&str]| {
        let environment = keys.iter().map(|key| {
            let value = value_of(&file, service, key).unwrap_or_else(|| panic!("{service} has no {key}"));
            let value = match value.strip_prefix("${AIRCHECK_SOURCE:-").and_then(|value| value.strip_suffix('}')) {
                Some(default) => {
                    assert_eq!(default, "auto");
                    "tone:440"
                }
                None => value.trim_matches('"'),
            };
            (*key, value.replace(TOKENS, config.to_str().unwrap()))
        });
        Server::start_with(&[], |command| command.envs(environment))
    };
    let origin = start("origin", &["AIRCHECK_CONFIG", "AIRCHECK_SOURCE", "AIRCHECK_PUBLISH"]);
    let edges = ["edge-1", "edge-2"]
        .map(|edge| start(edge, &["AIRCHECK_CONFIG", "AIRCHECK_SOURCE", "AIRCHECK_WAIT_FOR_SOURCE"]));
    let status = |server: &Server| -> Option<Value> {
        assert_eq!(server.ask(&[], "api/v1/status").0, 401, "it takes a token");
        let output = curl(&["--fail", "--user", &user, &server.url("api/v1/status")]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    };
    for edge in &edges {
        let status = eventually("the sound", || {
            status(edge).filter(|status| status["hop"]["messages"]["taken"].as_u64() > Some(20))
        });
        assert_eq!(status["capture"]["lost_hop"], 0, "{status}");
    }
    let publish = status(&origin).unwrap()["publish"].clone();
    assert_eq!((&publish["connected"], &publish["lost"]), (&true.into(), &0.into()), "{publish}");
    // Everything that the file sets is known by the names above.
    let set = written.lines().filter(|line| line.starts_with("      AIRCHECK_")).count();
    assert_eq!(set, 9);
}
