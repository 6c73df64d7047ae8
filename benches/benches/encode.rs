//! The cost of encoding a block, by format, block length and number of channels; and a proof that many listeners of one
//! format cost no second encoding.
//!
//! The sound is 16-bit noise, chirps and tones from a file, which a codec has to work for; silence would flatter it.
//! First criterion times single blocks on one thread. Then an encoder runs as the server runs it, on a thread of its
//! own beside a live source, with one listener and with 500. The kernel tells how long that thread ran; `% of a core` is
//! its time per block over the time that the block sounds.
//!
//! `-- opus` measures only the cases with that in their name; the table's are called `beside a source/opus 96k, 1`.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use aircheck_api::Payload;
use aircheck_benches::{Arguments, Table, Target, WAV_RATE_HZ, number, thread_time, write_wav};
use aircheck_engine::source::{Paced, PcmEncoding, Wav};
use aircheck_engine::{Block, Format, Item, OverflowPolicy, Stream, StreamOptions, SubscribeOptions, Timestamp};
use aircheck_server::rendition::codec::{FlacEncoder, OpusBitrate, OpusEncoder};
use aircheck_server::rendition::encoder::Encoder;
use aircheck_server::rendition::encoders::Encoders;
use aircheck_server::rendition::encoding::Encoding;
use criterion::{BenchmarkId, Criterion, Throughput};

const OPUS: Encoding = Encoding::Opus { bitrate: OpusBitrate::DEFAULT };
const FLAC: Encoding = Encoding::Flac { bits: 16 };
const ENCODINGS: [(&str, Encoding); 6] = [
    ("s16le", Encoding::Pcm(PcmEncoding::S16Le)),
    ("f32le", Encoding::Pcm(PcmEncoding::F32Le)),
    ("ws f32", Encoding::Message(Payload::F32)),
    ("json", Encoding::Json),
    ("flac", FLAC),
    ("opus 96k", OPUS),
];
const BLOCKS_MS: [u64; 5] = [1, 2, 5, 10, 20];
const LISTENERS: [usize; 2] = [1, 500];
/// The time that each number of listeners listens.
const WINDOW: Duration = Duration::from_secs(5);
/// The cost of one stream of Opus, in per cent of a core.
const OPUS_COST: Target = Target::AtMost(3.0);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let directory = tempfile::tempdir()?;
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20)
        .configure_from_args();
    for channels in [1, 2, 8] {
        let wav = directory.path().join(format!("{channels}.wav"));
        write_wav(&wav, channels, 1, busy)?;
        for millis in BLOCKS_MS {
            let blocks = blocks(&wav, Duration::from_millis(millis))?;
            for (name, encoding) in ENCODINGS {
                one_block(&mut criterion, name, encoding, &blocks);
            }
        }
    }
    criterion.final_summary();
    let arguments = Arguments::read();
    let cases = [("opus 96k", OPUS), ("flac", FLAC)].into_iter();
    let cases = cases.flat_map(|case| LISTENERS.map(|listeners| (case, listeners)));
    let is_wanted = |((name, _), listeners): &((&str, Encoding), usize)| {
        arguments.wants(&format!("beside a source/{name}, {listeners}"))
    };
    let cases: Vec<((&str, Encoding), usize)> = cases.filter(is_wanted).collect();
    if cases.is_empty() {
        return Ok(());
    }
    println!("an encoder beside a live source, 48 kHz stereo, blocks of 10 ms\n");
    let mut table = Table::new(["what", "encoders", "us a block", "% of a core", "target"]);
    let window = if arguments.is_quick() { WINDOW / 10 } else { WINDOW };
    for ((name, encoding), listeners) in cases {
        let Ran { encoders, us_a_block } =
            beside_a_live_source(&directory.path().join("2.wav"), encoding, listeners, window)?;
        // A block sounds for 10 ms.
        let percent = us_a_block / 100.0;
        let target = if encoding == OPUS && listeners == 1 { OPUS_COST.verdict(percent) } else { String::new() };
        let cells = [encoders.to_string(), number(Some(us_a_block), 0), number(Some(percent), 2), target];
        table.row([format!("{name}, {listeners} listeners")].into_iter().chain(cells));
    }
    println!("{table}");
    println!("500 listeners add the work of handing each packet to 500 rings and of waking those that wait.");
    Ok(())
}

