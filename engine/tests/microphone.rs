//! A microphone of a real sound server that this test starts: sound played into it comes out of a stream.

#[path = "common/pulse.rs"]
#[allow(dead_code, reason = "the server's tests use the rest")]
mod pulse;

use std::f64::consts::TAU;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use aircheck_engine::source::{Device, DeviceConfig, DeviceError, Source, devices};
use aircheck_engine::{Delivery, Stream, StreamOptions, SubscribeOptions};
use pulse::{PulseServer, Way, is_inside};

const RATE_HZ: u32 = 48_000;
const TONE_HZ: f64 = 440.0;
const TONE_PEAK: f64 = 0.25;
/// Largest residue of an undisturbed tone. Rounding to 16 bits leaves 2 steps at most, and a server that converts the
/// rate was seen to leave 5. A break in the tone leaves a thousand and more.
const MAX_RESIDUE: f64 = 16.0 / 32_768.0;
/// Seconds recorded until one is undisturbed by other programs on a busy machine.
const MAX_SECONDS: u32 = 25;
/// How long stopping may take. It takes half a second at most, and more only by the scheduler of a busy machine; a hang
/// takes for ever.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for a new player. The null sink works 2 s ahead until a player with a short latency is connected.
const PLAYER_START_TIME: Duration = Duration::from_millis(2500);

/// Runs `inside` in a child process, with a new sound server to which a tone is played.
fn with_tone(test: &str, way: Way, inside: fn()) {
    if is_inside() {
        return inside();
    }
    let server = PulseServer::start();
    let file = server.path("tone.wav");
    write_tone(&file);
    let _player = server.play(&file);
    thread::sleep(PLAYER_START_TIME);
    let status = server.rerun(test, way).status().expect("this test again");
    assert!(status.success(), "the part of the test inside the child process failed");
}

/// Writes a minute of the tone, which is longer than any test.
fn write_tone(path: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).expect("a file for the tone");
    for n in 0..60 * RATE_HZ {
        let sample = TONE_PEAK * (TAU * TONE_HZ * f64::from(n) / f64::from(RATE_HZ)).sin();
        file.write_sample((sample * 32_767.0).round() as i16).expect("space for the tone");
    }
    file.finalize().expect("space for the tone");
}

/// Records until one whole second is the tone: its frequency, its level, and nothing else. On a busy machine the player
/// or the sound server may be late, which disturbs some seconds. A fault of the engine, at the boundary of two blocks or
/// in the conversion, would disturb every second.
fn record_the_tone(device: Device) {
    let channels = usize::from(device.channels());
    let stream = Stream::start(Box::new(device), StreamOptions::default()).expect("the microphone starts");
    let rate_hz = f64::from(stream.format().rate_hz());
    let mut listener = stream.subscribe(SubscribeOptions::default()).expect("a listener");
    let mut heard = Vec::new();
    for _ in 0..MAX_SECONDS {
        let mut samples = Vec::new();
        while samples.len() < rate_hz as usize {
            let Delivery { gap, item: block, .. } = listener.recv_timeout(Duration::from_secs(5)).expect("a block");
            if gap.is_some() {
                samples.clear();
            }
            samples.extend(block.samples().iter().step_by(channels).map(|sample| f64::from(*sample)));
        }
        let second = (frequency(&samples, rate_hz), rms(&samples), residue(&samples, rate_hz));
        println!("{}: {:.3} Hz, RMS {:.5}, residue {:.6}", stream.description(), second.0, second.1, second.2);
        heard.push(second);
        if is_the_tone(second) {
            break;
        }
    }
    assert!(heard.last().is_some_and(|second| is_the_tone(*second)), "not one second was the tone: {heard:?}");
    assert!(stream.capture().is_open() && stream.capture().failure().is_none());
    let stopping = Instant::now();
    stream.stop();
    assert!(stopping.elapsed() < STOP_TIMEOUT, "stopping took {:?}", stopping.elapsed());
}

