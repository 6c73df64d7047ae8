//! A recording that is left alone: its files' boundaries and ages, and what it does when the disk or the clock misbehaves.
//!
//! Disks of their own are mounted in a mount namespace of the server, which takes the rights of root. Without them these tests
//! say so and pass.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;
#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "common/numbered.rs"]
mod numbered;
#[path = "common/wall_clock.rs"]
mod wall_clock;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Server, command_behind, eventually, may_mount, refused, signal};
use rustix::fs::statvfs;
use serde_json::Value;
use wall_clock::WallClock;

/// Returns the sidecars in `directory` by name, each as its lines.
fn sidecars(directory: &Path) -> Vec<(String, Vec<Value>)> {
    let mut files: Vec<PathBuf> = directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), text.lines().flat_map(serde_json::from_str).collect())
    };
    files.iter().map(read).filter(|(_, lines): &(_, Vec<Value>)| !lines.is_empty()).collect()
}

fn captured_at(lines: &[Value]) -> f64 {
    lines[0]["recording"]["captured_at"].as_f64().unwrap()
}

fn end_of(lines: &[Value]) -> Option<&str> {
    lines.last()?["end"]["reason"].as_str()
}

/// Has ffmpeg decode every finished file in `directory`, and returns how many there are.
fn decode_all(directory: &Path) -> usize {
    let mut decoded = 0;
    for (stem, lines) in sidecars(directory) {
        let Some(frames) = lines.last().unwrap()["end"]["frames"].as_u64() else { continue };
        let file = ["wav", "flac"].map(|ending| directory.join(format!("{stem}.{ending}")));
        let file = file.iter().find(|path| path.exists()).unwrap();
        let mut ffmpeg = Command::new("ffmpeg");
        let output = ffmpeg.args(["-v", "error", "-i"]).arg(file).args(["-f", "s16le", "-"]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{stem}: {output:?}");
        let channels = lines[0]["recording"]["channels"].as_u64().unwrap();
        assert_eq!(output.stdout.len() as u64, frames * channels * 2, "{stem}");
        decoded += 1;
    }
    decoded
}

/// The kind of a disk.
enum Disk {
    Memory,
    /// A file system in a file, which can be frozen.
    Image,
}

/// A server with a disk of its own at `directory`, which only it and [`outside`](Self::outside) see.
struct OnDisk {
    server: Server,
    directory: PathBuf,
    _folder: tempfile::TempDir,
}

impl OnDisk {
    /// Mounts a disk of `megabytes` and records to it. Returns `None` without the rights for that.
    fn start(kind: Disk, megabytes: u32, flags: &[&str]) -> Option<Self> {
        if !may_mount() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("disk");
        fs::create_dir(&directory).unwrap();
        let script = match kind {
            Disk::Memory => format!("mount -t tmpfs -o size={megabytes}m tmpfs {}", directory.display()),
            Disk::Image => format!(
                "truncate -s {megabytes}m {0}.img && mkfs.ext4 -q {0}.img && mount -o loop {0}.img {0}",
                directory.display()
            ),
        };
        let script = format!("{script} && exec \"$0\" \"$@\"");
        let unshare = command_behind(&["unshare", "--mount", "sh", "-c", &script]);
        let source = ["--source", "tone:440", "--record", directory.to_str().unwrap()];
        let server = Server::launch(unshare, &[&source, flags].concat(), |command| command);
        Some(Self { server, directory, _folder: folder })
    }

    /// Returns the directory as it is seen from outside of the server.
    fn outside(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.server.pid());
        Path::new(&root).join(self.directory.strip_prefix("/").unwrap())
    }

    /// Runs a command in the server's mount namespace.
    fn inside(&self, arguments: &[&str]) {
        let pid = self.server.pid().to_string();
        let status = Command::new("nsenter").args(["--mount", "--target", &pid]).args(arguments).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    }

    fn recording(&self) -> Value {
        self.server.json("api/v1/status")["recording"].clone()
    }

    /// Waits for as many events of this name, and asserts that these are the states of all of them.
    fn assert_events(&self, name: &str, states: &[&str]) {
        let told = eventually(&format!("{states:?} of {name}"), || {
            let events = self.server.events().into_iter().filter(|event| event["event"] == name);
            let told: Vec<_> = events.map(|event| event["state"].as_str().unwrap().to_owned()).collect();
            (told.len() >= states.len()).then_some(told)
        });
        assert_eq!(told, states);
    }
}

