//! Plants faults in a copy of the engine, one at a time, and sees the simulation (`engine/src/simulation.rs`) find each.
//!
//! It takes minutes, because the engine is built for each fault: `make faults` runs it, and `make soak` does.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Schedules after which a fault counts as not found.
const SCHEDULES: u64 = 100_000;

/// A fault: its description, the file, and the text that it replaces there.
struct Fault(&'static str, &'static str, &'static str, &'static str);

const FAULTS: [Fault; 30] = [
    Fault(
        "a block that finds the capture ring full takes no sequence number",
        "block_writer.rs",
        "            self.stats.block_refused(self.origin);\n        }\n        self.sequence += 1;",
        "            self.stats.block_refused(self.origin);\n            return;\n        }\n        self.sequence += 1;",
    ),
    Fault(
        "a block that finds the capture ring full is not counted",
        "block_writer.rs",
        "            self.stats.block_refused(self.origin);\n",
        "",
    ),
    Fault(
        "a loss by the device is one block too short",
        "block_writer.rs",
        "self.sequence += blocks;\n            self.stats.blocks_missed",
        "self.sequence += blocks - u64::from(blocks > 3);\n            self.stats.blocks_missed",
    ),
    Fault(
        "samples after a loss are not discarded up to the grid",
        "block_writer.rs",
        "self.to_discard = frames as usize * self.channels();",
        "let _ = frames;",
    ),
    Fault(
        "the incomplete block before a loss is kept",
        "block_writer.rs",
        "            self.filled = 0;\n            self.sequence",
        "            self.sequence",
    ),
    Fault(
        "the last, short block is dropped",
        "block_writer.rs",
        "            self.emit_staged();\n        }\n        if thread",
        "        }\n        if thread",
    ),
    Fault(
        "a silent loss is found only above 300 ms",
        "timeline.rs",
        "const MAX_JITTER: Duration = Duration::from_millis(60);",
        "const MAX_JITTER: Duration = Duration::from_millis(300);",
    ),
    Fault(
        "a loss that several timestamps show is declared twice",
        "timeline.rs",
        "        self.neighbours.forgive();\n        self.slots.forgive();\n",
        "",
    ),
    Fault(
        "two slots decide instead of four, so that a frozen sound server is a loss",
        "timeline.rs",
        "const SLOTS: u32 = 4;",
        "const SLOTS: u32 = 2;",
    ),
    Fault(
        "an early timestamp is not compared with its neighbours",
        "timeline.rs",
        "(!is_wrong).then_some(observed)",
        "(!is_wrong || true).then_some(observed)",
    ),
    Fault(
        "the dispatcher fills a block that a consumer still holds",
        "pool.rs",
        "            if Arc::get_mut(&mut block).is_some() {",
        "            if Arc::get_mut(&mut block).is_some() || self.blocks.len() > 20 {",
    ),
    Fault(
        "the dispatcher ends before the ring is empty",
        "dispatcher.rs",
        "while taken < MAX_BATCH_BLOCKS\n",
        "while taken < MAX_BATCH_BLOCKS\n            && !ending\n",
    ),
    Fault(
        "the blocks lost at the end are not announced",
        "dispatcher.rs",
        "            self.publisher.advance_to(self.capture.next_sequence());\n",
        "",
    ),
    Fault(
        "a failed source reads as finished",
        "dispatcher.rs",
        "if self.capture.failure().is_some() { EndReason::Failed }",
        "if self.capture.failure().is_none() && false { EndReason::Failed }",
    ),
    Fault(
        "a loss on the hop is blamed on the source",
        "dispatcher.rs",
        "self.publisher.lose_to(lost_to.min(sequence), Loss::Hop);",
        "self.publisher.lose_to(lost_to.min(sequence), Loss::Source);",
    ),
    Fault(
        "a consumer behind losses on the hop does not skip",
        "stats.rs",
        "[first, overflow, source, history, hop, accepted]",
        "[first, overflow, source, history, accepted]",
    ),
    Fault(
        "the history forgets one item too early",
        "publisher.rs",
        "*remembered - oldest.stamp.blocks() >= *history_limit",
        "*remembered - oldest.stamp.blocks() + 1 >= *history_limit",
    ),
    Fault(
        "a ring that has grown takes items beyond its length",
        "growing_ring.rs",
        "in_last + self.first.as_ref().map_or(0, |first| before_mark(first.queued()))",
        "in_last",
    ),
    Fault(
        "a consumer counts only the items in the ring that it reads",
        "growing_ring.rs",
        "before_mark(self.ring.len()) + second.len()",
        "before_mark(self.ring.len()) + 0 * second.len()",
    ),
    Fault(
        "a skip over both rings leaves its consumer in the first",
        "lending.rs",
        "while !self.ring.is_empty(growth(&self.shared)) && left > 0 {",
        "while left > 0 && !self.ring.is_empty(growth(&self.shared)) {",
    ),
    Fault(
        "a start inside an item starts after it",
        "consumer_ring.rs",
        "item.stamp.next() <= requested",
        "item.stamp.first() < requested",
    ),
    Fault(
        "what the history no longer had is not counted",
        "consumer_ring.rs",
        "        self.refuse(Loss::History, self.expected - first);\n",
        "",
    ),
    Fault(
        "an overflow is blamed on the source",
        "consumer_ring.rs",
        "self.missing.add(Loss::Overflow, stamp.blocks());",
        "self.missing.add(Loss::Source, stamp.blocks());",
    ),
    Fault(
        "a consumer is disconnected at its end only",
        "consumer_ring.rs",
        "if self.overflow == OverflowPolicy::Disconnect {",
        "if self.overflow == OverflowPolicy::Disconnect && stamp.sequence % 8 == 7 {",
    ),
    Fault(
        "a replaced item of two blocks counts as one",
        "consumer_ring.rs",
        "self.stats.conflated(replaced.stamp.blocks());",
        "self.stats.conflated(1);",
    ),
    Fault(
        "a consumer skips one block too late",
        "skip.rs",
        "        lag > self.blocks()\n",
        "        lag > self.blocks() + 1\n",
    ),
    Fault(
        "a consumer keeps the lag that it asked for at the start",
        "skip.rs",
        "        self.requested = self.requested.min(lag);\n",
        "",
    ),
    Fault(
        "a skip is told as an overflow",
        "consumer.rs",
        "if 2 * std::mem::take(&mut self.skipped) >= blocks {",
        "if 2 * std::mem::take(&mut self.skipped) > blocks + 1 {",
    ),
    Fault(
        "a forgotten batch keeps its slots while its consumer only asks",
        "consumer.rs",
        "        self.reader.take_back();\n",
        "",
    ),
    Fault(
        "an armed consumer is not woken",
        "publisher.rs",
        "if self.notices.has_waiters() {",
        "if self.notices.has_waiters() && self.next % 16 > 0 {",
    ),
];

