//! Tests of the real program's recordings: they equal the source, sample by sample, and have silence with a note where a
//! block is missing, also after a kill and after a failure of the disk.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Listener, Server, eventually, refused, signal};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use serde_json::Value;
use tempfile::TempDir;

/// A source, and a directory for its recording, which the recorder makes.
struct Setup {
    folder: TempDir,
    channels: usize,
    /// The source's samples, interleaved. None is silent.
    samples: Vec<f32>,
}

impl Setup {
    /// Writes so many frames of noise to a WAV file.
    fn noise(channels: u16, sample_rate: u32, sample_format: SampleFormat, frames: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bits_per_sample = if sample_format == SampleFormat::Int { 16 } else { 32 };
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let mut writer = WavWriter::create(folder.path().join("source.wav"), spec).unwrap();
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut sample = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if sample_format == SampleFormat::Int {
                let integer = state as i16 | 1;
                writer.write_sample(integer).unwrap();
                f32::from(integer) / 32_768.0
            } else {
                // Some samples are beyond full scale.
                let float = (state as i32 | 1) as f32 / 1_500_000_000.0;
                writer.write_sample(float).unwrap();
                float
            }
        };
        let samples = (0..frames * u32::from(channels)).map(|_| sample()).collect();
        writer.finalize().unwrap();
        Self { folder, channels: channels.into(), samples }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("deep/recording")
    }

    /// Returns the name to which the directory is moved, so that no file can be made in it.
    fn moved_directory(&self) -> PathBuf {
        self.folder.path().join("away")
    }

    fn flags(&self, more: &[&str]) -> Vec<String> {
        let source = format!("wav:{}", self.folder.path().join("source.wav").display());
        let directory = self.directory().display().to_string();
        [&["--source", &source, "--record", &directory], more].concat().into_iter().map(str::to_owned).collect()
    }

    fn start(&self, more: &[&str]) -> Server {
        let flags = self.flags(more);
        Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn frames(&self) -> usize {
        self.samples.len() / self.channels
    }

    /// Reads the recording, and compares it with the source.
    fn read_back(&self) -> Recorded {
        let mut recorded = Recorded { files: segments(&self.directory()), ..Recorded::default() };
        let mut position = 0;
        for segment in &recorded.files {
            assert_eq!(segment.position, position, "{}", segment.path.display());
            let counted = &segment.samples[..segment.frames * self.channels];
            for (frame, samples) in counted.chunks_exact(self.channels).enumerate() {
                let start = (position + frame) * self.channels;
                if segment.gaps.iter().any(|gap| (gap.frame..gap.frame + gap.frames).contains(&frame)) {
                    assert!(samples.iter().all(|sample| *sample == 0.0), "{}: {frame}", segment.path.display());
                    recorded.silent_frames += 1;
                } else {
                    let source = &self.samples[start..start + self.channels];
                    assert_eq!(samples, source, "{}: {frame}", segment.path.display());
                }
            }
            recorded.missing.extend(segment.gaps.iter().flat_map(|gap| gap.from..gap.from + gap.blocks));
            position += segment.frames;
        }
        recorded.end = position;
        recorded
    }
}

#[derive(Default)]
struct Recorded {
    files: Vec<Segment>,
    /// Number of frames in all files.
    end: usize,
    silent_frames: usize,
    /// Sequence numbers that a sidecar notes as missing.
    missing: BTreeSet<u64>,
}

/// A file of a recording with its sidecar.
struct Segment {
    path: PathBuf,
    recording: Value,
    position: usize,
    samples: Vec<f32>,
    /// Frames that count.
    frames: usize,
    gaps: Vec<Gap>,
    end: Option<Value>,
}

struct Gap {
    from: u64,
    blocks: u64,
    reason: String,
    error: Option<String>,
    frame: usize,
    frames: usize,
    at: f64,
}

/// Reads all segments in the order of their names.
fn segments(directory: &Path) -> Vec<Segment> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wav"));
    paths.sort();
    paths.into_iter().map(segment).collect()
}

fn segment(path: PathBuf) -> Segment {
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let text = fs::read_to_string(path.with_extension("jsonl")).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let recording = lines.next().unwrap()["recording"].take();
    let mut reader = WavReader::open(&path).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.bits_per_sample, spec.sample_format), (32, SampleFormat::Float));
    assert_eq!(recording["rate_hz"], spec.sample_rate);
    assert_eq!(recording["channels"], spec.channels);
    let samples: Vec<f32> = reader.samples().map(Result::unwrap).collect();
    let mut frames = samples.len() / usize::from(spec.channels);
    let (mut gaps, mut end) = (Vec::new(), None);
    for mut line in lines {
        if line.get("gap").is_some() {
            gaps.push(Gap {
                from: line["gap"]["from"].as_u64().unwrap(),
                blocks: line["gap"]["blocks"].as_u64().unwrap(),
                reason: line["gap"]["reason"].as_str().unwrap().to_owned(),
                error: line.get("error").map(Value::to_string),
                frame: number(&line["frame"]),
                frames: number(&line["frames"]),
                at: line["at"].as_f64().unwrap(),
            });
        } else {
            frames = number(&line["end"]["frames"]);
            end = Some(line["end"].take());
        }
    }
    Segment { path, position: number(&recording["position"]), recording, samples, frames, gaps, end }
}