#[test]
fn files_are_cut_at_the_clocks_boundaries_and_go_on_to_them_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let takes = folder.path().join("takes");
    let flags = ["--source", "tone:440", "--record", takes.to_str().unwrap(), "--record-split", "2s", "--record-align"];
    for _ in 0..2 {
        let mut server = Server::start(&flags);
        sleep(Duration::from_millis(4300));
        server.terminate();
        assert!(server.wait().success());
    }
    let mut files = sidecars(&takes);
    // Names have whole seconds, and the second run may begin within the last one of the first.
    files.sort_by(|(_, a), (_, b)| captured_at(a).total_cmp(&captured_at(b)));
    let mut whole = 0;
    for (pair, next) in files.iter().zip(&files[1..]) {
        let next_at = captured_at(&next.1);
        if end_of(&pair.1) == Some("split") {
            let off = next_at.rem_euclid(2.0);
            assert!(off < 0.0101, "{}: begins {off} s after a boundary", next.0);
            whole += 1;
        }
    }
    assert!(whole >= 2, "{files:?}");
    for (stem, lines) in &files {
        let frames = lines.last().unwrap()["end"]["frames"].as_f64().unwrap();
        let begin = captured_at(lines);
        assert!(begin.rem_euclid(2.0) + frames / 48_000.0 < 2.0201, "{stem} crosses a boundary");
    }
    assert_eq!(decode_all(&takes), files.len());
}

#[test]
fn old_files_are_deleted_with_their_sidecars() {
    let folder = tempfile::tempdir().unwrap();
    let takes = folder.path().join("takes");
    let directory = takes.to_str().unwrap();
    fs::create_dir(&takes).unwrap();
    fs::write(takes.join("aircheck-notes.txt"), "mine").unwrap();
    let flags = ["--source", "tone:440", "--record", directory, "--record-split", "1s"];
    let mut by_age = Server::start(&[&flags[..], &["--record-keep", "2s"]].concat());
    by_age.wait_for_log("as --record-keep says");
    sleep(Duration::from_secs(4));
    let files = sidecars(&takes);
    assert!((2..=5).contains(&files.len()), "{files:?}");
    assert!(captured_at(&files[0].1) > 0.0 && files[0].1[0]["recording"]["position"].as_u64() > Some(0));
    // In order: one that is killed while it deletes, which it does each second, leaves a sidecar alone.
    by_age.terminate();
    assert_eq!(by_age.wait().code(), Some(0));
    // A megabyte is two and a half files of 384 kB, besides the present one.
    let by_size = Server::start(&[&flags[..], &["--record-keep", "1d", "--record-keep", "1MB"]].concat());
    sleep(Duration::from_secs(5));
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let kept: u64 = takes.read_dir().unwrap().map(|entry| bytes(&entry.unwrap().path())).sum();
    assert!(kept < 1_000_000 + 2 * 400_000, "{kept}");
    eventually("a sidecar for each file", || {
        let paths = takes.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let wavs = paths.filter(|path| path.extension().unwrap() == "wav").count();
        (wavs == sidecars(&takes).len()).then_some(())
    });
    assert_eq!(fs::read_to_string(takes.join("aircheck-notes.txt")).unwrap(), "mine", "other files are left alone");
    drop(by_size);
}

#[test]
fn a_directory_is_not_shared_by_two_servers() {
    let folder = tempfile::tempdir().unwrap();
    let takes = folder.path().join("takes");
    let flags = ["--source", "tone:440", "--record", takes.to_str().unwrap()];
    let server = Server::start(&flags);
    let (code, stderr) = refused(&flags);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("another aircheck records to it (choose another directory with --record)"), "{stderr}");
    signal(server.pid(), "KILL");
    drop(server);
    // The lock ends with the process, however it ended.
    drop(Server::start(&flags));
}

#[test]
fn the_recording_stops_before_the_disk_is_full_and_goes_on_when_there_is_room() {
    // 384 kB a second: 4 MB and 5 s of sound are beyond the reserve at the start.
    let Some(disk) = OnDisk::start(Disk::Memory, 10, &["--record-reserve", "4MB", "--record-split", "1s"]) else {
        return;
    };
    eventually("a recording", || disk.recording()["blocks"].as_u64().filter(|blocks| *blocks > 50));
    let ballast = disk.outside().join("ballast");
    fs::write(&ballast, vec![0; 6_000_000]).unwrap();
    let full = eventually("the stop", || Some(disk.recording()).filter(|status| !status["failing"].is_null()));
    assert!(full["failing"].as_str().unwrap().contains("the disk is nearly full"), "{full}");
    assert!(full["file"].is_null(), "{full}");
    let (_, last) = sidecars(&disk.outside()).pop().unwrap();
    assert_eq!(end_of(&last), Some("disk nearly full"));
    // Listeners, and those that ask for them, are not concerned.
    assert_eq!(disk.server.ask(&[], "readyz").0, 200);
    assert!(disk.server.text("metrics").contains("aircheck_record_up{mount=\"main\"} 0"));
    disk.assert_events("disk", &["begin"]);
    sleep(Duration::from_secs(1));
    let files = sidecars(&disk.outside()).len();
    fs::remove_file(&ballast).unwrap();
    eventually("a new file", || (sidecars(&disk.outside()).len() > files).then_some(()));
    eventually("its sound", || disk.recording()["failing"].is_null().then_some(()));
    disk.assert_events("disk", &["begin", "end"]);
    assert!(disk.server.text("metrics").contains("aircheck_record_up{mount=\"main\"} 1"));
    let gap = eventually("the noted gap", || {
        sidecars(&disk.outside()).into_iter().flat_map(|(_, lines)| lines).find(|line| line.get("gap").is_some())
    });
    assert_eq!(gap["error"], "the disk was nearly full", "{gap}");
    let status = disk.recording();
    assert!(status["lost"].as_u64() >= gap["gap"]["blocks"].as_u64(), "{status} and {gap}");
    assert_eq!(disk.server.rows().len(), 0);
    assert!(decode_all(&disk.outside()) > 1);
}