/// A fault that has no place any more would be noticed only when all are planted.
#[test]
fn each_fault_has_its_place() {
    for Fault(name, file, before, _) in &FAULTS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).unwrap();
        assert_eq!(text.matches(before).count(), 1, "{name}: not exactly once in {file}: {before}");
    }
}

#[test]
#[ignore = "builds the engine for each fault, which takes minutes: make faults"]
fn the_simulation_finds_every_planted_fault() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("engine");
    copy_files(engine, &copy);
    let root = engine.parent().unwrap();
    fs::copy(root.join("Cargo.lock"), directory.path().join("Cargo.lock")).unwrap();
    fs::write(directory.path().join("Cargo.toml"), manifest(&fs::read_to_string(root.join("Cargo.toml")).unwrap()))
        .unwrap();
    let sane = simulate(directory.path(), 2000);
    assert!(sane.status.success(), "without a fault: {}", String::from_utf8_lossy(&sane.stderr));
    let mut missed = Vec::new();
    for Fault(name, file, before, after) in &FAULTS {
        let path = copy.join("src").join(file);
        let right = fs::read_to_string(&path).unwrap();
        fs::write(&path, right.replace(before, after)).unwrap();
        let output = simulate(directory.path(), SCHEDULES);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let found = said.split_once("schedule ").and_then(|(_, rest)| rest.split_once(" of this run failed"));
        let fault = said.lines().find(|line| line.starts_with("SEED=")).unwrap_or_default();
        match found {
            Some((number, _)) => println!("| {name} | `{file}` | {number} | {fault}"),
            // What has corrupted memory may end the process before it can say so.
            None if said.contains("(signal: ") => println!("| {name} | `{file}` | ends by a signal |"),
            None => missed.push(format!("{name}: {}", said.lines().take(20).collect::<Vec<_>>().join("\n"))),
        }
        fs::write(&path, right).unwrap();
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// Runs the simulation of the copy.
fn simulate(workspace: &Path, schedules: u64) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "test",
        "--package",
        "aircheck-engine",
        "--no-default-features",
        "--features",
        "latest,sound",
        "--lib",
        "--offline",
        "-j2",
        "--",
    ]);
    cargo.args(["--nocapture", "simulation::every_schedule"]);
    cargo.current_dir(workspace).env("CARGO_TARGET_DIR", workspace.join("target"));
    cargo.env("SCHEDULES", schedules.to_string()).env("RUST_BACKTRACE", "0").output().unwrap()
}

/// Returns the workspace's manifest with the engine as its only member.
fn manifest(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut is_skipped = false;
    for line in text.lines() {
        if line.starts_with('[') {
            // Profiles of packages that the engine does not need are warnings.
            is_skipped = line.starts_with("[profile.dev.package") && !line.contains("aircheck-engine");
        }
        if line.starts_with("members") {
            lines.push("members = [\"engine\"]");
        } else if !is_skipped {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_files(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
