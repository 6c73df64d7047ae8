//! Loudness beside ffmpeg's filter `ebur128`, with speech of espeak-ng and music of sox.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use aircheck_engine::Format;
use aircheck_server::mount::loudness::{Loudness, LoudnessMeter, TruePeak, finite};
use common::{Server, eventually};
use serde_json::Value;

/// The largest difference between two meters, in LU.
const TOLERANCE: f64 = 0.1;
/// ffmpeg's loudness of silence is a little below this.
const FLOOR_LUFS: f64 = -120.0;

/// The layout in ffmpeg's words, by number of channels. Its own default for 3, 4 and 5 is another one than WAV's.
const LAYOUTS: [&str; 8] = ["mono", "stereo", "3.0", "quad", "5.0(side)", "5.1(side)", "6.1", "7.1"];

/// What one of the two meters shows.
#[derive(Clone, Copy, Debug)]
struct Shown {
    momentary: f64,
    short_term: f64,
    integrated: f64,
    range: f64,
}

/// Returns speech of some 25 s in mono, at the rate of `sox`'s arguments.
fn speech(rate_hz: u32) -> Vec<f32> {
    let text = "Good evening. Here is the news at six. The weather tomorrow will be dry, with a little wind from the west. \
                And now something else, after a short pause. ... Numbers: one, two, three, four, five, six, seven, eight, \
                nine, ten. ... This is a test of loudness on speech. It has loud words, and quiet ones, and some silence \
                between them, as any programme has. ... Good night.";
    let spoken = output(Command::new("espeak-ng").args(["-s", "150", "--stdout", text]), &[]);
    floats(&output(
        Command::new("sox")
            .args(["-q", "-t", "wav", "--ignore-length", "-"])
            .args(raw(rate_hz, 1))
            .args(["gain", "-n", "-3"]),
        &spoken,
    ))
}

/// Returns music of some 24 s in stereo: plucked strings, each bar at another level.
fn music(rate_hz: u32) -> Vec<f32> {
    let bar = |notes: [&str; 3], gain: &str| {
        let rate = rate_hz.to_string();
        let mut sox = Command::new("sox");
        sox.args(["-q", "-R", "-n", "-r", &rate, "-c", "3"]).args(raw(rate_hz, 2)).args(["synth", "4"]);
        sox.args(notes.iter().flat_map(|note| ["pluck", note]));
        sox.args(["remix", "1,2v0.5", "2v0.5,3", "gain", "-n", gain]);
        floats(&output(&mut sox, &[]))
    };
    let bars = [
        (["C3", "E4", "G4"], "-3"),
        (["A2", "C4", "E4"], "-9"),
        (["F2", "A3", "C4"], "-6"),
        (["G2", "B3", "D4"], "-20"),
        (["C3", "E4", "C5"], "-1"),
        (["C2", "G3", "E4"], "-12"),
    ];
    bars.into_iter().flat_map(|(notes, gain)| bar(notes, gain)).collect()
}

/// Returns sox's arguments for raw samples.
fn raw(rate_hz: u32, channels: u16) -> Vec<String> {
    let words = format!("-t raw -e floating-point -b 32 -r {rate_hz} -c {channels} -");
    words.split(' ').map(str::to_owned).collect()
}