/// The file that was being written counts as soon as it has ended: what is beyond `--record-keep` with it makes the room.
#[test]
fn a_recording_that_stopped_goes_on_in_the_room_of_what_is_beyond_its_bound() {
    let Some(disk) = OnDisk::start(Disk::Memory, 20, &["--record-reserve", "4MB", "--record-keep", "1MB"]) else {
        return;
    };
    // 3 MB: with them the disk has room for the five seconds that it takes to go on.
    eventually("eight seconds", || disk.recording()["blocks"].as_u64().filter(|blocks| *blocks > 800));
    let [(first, _)] = &sidecars(&disk.outside())[..] else { panic!("one file") };
    let free = statvfs(disk.outside()).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
    fs::write(disk.outside().join("ballast"), vec![0; free as usize - 3_900_000]).unwrap();
    disk.server.wait_for_log(&format!("deleted {first}, as --record-keep says"));
    eventually("a new file", || sidecars(&disk.outside()).iter().any(|(stem, _)| stem != first).then_some(()));
    disk.assert_events("disk", &["begin", "end"]);
    assert!(!disk.outside().join(format!("{first}.wav")).exists());
    let gap = eventually("the noted gap", || {
        sidecars(&disk.outside()).into_iter().flat_map(|(_, lines)| lines).find(|line| line.get("gap").is_some())
    });
    assert_eq!(gap["error"], "the disk was nearly full", "{gap}");
}

#[test]
fn a_disk_that_becomes_read_only_is_told_and_used_again() {
    let Some(disk) = OnDisk::start(Disk::Memory, 64, &["--record-reserve", "1MB", "--record-split", "1s"]) else {
        return;
    };
    eventually("a recording", || disk.recording()["blocks"].as_u64().filter(|blocks| *blocks > 50));
    let directory = disk.directory.to_str().unwrap();
    disk.inside(&["mount", "--bind", directory, directory]);
    disk.inside(&["mount", "-o", "remount,bind,ro", directory]);
    let failing = eventually("a failure", || disk.recording()["failing"].as_str().map(str::to_owned));
    assert!(failing.contains("Read-only file system"), "{failing}");
    assert_eq!(disk.server.ask(&[], "readyz").0, 200);
    disk.inside(&["umount", directory]);
    eventually("its end", || disk.recording()["failing"].is_null().then_some(()));
    disk.assert_events("recording", &["begin", "end"]);
    // The ring held everything meanwhile.
    assert_eq!(disk.recording()["lost"], 0);
}

/// Thaws a disk, also when the test fails: the server could not end otherwise.
struct Frozen<'d>(&'d OnDisk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.inside(&["fsfreeze", "--unfreeze", self.0.directory.to_str().unwrap()]);
    }
}

#[test]
fn a_disk_that_stands_still_for_seconds_loses_nothing_and_delays_nobody() {
    let flags = ["--record-reserve", "1MB", "--record-split", "1s"];
    let Some(disk) = OnDisk::start(Disk::Image, 64, &flags) else { return };
    eventually("a recording", || disk.recording()["blocks"].as_u64().filter(|blocks| *blocks > 50));
    disk.inside(&["fsfreeze", "--freeze", disk.directory.to_str().unwrap()]);
    let frozen = Frozen(&disk);
    let before = disk.server.json("api/v1/status")["capture"]["blocks"].as_u64().unwrap();
    sleep(Duration::from_secs(5));
    let waiting = disk.recording();
    assert!(waiting["queued"].as_u64() > Some(300), "it stands still: {waiting}");
    let after = disk.server.json("api/v1/status");
    assert!(after["capture"]["blocks"].as_u64().unwrap() > before + 400, "{after}");
    assert_eq!(disk.server.ask(&[], "readyz").0, 200);
    drop(frozen);
    eventually("its end", || (disk.recording()["queued"].as_u64() < Some(100)).then_some(()));
    assert_eq!(disk.recording()["lost"], 0);
}