/// Waits until `condition` holds for the recorder's part of the status, and returns that.
fn status_when(server: &Server, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(server.json("api/v1/status")["recording"].take()).filter(|status| condition(status)))
}

fn lines_with(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

/// Records a source to its end in files of a second, and compares.
fn check_recording_equals_source(setup: &Setup, block: &str, block_frames: usize, rate_hz: usize) {
    let mut server = setup.start(&["--record-split", "1s", "--block", block]);
    assert!(server.wait().success());
    let recorded = setup.read_back();
    assert_eq!((recorded.end, recorded.silent_frames, recorded.missing.len()), (setup.frames(), 0, 0));
    // All files but the last have whole blocks, and at least a second.
    let full = rate_hz.div_ceil(block_frames) * block_frames;
    let (last, others) = recorded.files.split_last().unwrap();
    assert_eq!(others.len(), (setup.frames() - 1) / full);
    let mut continues = Value::Null;
    for file in &recorded.files {
        assert_eq!(file.samples.len(), file.frames * setup.channels);
        assert_eq!(file.recording["first_sequence"].as_u64().unwrap() as usize * block_frames, file.position);
        assert_eq!(file.recording["continues"], continues);
        continues = file.path.file_name().unwrap().to_str().into();
    }
    assert!(others.iter().all(|file| file.frames == full && file.end.as_ref().unwrap()["reason"] == "split"));
    assert_eq!(last.end.as_ref().unwrap()["reason"], "finished");
    let began = |file: &Segment| file.recording["captured_at"].as_f64().unwrap();
    let apart = began(last) - began(&recorded.files[0]);
    assert!((apart - last.position as f64 / rate_hz as f64).abs() < 0.001, "{apart}");
    let log = server.log();
    assert_eq!(
        lines_with(&log, &format!("recording to {}, a new file every 1s", setup.directory().display())),
        1,
        "{log}"
    );
}

#[test]
fn a_recording_equals_a_source_of_16_bits() {
    let setup = Setup::noise(2, 44_100, SampleFormat::Int, 3 * 44_100 + 12_345);
    check_recording_equals_source(&setup, "10ms", 441, 44_100);
}

#[test]
fn a_recording_equals_a_source_of_floats_with_blocks_that_do_not_divide_a_second() {
    let setup = Setup::noise(1, 48_000, SampleFormat::Float, 2 * 48_000 + 12_345);
    check_recording_equals_source(&setup, "7ms", 336, 48_000);
}

#[test]
fn a_disk_failure_shorter_than_the_ring_loses_nothing() {
    let setup = Setup::noise(2, 8000, SampleFormat::Int, 15 * 8000 + 33);
    let mut server = setup.start(&["--record-split", "1s", "--history", "500ms"]);
    status_when(&server, "sound", |status| status["blocks"].as_u64().unwrap() > 20);
    fs::rename(setup.directory(), setup.moved_directory()).unwrap();
    let status = status_when(&server, "a failure", |status| !status["failing"].is_null());
    let failing = status["failing"].as_str().unwrap();
    assert!(failing.contains(setup.directory().to_str().unwrap()) && failing.contains("os error 2"), "{failing}");
    assert!(status["file"].is_null());
    // The failure lasts longer than the time between two attempts.
    status_when(&server, "a queue", |status| status["queued"].as_u64().unwrap() > 250);
    fs::rename(setup.moved_directory(), setup.directory()).unwrap();
    let status = status_when(&server, "its end", |status| status["failing"].is_null());
    assert_eq!(status["lost"], 0);
    assert!(server.wait().success());
    let recorded = setup.read_back();
    assert_eq!((recorded.end, recorded.silent_frames, recorded.missing.len()), (setup.frames(), 0, 0));
    let log = server.log();
    assert_eq!(lines_with(&log, "cannot record, trying again: "), 1, "{log}");
    assert_eq!(lines_with(&log, "recording again to "), 1, "{log}");
}

#[test]
fn a_disk_failure_longer_than_the_ring_loses_a_noted_gap() {
    let setup = Setup::noise(1, 8000, SampleFormat::Int, 24 * 8000 + 33);
    // A consumer that may start in the past has a ring that is longer by the history.
    let mut server = setup.start(&["--record-split", "1s", "--history", "500ms"]);
    let listener = Listener::start(&server.url("stream.wav?from=0&name=one"), &setup.folder.path().join("heard"));
    status_when(&server, "sound", |status| status["blocks"].as_u64().unwrap() > 20);
    fs::rename(setup.directory(), setup.moved_directory()).unwrap();
    status_when(&server, "a loss", |status| status["lost"].as_u64().unwrap() > 30);
    fs::rename(setup.moved_directory(), setup.directory()).unwrap();
    status_when(&server, "its end", |status| status["failing"].is_null());
    let status = status_when(&server, "all that waited", |status| status["queued"].as_u64().unwrap() < 10);
    let lost = status["lost"].as_u64().unwrap();
    assert_eq!(server.row_when("one", |_| true)["lost"], 0, "other listeners lose nothing");
    assert!(server.wait().success());
    drop(listener);
    let recorded = setup.read_back();
    assert_eq!((recorded.end, recorded.missing.len()), (setup.frames(), lost as usize));
    assert_eq!(recorded.silent_frames, 80 * recorded.missing.len());
    let gaps: Vec<_> = recorded.files.iter().flat_map(|file| &file.gaps).collect();
    for gap in &gaps {
        assert_eq!((gap.reason.as_str(), gap.blocks), ("overflow", lost));
        assert!(gap.error.as_ref().unwrap().contains("os error 2"), "{:?}", gap.error);
    }
    // It is noted where it begins, and again in the file in which it continues.
    assert_eq!(gaps.iter().map(|gap| gap.frames).sum::<usize>(), recorded.silent_frames);
    let began = recorded.files[0].recording["captured_at"].as_f64().unwrap();
    assert!((gaps[0].at - began - gaps[0].from as f64 / 100.0).abs() < 0.001);
}

#[test]
fn a_disk_that_is_full_again_and_again_loses_nothing() {
    let setup = Setup::noise(2, 48_000, SampleFormat::Int, 4 * 48_000);
    // The system refuses files of more than 800 half kilobytes.
    let limited = common::command_behind(&["sh", "-c", "trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\""]);
    let flags = setup.flags(&[]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut server = Server::launch(limited, &flags, |command| command);
    assert!(server.wait().success());
    let recorded = setup.read_back();
    assert_eq!((recorded.end, recorded.silent_frames, recorded.missing.len()), (setup.frames(), 0, 0));
    let (last, others) = recorded.files.split_last().unwrap();
    assert!(others.len() >= 3, "{}", others.len());
    for file in others {
        let end = file.end.as_ref().unwrap();
        assert_eq!(end["reason"], "failed");
        assert!(end["error"].as_str().unwrap().contains("os error 27"), "{end}");
        let bytes = fs::metadata(&file.path).unwrap().len();
        assert_eq!(bytes, 68 + 8 * file.frames as u64, "it is cut off after its good frames");
    }
    assert_eq!(last.end.as_ref().unwrap()["reason"], "finished");
    assert_eq!(lines_with(&server.log(), "cannot record"), 1, "{}", server.log());
}

#[test]
fn a_kill_loses_less_than_the_last_second() {
    for blocks in [120, 177, 233] {
        let setup = Setup::noise(2, 48_000, SampleFormat::Int, 20 * 48_000);
        let mut server = setup.start(&["--record-split", "2s"]);
        status_when(&server, "sound", |status| status["blocks"].as_u64().unwrap() >= blocks);
        let status = server.json("api/v1/status");
        // The recorder may be behind the head, with what it has not taken yet.
        let taken = status["head_sequence"].as_u64().unwrap() + 1 - status["recording"]["queued"].as_u64().unwrap();
        signal(server.pid(), "KILL");
        assert!(!server.wait().success());
        let recorded = setup.read_back();
        let taken = taken as usize * 480;
        assert!(recorded.end + 48_000 > taken, "{} of {taken}", recorded.end);
        assert_eq!((recorded.silent_frames, recorded.missing.len()), (0, 0));
        let last = recorded.files.last().unwrap();
        assert!(last.end.is_none(), "a killed recorder writes no end");
        for (program, arguments) in [
            ("sox", &["--info", "-s"][..]),
            ("ffprobe", &["-v", "error", "-show_entries", "stream=duration_ts", "-of", "csv=p=0"]),
        ] {
            let output = Command::new(program).args(arguments).arg(&last.path).output().unwrap();
            assert!(output.status.success(), "{program}: {output:?}");
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), last.frames.to_string(), "{program}");
        }
    }
}