/// Returns what a command writes.
fn output(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn bytes(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Returns what ffmpeg measures at each tenth of a second, and the largest true peak of each channel in dBTP.
fn ffmpeg(samples: &[f32], rate_hz: u32, channels: u16) -> (Vec<Shown>, Vec<f64>) {
    let layout = LAYOUTS[usize::from(channels) - 1];
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostats", "-loglevel", "error", "-f", "f32le", "-ar", &rate_hz.to_string()]);
    command.args(["-ac", &channels.to_string(), "-channel_layout", layout, "-i", "-"]);
    command.args(["-af", "ebur128=metadata=1:peak=true,ametadata=print:file=-", "-f", "null", "-"]);
    let text = String::from_utf8(output(&mut command, &bytes(samples))).unwrap();
    let mut frames = Vec::new();
    for frame in text.split("frame:").skip(1) {
        let values: BTreeMap<&str, f64> = frame
            .lines()
            .filter_map(|line| line.strip_prefix("lavfi.r128.")?.split_once('='))
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        frames.push(values);
    }
    let last = frames.last().unwrap();
    let peaks = (0..channels).map(|channel| 20.0 * last[format!("true_peaks_ch{channel}").as_str()].log10()).collect();
    let shown = |of: &BTreeMap<&str, f64>| Shown {
        momentary: of["M"],
        short_term: of["S"],
        integrated: of["I"],
        range: of["LRA"],
    };
    (frames.iter().map(shown).collect(), peaks)
}

/// Returns the same by the server's meter, in blocks of 10 ms.
fn ours(samples: &[f32], rate_hz: u32, channels: u16) -> (Vec<Shown>, Vec<f64>) {
    let format = Format::new(rate_hz, channels, Duration::from_millis(10)).unwrap();
    let mut meter = LoudnessMeter::new(format);
    let peaks: Vec<TruePeak> = (0..channels).map(|_| TruePeak::default()).collect();
    let mut shown = Vec::new();
    for block in samples.chunks(format.block_samples()) {
        let block: Vec<f32> = block.iter().map(|sample| finite(*sample)).collect();
        shown.extend(meter.add(&block, &peaks).map(|loudness| {
            let Loudness { momentary_lufs, short_term_lufs, integrated_lufs, range_lu } = loudness;
            Shown {
                momentary: momentary_lufs,
                short_term: short_term_lufs,
                integrated: integrated_lufs,
                range: range_lu,
            }
        }));
    }
    (shown, peaks.iter().map(TruePeak::dbtp).collect())
}

/// Returns the sound with `channels` channels: speech and music, each channel another mixture.
fn programme(speech: &[f32], music: &[f32], channels: u16) -> Vec<f32> {
    let frames = speech.len().min(music.len() / 2);
    let mut samples = Vec::new();
    for frame in 0..frames {
        for channel in 0..usize::from(channels) {
            let share = channel as f32 / f32::from(channels);
            samples.push(0.6 * (speech[frame] * (1.0 - share) + music[2 * frame + channel % 2] * share));
        }
    }
    samples
}

/// Fails unless two meters show the same: the windows at each step, and the programme at the end.
fn assert_agree(what: &str, ours: &[Shown], theirs: &[Shown]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let agree = |a: f64, b: f64| (a - b).abs() <= TOLERANCE;
    for (step, (our, their)) in ours.iter().zip(theirs).enumerate() {
        // ffmpeg has a floor where we have minus infinity.
        let is_wrong = |our: f64, their: f64| their > FLOOR_LUFS && !agree(our, their);
        let windows = [(our.momentary, their.momentary), (our.short_term, their.short_term)];
        assert!(!windows.iter().any(|(our, their)| is_wrong(*our, *their)), "{what}, step {step}: {our:?}, {their:?}");
    }
    let (our, their) = (ours.last().unwrap(), theirs.last().unwrap());
    assert!(agree(our.integrated, their.integrated) && agree(our.range, their.range), "{what}: {our:?}, {their:?}");
}

fn assert_peaks_agree(what: &str, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let agree = |(ours, theirs): (&f64, &f64)| (theirs - 0.4..=theirs + 0.2).contains(ours);
    assert!(ours.iter().zip(theirs).all(agree), "{what}: {ours:?}, {theirs:?}");
}

#[test]
fn every_rate_and_number_of_channels_is_measured_as_by_ffmpeg() {
    for rate_hz in [8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000] {
        compare(&format!("speech at {rate_hz} Hz"), &speech(rate_hz), rate_hz, 1);
        compare(&format!("music at {rate_hz} Hz"), &music(rate_hz), rate_hz, 2);
    }
    let (speech, music) = (speech(48_000), music(48_000));
    for channels in 1..=8 {
        let mut samples = programme(&speech, &music, channels);
        // BS.1770 weights channels beside the listener, and ffmpeg those behind as well.
        let behind = match channels {
            7 => 4..5,
            8 => 4..6,
            _ => 0..0,
        };
        samples.chunks_exact_mut(channels.into()).for_each(|frame| frame[behind.clone()].fill(0.0));
        compare(&format!("{channels} channels"), &samples, 48_000, channels);
    }
}

fn compare(what: &str, samples: &[f32], rate_hz: u32, channels: u16) {
    let (ours, our_peaks) = ours(samples, rate_hz, channels);
    let (theirs, their_peaks) = ffmpeg(samples, rate_hz, channels);
    println!("{what}: {:?} {our_peaks:.2?}, ffmpeg {:?} {their_peaks:.2?}", ours.last(), theirs.last());
    assert_agree(what, &ours, &theirs);
    assert_peaks_agree(what, &our_peaks, &their_peaks);
}

/// A running server's status, at the end of what was written to its stdin.
fn measured_by_a_server(samples: &[f32], rate_hz: u32, channels: u16) -> (Value, String) {
    let (rate, count) = (rate_hz.to_string(), channels.to_string());
    let flags = ["--source", "stdin", "--rate", &rate, "--channels", &count, "--sample", "f32le"];
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::start_with(&flags, |command| command.stdin(reader));
    let format = Format::new(rate_hz, channels, Duration::from_millis(10)).unwrap();
    let blocks = samples.len() / format.block_samples();
    let mut stdin = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    stdin.write_all(&bytes(samples)).unwrap();
    let status = eventually("the last block", || {
        Some(server.json("api/v1/status")).filter(|status| status["capture"]["blocks"] == blocks)
    });
    let lost = &status["capture"];
    assert_eq!((&lost["lost_overflow"], &lost["lost_xrun"]), (&0.into(), &0.into()), "{lost}");
    // The meter takes the last block a moment after it was counted.
    std::thread::sleep(Duration::from_millis(50));
    (server.json("api/v1/status"), server.text("metrics"))
}

#[test]
fn a_server_measures_speech_and_music_as_ffmpeg_does() {
    let sounds = [("speech", speech(48_000), 48_000, 1), ("music", music(44_100), 44_100, 2)];
    std::thread::scope(|scope| {
        for (name, samples, rate_hz, channels) in &sounds {
            scope.spawn(move || {
                // Whole steps, so that both windows end with the sound.
                let step = *rate_hz as usize / 10 * usize::from(*channels);
                let samples = &samples[..samples.len() / step * step];
                let (status, metrics) = measured_by_a_server(samples, *rate_hz, *channels);
                let (theirs, their_peaks) = ffmpeg(samples, *rate_hz, *channels);
                let loudness = &status["loudness"];
                let value = |name: &str| loudness[name].as_f64().unwrap();
                let ours = Shown {
                    momentary: value("momentary_lufs"),
                    short_term: value("short_term_lufs"),
                    integrated: value("integrated_lufs"),
                    range: value("range_lu"),
                };
                assert_agree(name, &[ours], &theirs[theirs.len() - 1..]);
                let peaks = loudness["true_peak_dbtp"].as_array().unwrap();
                let peaks: Vec<f64> = peaks.iter().map(|peak| peak.as_f64().unwrap()).collect();
                assert_peaks_agree(name, &peaks, &their_peaks);
                for (series, value) in [
                    ("loudness_lufs{mount=\"main\",window=\"momentary\"}", ours.momentary),
                    ("loudness_lufs{mount=\"main\",window=\"short_term\"}", ours.short_term),
                    ("loudness_lufs{mount=\"main\",window=\"integrated\"}", ours.integrated),
                    ("loudness_range_lu{mount=\"main\"}", ours.range),
                    ("true_peak_dbtp{mount=\"main\",channel=\"0\"}", peaks[0]),
                ] {
                    let line =
                        metrics.lines().find_map(|line| line.strip_prefix(&format!("aircheck_{series} "))).unwrap();
                    let exported: f64 = line.parse().unwrap();
                    assert!((exported - value).abs() < 1e-9, "{series}: {exported}, {value}");
                }
            });
        }
    });
}

/// Returns a sine of 1 kHz with this peak level, of 20 s in stereo.
fn sine(rate_hz: u32, dbfs: f32) -> Vec<f32> {
    let amplitude = 10_f32.powf(dbfs / 20.0);
    let sample = |n: u32| amplitude * (std::f64::consts::TAU * 1000.0 * f64::from(n) / f64::from(rate_hz)).sin() as f32;
    (0..20 * rate_hz).flat_map(|n| [sample(n); 2]).collect()
}

/// The first two signals of EBU Tech 3341, at each rate.
#[test]
fn a_tone_has_the_loudness_that_the_standard_gives() {
    for rate_hz in [8_000, 11_025, 16_000, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000] {
        for lufs in [-23.0, -33.0] {
            let (shown, peaks) = ours(&sine(rate_hz, lufs as f32), rate_hz, 2);
            let last = shown.last().unwrap();
            for measured in [last.momentary, last.short_term, last.integrated] {
                assert!((measured - lufs).abs() <= TOLERANCE, "{rate_hz} Hz: {last:?}");
            }
            assert!(last.range < TOLERANCE, "{rate_hz} Hz: {last:?}");
            assert!(peaks.iter().all(|peak| (peak - lufs).abs() < 0.2), "{rate_hz} Hz: {peaks:?}");
        }
    }
}

#[test]
fn invalid_samples_are_forgotten_after_three_seconds() {
    let mut samples = sine(48_000, -23.0);
    let (clean, _) = ours(&samples, 48_000, 2);
    let invalid = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, f32::MIN_POSITIVE / 2.0];
    samples[96_000..96_000 + invalid.len()].copy_from_slice(&invalid);
    let (shown, peaks) = ours(&samples, 48_000, 2);
    assert!(shown.iter().all(|shown| shown.momentary <= 30.0 && !shown.integrated.is_nan()), "{shown:?}");
    let (last, clean) = (shown.last().unwrap(), clean.last().unwrap());
    assert!((last.momentary - clean.momentary).abs() < 0.001 && (last.short_term - clean.short_term).abs() < 0.001);
    assert!(peaks.iter().all(|peak| (29.9..36.0).contains(peak)), "{peaks:?}");
}

#[test]
fn silence_has_no_loudness_and_no_peak() {
    let (shown, peaks) = ours(&vec![0.0; 48_000 * 2 * 5], 48_000, 2);
    let last = shown.last().unwrap();
    let none = f64::NEG_INFINITY;
    assert_eq!((last.momentary, last.short_term, last.integrated, last.range), (none, none, none, 0.0));
    assert_eq!(peaks, [none, none]);
}

#[test]
fn silence_in_a_programme_is_gated() {
    let mut samples = sine(48_000, -23.0);
    samples.extend(vec![0.0; 48_000 * 2 * 20]);
    let (shown, _) = ours(&samples, 48_000, 2);
    let last = shown.last().unwrap();
    assert_eq!(last.momentary, f64::NEG_INFINITY);
    // The filters ring on for seconds after the last sample, ever more quietly.
    let is_ringing = |lufs: f64| lufs.is_finite() && lufs < -150.0;
    assert!(!shown.iter().any(|shown| is_ringing(shown.momentary) || is_ringing(shown.short_term)), "{shown:?}");
    assert!((last.integrated + 23.0).abs() <= TOLERANCE, "{last:?}");
}

/// A gap of ten seconds in which nobody knows what there was: the programme's loudness, range and peak are those of what is
/// known, and not lowered by silence that was never there.
#[test]
fn a_gap_is_no_silence() {
    let format = Format::new(48_000, 2, Duration::from_millis(10)).unwrap();
    let samples = sine(48_000, -23.0);
    let mut meter = LoudnessMeter::new(format);
    let peaks = [TruePeak::default(), TruePeak::default()];
    let mut last = None;
    // The sound goes on in another phase: 1.2 ms are a fifth of a turn and one.
    let (before, after) = samples.split_at(5 * 96_000 + 24);
    for part in [before, &after[116..]] {
        meter.skip_gap();
        for block in part.chunks(format.block_samples()) {
            last = meter.add(block, &peaks).or(last);
        }
    }
    let last = last.unwrap();
    for measured in [last.momentary_lufs, last.short_term_lufs, last.integrated_lufs] {
        assert!((measured + 23.0).abs() <= TOLERANCE, "{last:?}");
    }
    assert!(last.range_lu < TOLERANCE, "{last:?}");
    assert!(peaks.iter().all(|peak| (peak.dbtp() + 23.0).abs() < 0.2), "{peaks:?}");
}

/// They have no common places, so they count alike, as a pair does.
#[test]
fn more_channels_than_eight_all_count() {
    let wide: Vec<f32> = sine(48_000, -23.0).chunks_exact(2).flat_map(|frame| [frame[0]; 32]).collect();
    let (shown, peaks) = ours(&wide, 48_000, 32);
    let expected = -23.0 + 10.0 * 16_f64.log10();
    assert!((shown.last().unwrap().momentary - expected).abs() <= TOLERANCE, "{:?}", shown.last());
    assert!(peaks.iter().all(|peak| (peak + 23.0).abs() < 0.2), "{peaks:?}");
}

#[test]
fn a_rate_without_loudness_has_none() {
    for (rate_hz, channels) in [(4_000, 1), (10, 2)] {
        assert!(ours(&vec![0.1; rate_hz as usize * 10], rate_hz, channels).0.is_empty());
    }
}
