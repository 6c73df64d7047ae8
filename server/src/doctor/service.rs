//! The service manager: whether there is one, and how it stands with the service.

use std::path::Path;
use std::process::{Command, Stdio};

use super::finding::{Area, Finding};

/// Exists while systemd runs the machine (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";
/// Files that container engines leave in their containers. Some set the variable `container` instead.
const CONTAINERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Asks systemd for the unit, where there is a systemd.
pub(super) fn check() -> Vec<Finding> {
    let ok = |text: &str| vec![Finding::ok(Area::Service, text)];
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        return ok("systemd has started this, and is told when the service serves");
    }
    if std::env::var_os("container").is_some() || CONTAINERS.into_iter().any(|file| Path::new(file).exists()) {
        return ok("in a container, whose engine starts it again if told to");
    }
    if !Path::new(SYSTEMD).exists() {
        return ok("there is no systemd: it runs for as long as you let it");
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["show", "aircheck", "--property=LoadState,UnitFileState,ActiveState,Result"]);
    match systemctl.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => vec![finding(&Unit::of(&String::from_utf8_lossy(&output.stdout)))],
        _ => vec![Finding::note(
            Area::Service,
            "systemd runs this machine, but `systemctl show aircheck` fails",
            "see what it says; the service can run without systemd",
        )],
    }
}

/// The state of the unit, in systemd's words.
#[derive(Debug, Default)]
struct Unit {
    load: String,
    file: String,
    active: String,
    result: String,
}

impl Unit {
    /// Reads the answer of `systemctl show`.
    fn of(answer: &str) -> Self {
        let value = |key: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        Self {
            load: value("LoadState"),
            file: value("UnitFileState"),
            active: value("ActiveState"),
            result: value("Result"),
        }
    }
}

fn finding(unit: &Unit) -> Finding {
    const AS_THE_SERVICE: &str = "these lines are about your user and your shell; docs/operations.md says how to check as \
                                  the service, with its user, its settings and its limits";
    match (&*unit.load, &*unit.active, &*unit.file) {
        ("loaded", "failed", _) => Finding::note(
            Area::Service,
            format!("the unit aircheck.service has failed: {}", unit.result),
            "its log says why:",
        )
        .with_command("journalctl --unit aircheck --lines 20"),
        ("loaded", "active", file) => {
            let text = format!("the unit aircheck.service is on the air ({file})");
            Finding::ok(Area::Service, text).with_advice(AS_THE_SERVICE)
        }
        ("loaded", active, file) => {
            let text = format!("the unit aircheck.service is installed: {active}, {file}");
            Finding::ok(Area::Service, text).with_advice(AS_THE_SERVICE)
        }
        ("masked" | "bad-setting" | "error", ..) => Finding::note(
            Area::Service,
            format!("the unit aircheck.service cannot be started: {}", unit.load),
            "see what systemd says about it:",
        )
        .with_command("systemctl status aircheck"),
        _ => Finding::ok(Area::Service, "no unit aircheck.service: it runs for as long as you let it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn each_state_of_the_unit_has_its_words() {
        let check = |answer: &str| finding(&Unit::of(answer));
        let failed = check("LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\nResult=exit-code\n");
        assert!(failed.level() == Level::Note && failed.text(false).contains("has failed: exit-code"), "{failed:?}");
        let active = check("Result=success\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n");
        assert!(active.level() == Level::Ok && active.text(false).contains("is on the air (enabled)"), "{active:?}");
        assert!(check("LoadState=not-found\nActiveState=inactive\n").text(false).contains("no unit"));
        assert_eq!(check("LoadState=masked\nActiveState=inactive\n").level(), Level::Note);
        assert_eq!(check("").level(), Level::Ok);
    }
}