#[test]
fn files_of_flac_hold_the_source_bit_for_bit_also_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let takes = folder.path().join("takes");
    let (directory, source) = (takes.to_str().unwrap(), numbered::source(folder.path(), 3));
    let flags = ["--record", directory, "--record-split", "1s", "--record-format", "flac"];
    let mut server = Server::start(&[&["--source", &source], &flags[..]].concat());
    assert!(server.wait().success());
    let files = sidecars(&takes);
    assert!(files.len() >= 3, "{files:?}");
    assert_eq!(decode_all(&takes), files.len());
    let mut samples = Vec::new();
    for (stem, lines) in &files {
        assert_eq!(lines[0]["recording"]["sample"], "s16");
        let file = takes.join(format!("{stem}.flac"));
        let mut ffmpeg = Command::new("ffmpeg");
        samples
            .extend(ffmpeg.args(["-v", "error", "-i"]).arg(&file).args(["-f", "s16le", "-"]).output().unwrap().stdout);
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-v", "error", "-show_entries", "stream=duration_ts", "-of", "csv=p=0"]).arg(&file);
        let counted = String::from_utf8(ffprobe.output().unwrap().stdout).unwrap();
        assert_eq!(counted.trim(), lines.last().unwrap()["end"]["frames"].to_string(), "the header counts its frames");
    }
    let wav = fs::read(folder.path().join("numbered.wav")).unwrap();
    assert!(samples == wav[44..], "the sound is that of the source");

    let killed = folder.path().join("killed");
    let flags = ["--source", "tone:440", "--record", killed.to_str().unwrap(), "--record-format", "flac"];
    let begun = Instant::now();
    let server = Server::start(&flags);
    eventually("two seconds and a half", || {
        (server.json("api/v1/status")["recording"]["blocks"].as_u64() >= Some(250)).then_some(())
    });
    signal(server.pid(), "KILL");
    drop(server);
    let most = begun.elapsed().as_secs_f64();
    let (stem, _) = sidecars(&killed).remove(0);
    let mut ffmpeg = Command::new("ffmpeg");
    let file = killed.join(format!("{stem}.flac"));
    let output = ffmpeg.args(["-v", "error", "-i"]).arg(&file).args(["-f", "s32le", "-"]).output().unwrap();
    let seconds = output.stdout.len() as f64 / (4.0 * 48_000.0);
    assert!(seconds > 1.5 && seconds < most, "{seconds} s: {output:?}", output = output.stderr);
}

#[test]
fn what_flac_cannot_hold_is_refused_kindly() {
    let folder = tempfile::tempdir().unwrap();
    let takes = folder.path().join("takes");
    let flags =
        ["--source", "tone:440", "--block", "1ms", "--record", takes.to_str().unwrap(), "--record-format", "flac"];
    drop(Server::start(&flags));
    let flags =
        ["--source", "stdin", "--channels", "9", "--record", takes.to_str().unwrap(), "--record-format", "flac"];
    let (code, stderr) = refused(&flags);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("up to 8 channels") && stderr.contains("--record-format wav"), "{stderr}");
}

#[test]
fn a_clock_that_is_set_by_a_day_and_back_begins_new_files_and_deletes_nothing() {
    let Some(clock) = WallClock::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let takes = folder.path().join("takes");
    let numbers = numbered::source(folder.path(), 30);
    let flags = ["--source", &numbers, "--record", takes.to_str().unwrap(), "--record-keep", "2h"];
    let mut server = Server::start_with(&flags, |command| clock.give_to(command));
    for (step, files) in [(0, 1), (86_400, 2), (0, 3), (-86_400, 4), (0, 5)] {
        clock.set(step);
        eventually("a new file", || (sidecars(&takes).len() >= files).then_some(()));
        sleep(Duration::from_millis(1500));
    }
    let recording = server.json("api/v1/status")["recording"].clone();
    assert!(recording["failing"].is_null() && recording["lost"] == 0, "{recording}");
    server.terminate();
    assert!(server.wait().success());
    let mut files = sidecars(&takes);
    assert_eq!(files.len(), 5);
    files.sort_by_key(|(_, lines)| lines[0]["recording"]["position"].as_u64());
    let mut position = 0;
    for (stem, lines) in &files {
        assert_eq!(lines[0]["recording"]["position"], position, "{stem} goes on where the last one ended");
        position += lines.last().unwrap()["end"]["frames"].as_u64().unwrap();
    }
    let times: Vec<f64> = files.iter().map(|(_, lines)| captured_at(lines)).collect();
    let days: Vec<f64> = times.windows(2).map(|pair| ((pair[1] - pair[0]) / 86_400.0).round()).collect();
    assert_eq!(days, [1.0, -1.0, -1.0, 1.0]);
    assert_eq!(decode_all(&takes), 5);
}