#[test]
fn a_terminated_server_records_to_the_last_block() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, heard) = (folder.path().join("recording"), folder.path().join("heard"));
    let mut server = Server::start(&["--source", "tone:440", "--record", directory.to_str().unwrap()]);
    let mut listener = Listener::start(&server.url("stream.json?from=0"), &heard);
    status_when(&server, "sound", |status| status["blocks"].as_u64().unwrap() > 120);
    let told_at = Instant::now();
    server.terminate();
    assert!(server.wait().success(), "{}", server.log());
    assert!(told_at.elapsed() < Duration::from_secs(5));
    assert!(listener.wait().success());
    let mut samples = Vec::new();
    for (number, line) in fs::read_to_string(&heard).unwrap().lines().enumerate() {
        let block: Value = serde_json::from_str(line).unwrap();
        assert_eq!(block["sequence"], number);
        samples.extend(block["samples"].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap() as f32));
    }
    let files = segments(&directory);
    assert_eq!(files.len(), 1);
    assert!(files[0].samples == samples, "{} and {} samples", files[0].samples.len(), samples.len());
    let end = files[0].end.as_ref().unwrap();
    assert_eq!((&end["reason"], end["frames"].as_u64().unwrap() as usize), (&"finished".into(), samples.len()));
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn the_sound_of_a_source_that_stalls_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("recording");
    let flags = ["--source", "stdin", "--rate", "8000", "--channels", "1", "--record", directory.to_str().unwrap()];
    let (reader, mut pipe) = std::io::pipe().unwrap();
    let server = Server::start_with(&flags, |command| command.stdin(reader));
    pipe.write_all(&[1; 1600]).unwrap();
    // No more samples come, and the pipe stays open.
    status_when(&server, "its sound", |status| status["blocks"] == 10);
    eventually("a header that counts it", || (segments(&directory)[0].frames == 800).then_some(()));
}