fn is_the_tone((hz, level, residue): (f64, f64, f64)) -> bool {
    let expected = TONE_PEAK / 2.0_f64.sqrt();
    (hz - TONE_HZ).abs() < 0.1 && (level / expected - 1.0).abs() < 0.01 && residue < MAX_RESIDUE
}

/// Returns the largest error of three neighbouring samples in the equation of a sine of the tone's frequency,
/// `x(n) - 2 cos(w) x(n-1) + x(n-2) = 0`. It is small for the tone at any level and phase, and large at a break.
fn residue(samples: &[f64], rate_hz: f64) -> f64 {
    let turn = 2.0 * (TAU * TONE_HZ / rate_hz).cos();
    samples.windows(3).map(|x| (x[2] - turn * x[1] + x[0]).abs()).fold(0.0, f64::max)
}

fn rms(samples: &[f64]) -> f64 {
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

/// Measures the frequency between the first and the last upward crossing of zero, each interpolated between two samples.
fn frequency(samples: &[f64], rate_hz: f64) -> f64 {
    let crossings: Vec<f64> = (1..samples.len())
        .filter(|&n| samples[n - 1] < 0.0 && samples[n] >= 0.0)
        .map(|n| n as f64 - samples[n] / (samples[n] - samples[n - 1]))
        .collect();
    let (first, last) = (crossings[0], crossings[crossings.len() - 1]);
    (crossings.len() - 1) as f64 * rate_hz / (last - first)
}

#[test]
fn a_tone_is_recorded_as_it_was_played() {
    with_tone("a_tone_is_recorded_as_it_was_played", Way::Pulse, || {
        let device = Device::open(None, DeviceConfig::default()).expect("the default microphone");
        assert_eq!((device.rate_hz(), device.channels(), device.sample_format()), (RATE_HZ, 1, "f32".to_owned()));
        record_the_tone(device);
    });
}

#[test]
fn a_tone_is_recorded_through_alsa_too() {
    with_tone("a_tone_is_recorded_through_alsa_too", Way::Alsa, || {
        let listed = devices().expect("ALSA's devices");
        assert!(listed.iter().all(|device| device.host == "ALSA"), "{listed:?}");
        record_the_tone(Device::open(None, DeviceConfig::default()).expect("the default microphone"));
    });
}

#[test]
fn a_device_records_with_the_requested_options() {
    with_tone("a_device_records_with_the_requested_options", Way::Pulse, || {
        let options = DeviceConfig { rate_hz: Some(44_100), channels: Some(2) };
        let device = Device::open(Some("vmic"), options).expect("the server converts");
        assert_eq!((device.rate_hz(), device.channels()), (44_100, 2));
        record_the_tone(device);
        let options = DeviceConfig { rate_hz: Some(10_000_000), channels: None };
        let error = Device::open(Some("vmic"), options).expect_err("nothing records that fast");
        assert!(matches!(error, DeviceError::Unsupported { .. }), "{error:?}");
        println!("{error}");
        assert!(error.to_string().contains("10000000 Hz (it can do 1 to "), "{error}");
    });
}

#[test]
fn devices_are_listed_and_found_by_name() {
    with_tone("devices_are_listed_and_found_by_name", Way::Pulse, || {
        let listed = devices().expect("the server's devices");
        println!("{listed:#?}");
        let vmic = listed.iter().find(|device| device.id == "vmic").expect("the default microphone");
        assert!(vmic.is_default && vmic.host == "PulseAudio");
        assert_eq!((vmic.rate_hz, vmic.channels, vmic.sample_format.as_deref()), (Some(RATE_HZ), Some(1), Some("f32")));
        assert_eq!(listed.iter().filter(|device| device.is_default).count(), 1);
        assert!(listed.iter().any(|device| device.id == "mic_in.monitor"));

        let error = Device::open(Some("nonsense"), DeviceConfig::default()).expect_err("there is none of that name");
        let line = error.to_string();
        println!("{line}");
        assert!(matches!(error, DeviceError::Unknown { .. }), "{error:?}");
        assert!(line.contains("`nonsense`") && line.contains("`vmic`") && line.contains("`mic_in.monitor`"), "{line}");
        assert!(!line.contains('\n'), "{line}");

        let error = Device::open(Some("mic"), DeviceConfig::default()).expect_err("there are two of that name");
        let line = error.to_string();
        println!("{line}");
        assert!(matches!(error, DeviceError::Ambiguous { .. }), "{error:?}");
        assert!(line.contains("`vmic`") && line.contains("`mic_in.monitor`") && !line.contains('\n'), "{line}");
    });
}

/// Kills the server while a child records from it.
fn with_dying_server(test: &str, way: Way) {
    if is_inside() {
        return outlive_the_server();
    }
    let mut server = PulseServer::start();
    let mut child = server.rerun(test, way).stdout(Stdio::piped()).spawn().expect("this test again");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let recording = lines.by_ref().map_while(Result::ok).any(|line| line.contains("recording"));
    server.kill();
    for line in lines.map_while(Result::ok) {
        println!("{line}");
    }
    let status = child.wait().expect("its end");
    assert!(recording && status.success(), "the part of the test inside the child process failed");
}

fn outlive_the_server() {
    let device = Device::open(None, DeviceConfig::default()).expect("the default microphone");
    let stream = Stream::start(Box::new(device), StreamOptions::default()).expect("the microphone starts");
    let mut listener = stream.subscribe(SubscribeOptions::default()).expect("a listener");
    let block = Duration::from_secs(5);
    for _ in 0..20 {
        listener.recv_timeout(block).expect("a block");
    }
    println!("recording");
    // The watchdog waits for ten seconds of silence, counted in checks, which are late on a busy machine.
    let deadline = Instant::now() + Duration::from_secs(60);
    while stream.capture().failure().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let failure = stream.capture().failure().expect("the loss is noticed");
    println!("{failure}");
    assert!(failure.starts_with("microphone `") && !stream.capture().is_open(), "{failure}");
    let (before, start) = (cpu_seconds(), Instant::now());
    thread::sleep(Duration::from_secs(2));
    let load = (cpu_seconds() - before) / start.elapsed().as_secs_f64();
    println!("load afterwards: {load:.3}");
    assert!(load < 0.3, "it spins: {load} of a core");
    assert!(!stream.is_finished(), "it goes on serving");
    let stopping = Instant::now();
    stream.stop();
    println!("stopped within {:?}", stopping.elapsed());
    assert!(stopping.elapsed() < STOP_TIMEOUT, "stopping took {:?}", stopping.elapsed());
}

/// Returns the processor time of this process: all threads, user and system.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("proc(5)");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields after the name").split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number of ticks");
    // utime and stime are fields 14 and 15 of all, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

#[test]
fn a_killed_server_is_noticed_and_nothing_spins() {
    with_dying_server("a_killed_server_is_noticed_and_nothing_spins", Way::Pulse);
}

#[test]
fn a_killed_server_behind_alsa_is_noticed_and_nothing_spins() {
    with_dying_server("a_killed_server_behind_alsa_is_noticed_and_nothing_spins", Way::Alsa);
}

#[test]
fn without_a_server_and_a_card_there_is_no_device_and_no_noise() {
    if is_inside() {
        let error = Device::open(None, DeviceConfig::default()).expect_err("there is nothing to record from");
        assert!(matches!(error, DeviceError::NoDevice(_)), "{error:?}");
        assert!(matches!(devices(), Err(DeviceError::NoDevice(_))));
        return println!("{error}");
    }
    let mut server = PulseServer::start();
    let mut command: Command = server.rerun("without_a_server_and_a_card_there_is_no_device_and_no_noise", Way::Pulse);
    server.kill();
    fs::remove_file(server.path("socket")).expect("the socket that the server left");
    let output = command.output().expect("this test again");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A machine with a sound card finds that instead.
    if !Path::new("/proc/asound/cards").exists() {
        assert!(output.status.success() && out.contains("no sound server answers"), "{out}{err}");
        assert_eq!(err, "", "ALSA stays quiet");
    }
}