/// Times one encoding, block after block. Formats that the codec cannot carry are left out.
fn one_block(criterion: &mut Criterion, name: &str, encoding: Encoding, blocks: &[Arc<Item<Block>>]) {
    let format = blocks[0].format();
    let Ok(mut work) = Work::new(encoding, format) else { return };
    let mut group = criterion.benchmark_group(format!("encode/{name}"));
    group.throughput(Throughput::Elements(1));
    let id = format!("{} ms x {}", format.block_span().as_millis(), format.channels());
    let mut sequence = 0;
    group.bench_function(BenchmarkId::from_parameter(id), |bencher| {
        bencher.iter(|| {
            let block = &blocks[sequence as usize % blocks.len()];
            work.encode(sequence, block);
            sequence += 1;
        });
    });
}

/// An encoder that can be given the same blocks again and again. Codecs are given rising sequence numbers with them.
enum Work {
    Stateless(Encoder),
    Opus(Box<OpusEncoder>),
    Flac(FlacEncoder),
}

impl Work {
    fn new(encoding: Encoding, format: Format) -> Result<Self, String> {
        Ok(match encoding {
            Encoding::Opus { bitrate } => Self::Opus(Box::new(
                OpusEncoder::new(format, bitrate, OpusEncoder::packet_frames_for(format, 1))
                    .map_err(|e| e.to_string())?,
            )),
            Encoding::Flac { bits } => Self::Flac(FlacEncoder::new(format, bits).map_err(|e| e.to_string())?),
            stateless => Self::Stateless(Encoder::new(stateless, format, 1, 0).map_err(|e| e.to_string())?),
        })
    }

    fn encode(&mut self, sequence: u64, block: &Item<Block>) {
        match self {
            Self::Stateless(encoder) => {
                let mut packets = Vec::new();
                encoder.encode(block, &mut packets);
                black_box(packets);
            }
            Self::Opus(encoder) => {
                let mut packets = Vec::new();
                encoder.encode(sequence, block.samples(), &mut packets).expect("libopus takes any samples");
                black_box(packets);
            }
            Self::Flac(encoder) => {
                black_box(encoder.encode(sequence, block.samples()).expect("FLAC takes any samples"));
            }
        }
    }
}

/// The cost of an encoder beside a live source.
struct Ran {
    encoders: usize,
    us_a_block: f64,
}

/// Runs an encoder at the live pace; this thread takes its packets for all listeners.
fn beside_a_live_source(
    wav: &Path,
    encoding: Encoding,
    listeners: usize,
    window: Duration,
) -> Result<Ran, Box<dyn Error + Send + Sync>> {
    let stream = Stream::start(Box::new(Paced::new(Wav::open(wav, true)?)), StreamOptions::default())?;
    let encoders =
        Encoders::new(stream.hub().clone(), stream.format(), 100, 100, vec![Waker::noop().clone()], Arc::default());
    let options = SubscribeOptions::default();
    let mut consumers = Vec::new();
    for _ in 0..listeners {
        consumers.push(encoders.subscribe(encoding, 1, 0, options)?.packets);
    }
    let mut take = |span: Duration| {
        let (start, mut taken) = (Instant::now(), 0);
        while start.elapsed() < span {
            std::thread::sleep(Duration::from_millis(5));
            for consumer in &mut consumers {
                while consumer.try_recv_at(Timestamp::now()).is_ok() {
                    taken += 1;
                }
            }
        }
        taken
    };
    take(Duration::from_secs(1));
    let encoder_time = || thread_time(std::process::id(), |name| name == "encoder");
    let before = encoder_time()?;
    let packets = take(window);
    let time = encoder_time()? - before;
    let ran = Ran {
        encoders: encoders.running(),
        us_a_block: 1e6 * time.as_secs_f64() / (f64::from(packets) / listeners as f64),
    };
    drop(consumers);
    stream.stop();
    Ok(ran)
}

/// Returns the whole blocks of a file.
fn blocks(wav: &Path, block: Duration) -> Result<Vec<Arc<Item<Block>>>, Box<dyn Error + Send + Sync>> {
    let options = StreamOptions { block, live: false, await_consumers: 1, ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Paced::new(Wav::open(wav, false)?)), options)?;
    let options = SubscribeOptions { overflow: OverflowPolicy::Block, ..SubscribeOptions::default() };
    let mut consumer = stream.subscribe(options)?;
    let mut blocks = Vec::new();
    while let Ok(delivery) = consumer.recv() {
        blocks.push(delivery.item);
    }
    stream.wait();
    Ok(blocks)
}

/// Chirps, tones and noise.
fn busy(frame: u32, channel: u16) -> f64 {
    let t = f64::from(frame) / f64::from(WAV_RATE_HZ);
    let phase = |hz: f64| (std::f64::consts::TAU * t * (hz + 110.0 * f64::from(channel))).sin();
    let noise = f64::from((frame * 31 + u32::from(channel)).wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    0.3 * phase(440.0) + 0.2 * phase(1330.0) + 0.1 * phase(4000.0 * t) + 0.02 * noise
}
