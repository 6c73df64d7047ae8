//! What may keep this user from the sound devices or the sound server of a desktop.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::doctor::finding::{Area, Finding};

/// The kernel's sound devices.
const DEVICES: &str = "/dev/snd";
/// The kernel's list of sound cards.
const CARDS: &str = "/proc/asound";

/// Looks for devices that are there but closed to this user, or that a container does not have.
pub(super) fn devices() -> Option<Finding> {
    check(Path::new(DEVICES), Path::new(CARDS))
}

fn check(devices: &Path, cards: &Path) -> Option<Finding> {
    let names = |directory: &Path, fits: fn(&str) -> bool| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_str().is_some_and(fits)).map(|entry| entry.path()).collect()
    };
    // pcmC0D0c is the first device of the first card, for capturing.
    let inputs = names(devices, |name| name.starts_with("pcm") && name.ends_with('c'));
    let has_cards =
        !names(cards, |name| name.strip_prefix("card").is_some_and(|n| n.parse::<u32>().is_ok())).is_empty();
    if inputs.is_empty() {
        return (has_cards && !devices.exists()).then(|| {
            Finding::note(
                Area::Source,
                format!("the kernel has a sound card, but there is no {}, as in a container", devices.display()),
                "give the container the devices and the group audio, as deploy/compose.microphone.yaml does",
            )
        });
    }
    let is_open = |path: &PathBuf| access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    if inputs.iter().any(is_open) {
        let text = format!("this user may open the inputs in {}", devices.display());
        return Some(Finding::ok(Area::Source, text));
    }
    let user = std::env::var("USER").unwrap_or_else(|_| "USER".to_owned());
    Some(
        Finding::note(
            Area::Source,
            format!("this user may not open the inputs in {}", devices.display()),
            "they belong to the group audio: join it, and log in again",
        )
        .with_command(format!("sudo usermod --append --groups audio {user}")),
    )
}

/// Returns why a sound server of a desktop may not be found, if there is a sign of it.
pub(super) fn sound_server() -> Option<Finding> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_root = rustix::process::geteuid().is_root();
    if let Some(server) = variable("PULSE_SERVER") {
        let text = format!("PULSE_SERVER is {server}, and no sound server answers there");
        return Some(Finding::note(Area::Source, text, "start that server, correct the variable, or unset it"));
    }
    if let Some(user) = variable("SUDO_USER").filter(|_| is_root) {
        let text = format!("this runs as root: the sound server of {user} is out of its reach");
        return Some(Finding::note(Area::Source, text, format!("run it as {user}, without sudo")));
    }
    variable("XDG_RUNTIME_DIR").is_none().then(|| {
        Finding::note(
            Area::Source,
            "XDG_RUNTIME_DIR is not set, so the sound server of a desktop is not found",
            "run it as the user that is logged in at the desktop, from a terminal there",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn closed_devices_are_told_from_open_and_from_missing_ones() {
        let root = tempfile::tempdir().unwrap();
        let (devices, cards) = (root.path().join("snd"), root.path().join("asound"));
        assert_eq!(check(&devices, &cards), None, "no sound card");
        fs::create_dir_all(cards.join("card0")).unwrap();
        let missing = check(&devices, &cards).unwrap();
        assert!(missing.level() == Level::Note && missing.text(false).contains("container"), "{missing:?}");
        fs::create_dir(&devices).unwrap();
        assert_eq!(check(&devices, &cards), None, "a card without an input");
        fs::write(devices.join("pcmC0D0p"), "").unwrap();
        assert_eq!(check(&devices, &cards), None, "an output");
        let input = devices.join("pcmC0D0c");
        fs::write(&input, "").unwrap();
        assert_eq!(check(&devices, &cards).unwrap().level(), Level::Ok);
        // A link to nowhere is closed to root as well.
        fs::remove_file(&input).unwrap();
        std::os::unix::fs::symlink(root.path().join("nowhere"), &input).unwrap();
        let closed = check(&devices, &cards).unwrap();
        assert!(closed.level() == Level::Note && closed.text(false).contains("usermod"), "{closed:?}");
    }
}