#[test]
fn a_read_only_directory_is_refused_before_the_source_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for directory in [file.as_path(), &file.join("below"), Path::new("/proc"), Path::new("/proc/recording")] {
        let directory = directory.to_str().unwrap();
        let (code, stderr) = refused(&["--source", "wav:missing.wav", "--record", directory]);
        assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
        assert!(stderr.starts_with(&format!("aircheck: cannot record to {directory}: ")), "{stderr}");
        assert!(stderr.contains("--record"), "{stderr}");
    }
}

#[test]
fn the_status_has_the_recording_and_its_files_are_private() {
    let setup = Setup::noise(2, 8000, SampleFormat::Int, 10 * 8000);
    let server = setup.start(&[]);
    let status = status_when(&server, "sound", |status| status["blocks"].as_u64().unwrap() > 100);
    assert_eq!(status["directory"], setup.directory().to_str().unwrap());
    let file = PathBuf::from(status["file"].as_str().unwrap());
    assert!(file.parent() == Some(&setup.directory()) && file.is_file());
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("aircheck-2") && name.ends_with("Z-0000000000.wav"), "{name}");
    assert_eq!(status["bytes"].as_u64(), status["blocks"].as_u64().map(|blocks| blocks * 80 * 8));
    assert_eq!((&status["files"], &status["lost"], &status["failing"]), (&1.into(), &0.into(), &Value::Null));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let modes = [setup.directory(), file.clone(), file.with_extension("jsonl")].map(|path| mode(&path));
    assert_eq!(modes, [0o700, 0o600, 0o600], "of the directory, the file and its sidecar");

    let server = Server::start(&["--source", "tone:440"]);
    assert_eq!(server.json("api/v1/status")["recording"], Value::Null);
    assert!(!server.log().contains("recording"), "{}", server.log());
}

#[test]
fn an_earlier_recording_is_not_touched() {
    let setup = Setup::noise(1, 8000, SampleFormat::Int, 1000);
    let mut runs = Vec::new();
    for run in 1..=3 {
        assert!(setup.start(&[]).wait().success());
        let files = segments(&setup.directory());
        assert_eq!(files.len(), run);
        assert!(files.iter().all(|file| file.samples == setup.samples));
        let bytes: BTreeSet<_> = files.iter().map(|file| (file.path.clone(), fs::read(&file.path).unwrap())).collect();
        assert!(runs.iter().all(|before: &BTreeSet<_>| before.is_subset(&bytes)));
        runs.push(bytes);
    }
}

#[test]
fn unit_and_container_have_the_directory_that_they_name() {
    let deployed =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)).unwrap();
    let lines = |name: &str, wanted: &[&str]| {
        let text = deployed(name);
        for line in wanted {
            assert!(text.lines().any(|found| found.trim().starts_with(line)), "{name}: {line} is missing");
        }
    };
    lines("aircheck.service", &["StateDirectory=aircheck", "StateDirectoryMode=0700"]);
    lines("Containerfile", &["RUN install --directory --owner=nobody --group=nogroup --mode=0700 /var/lib/aircheck"]);
    lines("compose.yaml", &["- recording:/var/lib/aircheck", "AIRCHECK_RECORD: ${AIRCHECK_RECORD:-off}", "recording:"]);
}
