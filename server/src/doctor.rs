//! `aircheck doctor`: checks whether this machine can put the configured source on the air.
//!
//! Each check is a file and gives findings in plain words: what is well, what could be better, and what
//! keeps the service from the air, with what to do. What may hang, such as a sound server, a disk or a service manager, is
//! asked at the same time on threads of their own, and none is waited for longer than 18 s. The recording comes after the source,
//! whose format it needs, and has 5 s more at most.
//!
//! Nothing is recorded and nothing is changed. A microphone is opened and heard for a moment, an address is taken for an
//! instant, and a directory is tried with a file without a name.

mod finding;
mod pending;
mod report;

mod access;
mod address;
mod clock;
mod directory;
mod files;
mod realtime;
mod recording;
mod service;
mod settings;
mod source;
mod tls;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use finding::{Area, Finding};
use pending::Pending;
use report::Report;

use crate::access::scope::Scope;
use crate::config::{Config, Given};

/// Longest wait for all checks but that of the recording. A sound server that hangs may be found out at each of three steps, after 5 s each, and may
/// then hold up the end of the sound for a moment.
const CHECK_TIMEOUT: Duration = Duration::from_secs(18);

/// Runs all checks, writes their findings to standard output, and returns whether the service can go on the air.
///
/// Text comes as the checks end, JSON at the end of all.
#[must_use]
pub fn run(given: Given, json: bool) -> bool {
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let has_colors = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut report = Report::default();
    let mut show = |findings: Vec<Finding>| {
        if !json {
            print(&findings.iter().map(|finding| finding.text(has_colors)).collect::<String>());
        }
        report.add(findings);
    };
    show(settings::check(&given, std::env::vars_os().map(|(name, _)| name)));
    // With a wrong setting, the rest of the machine is checked for the defaults.
    let config = given.config.unwrap_or_default();
    check(&config, given.file.as_deref(), deadline, &mut show);
    print(&if json { report.json() } else { report.verdict() });
    report.can_go_on_the_air()
}

fn check(config: &Config, file: Option<&Path>, deadline: Instant, show: &mut dyn FnMut(Vec<Finding>)) {
    let http = config.http.clone();
    let takes_token = config.rules().needs_token(&Scope::Listen(None));
    let address = Pending::start(move || address::check(&http, takes_token));
    let http = config.http.clone();
    let tls = Pending::start(move || tls::check(&http, SystemTime::now()));
    let realtime = Pending::start(realtime::check);
    let clock = Pending::start(clock::check);
    let service = Pending::start(service::check);
    let sources: Vec<_> = config
        .mounts
        .iter()
        .map(|mount| {
            let capture = mount.capture.clone();
            Pending::start(move || source::check(&capture))
        })
        .collect();

    show(address.wait(deadline).unwrap_or_else(|| late(Area::Address)));
    show(tls.wait(deadline).unwrap_or_else(|| late(Area::Tls)));
    show(access::check(config, file));
    show(realtime.wait(deadline).unwrap_or_else(|| late(Area::Realtime)));
    show(clock.wait(deadline).unwrap_or_else(|| late(Area::Clock)));
    show(vec![files::check(config.http.max_listeners)]);
    show(service.wait(deadline).unwrap_or_else(|| late(Area::Service)));
    for (mount, source) in config.mounts.iter().zip(sources) {
        let of_mount = |findings: Vec<Finding>| match &config.mounts[..] {
            [_] => findings,
            _ => findings.into_iter().map(|finding| finding.of_mount(&mount.name)).collect(),
        };
        let (findings, sound) = source.wait(deadline).unwrap_or_else(|| (late(Area::Source), None));
        show(of_mount(findings));
        let (recorder, block) = (mount.recorder.clone(), mount.capture.block);
        let recording = Pending::start(move || recording::check(&recorder, sound, block));
        // A disk that hangs is given a moment even if the sound server has taken all of the time.
        let deadline = deadline.max(Instant::now() + recording::TIMEOUT);
        show(of_mount(recording.wait(deadline).unwrap_or_else(|| late(Area::Recording))));
    }
}

/// Returns the finding of a check that has not ended in time.
fn late(area: Area) -> Vec<Finding> {
    let advice = match area {
        Area::Source => "start the sound server again, or connect the device again",
        Area::Recording => "see whether the disk, or the network that it is on, answers",
        _ => "try again when the machine has less to do",
    };
    vec![Finding::fault(area, "the check got no answer in time", advice)]
}

/// Prints a text to standard output. A closed standard output is no failure: its reader has seen enough.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
