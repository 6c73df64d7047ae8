//! Tests that a recording has no loss without a note: it is made on a storage that fails in every way, and compared with
//! its source.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::source::{Paced, Pull};
use aircheck_engine::{
    Block, Consumer, Delivery, End, EndReason, Gap, Item, Loss, OverflowPolicy, Publisher, PublisherOptions, Start,
    Stream, StreamOptions, SubscribeOptions, Timestamp, TryRecvError,
};
use serde_json::Value;

use super::fake_storage::{Content, FakeStorage};
use super::segment::Coding;
use super::segment_writer::{Rules, SegmentWriter};
use super::storage::Storage as _;

const CHANNELS: u16 = 2;
const RATE_HZ: u32 = 1000;

/// Returns a sample of noise that differs from its neighbours and is never silent.
fn noise(sample: usize) -> f32 {
    ((sample as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32 + 0.25
}

struct Noise {
    next: usize,
    end: usize,
}

impl Pull for Noise {
    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn channels(&self) -> u16 {
        CHANNELS
    }

    fn description(&self) -> String {
        "noise".into()
    }

    fn pull(&mut self, samples: &mut [f32]) -> Result<usize, String> {
        let filled = samples.len().min(self.end - self.next);
        samples[..filled].iter_mut().enumerate().for_each(|(n, sample)| *sample = noise(self.next + n));
        self.next += filled;
        Ok(filled)
    }
}

/// Returns the blocks of so many frames of noise.
fn blocks(frames: usize, block: Duration) -> Vec<Arc<Item<Block>>> {
    let noise = Noise { next: 0, end: frames * usize::from(CHANNELS) };
    let options = StreamOptions { block, live: false, await_consumers: 1, ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Paced::new(noise)), options).unwrap();
    let options = SubscribeOptions { overflow: OverflowPolicy::Block, ..SubscribeOptions::default() };
    let mut consumer = stream.subscribe(options).unwrap();
    std::iter::from_fn(|| consumer.recv().ok().map(|delivery| delivery.item)).collect()
}

fn segment_writer(
    storage: &FakeStorage,
    blocks: &[Arc<Item<Block>>],
    segment_blocks: u64,
) -> SegmentWriter<FakeStorage> {
    SegmentWriter::new(
        storage.clone(),
        blocks[0].format(),
        "noise".into(),
        Rules { segment_blocks, align: None, coding: Coding::Wav, reserve_bytes: 0 },
    )
}

/// A frame of the stream, as the files have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Frame {
    #[default]
    Absent,
    Sound,
    Silence,
}

/// The stream that the files hold.
#[derive(Default)]
struct Recorded {
    frames: Vec<Frame>,
    /// Blocks that a sidecar notes as missing.
    missing: BTreeSet<u64>,
    /// Reasons of the files' ends, in their order.
    ends: Vec<String>,
}

impl Recorded {
    fn count(&self, kind: Frame) -> usize {
        self.frames.iter().filter(|frame| **frame == kind).count()
    }
}

/// Reads all files as the system has them, and compares them with the source: they equal it outside the noted gaps, are
/// silent inside them, and have no frame twice.
fn read_back(storage: &FakeStorage) -> Recorded {
    read_back_of(storage, |file| &file.bytes)
}

/// Reads all files back as [`read_back`] does, with the bytes that `left` picks.
fn read_back_of(storage: &FakeStorage, left: impl Fn(&Content) -> &Vec<u8>) -> Recorded {
    let files = storage.disk().files.clone();
    let mut recorded = Recorded::default();
    for (name, wav) in files.iter().filter(|(name, file)| name.ends_with(".wav") && !left(file).is_empty()) {
        let sidecar = std::str::from_utf8(left(&files[&name.replace(".wav", ".jsonl")])).unwrap();
        assert!(sidecar.ends_with('\n'), "{name}: half a line: {sidecar}");
        let lines: Vec<Value> = sidecar.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let position = number(&lines[0]["recording"]["position"]);
        let first = lines[0]["recording"]["first_sequence"].as_u64().unwrap();
        assert!(name.contains(&format!("Z-{first:010}")), "{name}");
        let mut reader = hound::WavReader::new(Cursor::new(left(wav))).unwrap();
        let samples: Vec<f32> = reader.samples().map(Result::unwrap).collect();
        let mut frames = samples.len() / usize::from(CHANNELS);
        assert!(frames > 0, "{name}: some programs take a length of 0 for unknown");
        let mut silent = vec![false; frames];
        for line in &lines[1..] {
            if let Some(gap) = line.get("gap") {
                let (from, blocks) = (gap["from"].as_u64().unwrap(), gap["blocks"].as_u64().unwrap());
                recorded.missing.extend(from..from + blocks);
                let start = number(&line["frame"]);
                silent.iter_mut().skip(start).take(number(&line["frames"])).for_each(|silent| *silent = true);
            } else if let Some(mark) = line.get("mark") {
                assert!(number(&mark["frame"]) <= frames, "{name}: {line}");
            } else {
                let reason = line["end"]["reason"].as_str().unwrap();
                assert!(number(&line["end"]["frames"]) == frames || reason == "failed", "{name}: {line}");
                frames = number(&line["end"]["frames"]);
                recorded.ends.push(reason.to_owned());
            }
        }
        recorded.frames.resize(recorded.frames.len().max(position + frames), Frame::Absent);
        for frame in 0..frames {
            let place = &mut recorded.frames[position + frame];
            assert_eq!(*place, Frame::Absent, "{name}: frame {frame} is in another file too");
            *place = if silent[frame] { Frame::Silence } else { Frame::Sound };
            for channel in 0..usize::from(CHANNELS) {
                let sample = samples[frame * usize::from(CHANNELS) + channel];
                let expected = noise((position + frame) * usize::from(CHANNELS) + channel);
                assert_eq!(sample, if silent[frame] { 0.0 } else { expected }, "{name}: frame {frame}");
            }
        }
    }
    recorded
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// Does the work of the recorder's thread, as far as it can be done now.
fn record(writer: &mut SegmentWriter<FakeStorage>, consumer: &mut Consumer<Block>, now: Timestamp) -> Option<End> {
    loop {
        let is_over = consumer.stats().end_reason().is_some();
        match writer.retry_at() {
            Some(retry_at) if now < retry_at && !is_over => return None,
            Some(_) if !writer.retry(now) => return None,
            _ => {}
        }
        match consumer.try_recv_at(now) {
            Ok(delivery) => writer.record(delivery, now),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Ended(end)) => return Some(end),
        }
    }
}

#[test]
fn files_equal_the_source_outside_the_noted_gaps_whatever_fails() {
    const FRAMES: usize = 15_003;
    let blocks = blocks(FRAMES, Duration::from_millis(10));
    for seed in 1..=24_u64 {
        let mut random = Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let storage = FakeStorage::default();
        let (mut publisher, hub) = Publisher::new(PublisherOptions::default());
        let options = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: 150,
            start: Start::From(0),
            ..SubscribeOptions::default()
        };
        let mut consumer = hub.subscribe(options).unwrap();
        let mut writer = segment_writer(&storage, &blocks, 7 + random.below(600));
        let (mut lost_until, mut stalled_until, mut healthy_from) = (0, 0, 0);
        for (n, block) in blocks.iter().enumerate() {
            let now = block.stamp.captured_at;
            if random.one_in(150) {
                lost_until = n as u64 + random.below(30);
            }
            if random.one_in(400) {
                stalled_until = n as u64 + random.below(400);
            }
            if random.one_in(200) {
                healthy_from = n as u64 + random.below(300);
                // One failure at a time: a full disk that also loses data has no room to note that.
                storage.heal();
                let mut disk = storage.disk();
                match random.below(4) {
                    0 => disk.create_fails = true,
                    1 => disk.sync_fails = Some([".wav", ".jsonl"][random.below(2) as usize]),
                    2 => disk.write_fails = Some(".jsonl"),
                    _ => disk.free_bytes = Some(random.below(9000) as usize),
                }
            } else if n as u64 == healthy_from {
                storage.heal();
            }
            if n as u64 >= lost_until {
                publisher.push_item(Arc::clone(block));
                publisher.flush();
            }
            if n as u64 >= stalled_until && random.one_in(2) {
                assert!(record(&mut writer, &mut consumer, now).is_none());
            }
            if random.one_in(100) {
                // A kill here would lose the last half of a second at most, and a loss of power the last five seconds.
                for (recorded, max_lost_frames) in
                    [(read_back(&storage), 510), (read_back_of(&storage, |file| &file.synced), 5010)]
                {
                    let (kept, written) = (recorded.frames, writer.next_sequence() as usize * 10);
                    assert!(!kept.contains(&Frame::Absent), "seed {seed}, block {n}");
                    assert!(
                        writer.retry_at().is_some() || kept.len() + max_lost_frames >= written,
                        "seed {seed}, block {n}: {} of {written}",
                        kept.len()
                    );
                }
            }
        }
        storage.heal();
        publisher.advance_to(blocks.len() as u64);
        publisher.finish(EndReason::Finished);
        let end = record(&mut writer, &mut consumer, Timestamp::now()).unwrap();
        writer.finish(end, Timestamp::now());

        let (recorded, account) = (read_back(&storage), consumer.stats().snapshot());
        assert_eq!(account.delivered + account.lost.total(), blocks.len() as u64);
        assert_eq!(recorded.missing.len() as u64, account.lost.total(), "seed {seed}");
        assert_eq!(recorded.count(Frame::Absent), 0, "seed {seed}");
        assert_eq!(recorded.count(Frame::Silence), recorded.missing.len() * 10, "seed {seed}");
        assert_eq!(recorded.frames.len().div_ceil(10), blocks.len());
        assert_eq!(recorded.ends.last().map(String::as_str), Some("finished"), "seed {seed}");
        assert_eq!(writer.next_sequence(), blocks.len() as u64);
        let files = storage.disk().files.len() as u64;
        let progress = writer.progress();
        assert_eq!((progress.blocks, progress.files * 2), (account.delivered, files), "seed {seed}");
        assert_eq!(progress.bytes, 8 * recorded.frames.len() as u64, "seed {seed}");
        assert_eq!((&progress.failing, &progress.file), (&None, &None));
    }
}

/// Returns a delivery with a gap of `blocks` blocks before it.
fn after_gap(item: &Arc<Item<Block>>, blocks: u64, reason: Loss) -> Delivery<Block> {
    let gap = (blocks > 0).then(|| Gap { from: item.stamp.sequence - blocks, items: blocks, reason });
    Delivery { gap, lag_items: 0, item: Arc::clone(item) }
}

fn record_all(writer: &mut SegmentWriter<FakeStorage>, blocks: &[Arc<Item<Block>>]) {
    for block in blocks {
        writer.record(after_gap(block, 0, Loss::Source), block.stamp.captured_at);
    }
}

fn finished(gap: Option<Gap>) -> End {
    End { reason: EndReason::Finished, gap }
}

#[test]
fn a_gap_of_over_a_minute_is_noted_and_not_filled() {
    let blocks = blocks(200_000, Duration::from_millis(100));
    // 600 blocks are a minute.
    for (missing, reason, frames) in [(600, "finished", 120_000), (601, "gap", 59_900)] {
        let storage = FakeStorage::default();
        let mut writer = segment_writer(&storage, &blocks, 10_000);
        record_all(&mut writer, &blocks[..100]);
        writer.record(after_gap(&blocks[100 + missing], missing as u64, Loss::Source), Timestamp::now());
        record_all(&mut writer, &blocks[101 + missing..1200]);
        // The same at the end of the stream.
        let tail = Gap { from: 1200, items: 700, reason: Loss::Overflow };
        writer.finish(finished(Some(tail)), Timestamp::now());
        let recorded = read_back(&storage);
        assert_eq!(recorded.ends[0], reason);
        assert_eq!(recorded.count(Frame::Sound), (1200 - missing) * 100);
        assert_eq!(recorded.count(Frame::Sound) + recorded.count(Frame::Silence), frames);
        assert_eq!(recorded.missing.len(), missing + 700);
        assert_eq!(writer.next_sequence(), 1900);
    }
}

#[test]
fn a_long_gap_is_noted_although_the_file_after_it_fails_at_first() {
    let blocks = blocks(100_000, Duration::from_millis(100));
    let storage = FakeStorage::default();
    let mut writer = segment_writer(&storage, &blocks, 10_000);
    record_all(&mut writer, &blocks[..10]);
    let now = blocks[20].stamp.captured_at;
    writer.sync_idle(now);
    // There is room for the end of this file and the header of the next, but not for sound in it.
    storage.disk().free_bytes = Some(1000);
    writer.record(after_gap(&blocks[800], 790, Loss::Source), now + Duration::from_secs(1));
    assert_eq!(storage.disk().files.len(), 2, "the failed file is removed");
    assert!(writer.progress().failing.as_ref().unwrap().contains("-0000000800.wav: "));
    storage.heal();
    assert!(writer.retry(now + Duration::from_secs(2)));
    writer.finish(finished(None), now);
    let recorded = read_back(&storage);
    assert_eq!(recorded.missing, (10..800).collect());
    assert_eq!(recorded.count(Frame::Sound), 11 * 100);
    assert_eq!(recorded.ends, ["gap", "finished"]);
}

#[test]
fn a_failing_disk_is_tried_once_a_second_and_collects_no_files() {
    let blocks = blocks(1000, Duration::from_millis(10));
    for free_bytes in [0, 100, 300] {
        let storage = FakeStorage::default();
        storage.disk().free_bytes = Some(free_bytes);
        let mut writer = segment_writer(&storage, &blocks, 10_000);
        let mut now = blocks[0].stamp.captured_at;
        writer.record(after_gap(&blocks[0], 0, Loss::Source), now);
        for _ in 0..10 {
            assert_eq!(writer.retry_at(), Some(now + Duration::from_secs(1)));
            now = now + Duration::from_secs(1);
            assert!(!writer.retry(now));
            assert!(storage.disk().files.is_empty());
            assert_eq!(storage.disk().free_bytes, Some(free_bytes));
        }
        storage.heal();
        assert!(writer.retry(now));
        record_all(&mut writer, &blocks[1..]);
        writer.finish(finished(None), now);
        assert_eq!(read_back(&storage).frames, [Frame::Sound; 1000]);
    }
}

#[test]
fn the_error_of_the_disk_is_noted_with_the_gap_that_it_caused_and_no_other() {
    let blocks = blocks(1000, Duration::from_millis(10));
    let errors = |has_caught_up: bool| {
        let storage = FakeStorage::default();
        let mut writer = segment_writer(&storage, &blocks, 10_000);
        storage.disk().create_fails = true;
        record_all(&mut writer, &blocks[..1]);
        storage.heal();
        assert!(writer.retry(Timestamp::now()));
        let lag_items = u64::from(!has_caught_up);
        writer.record(Delivery { lag_items, ..after_gap(&blocks[1], 0, Loss::Source) }, Timestamp::now());
        for n in [11, 21] {
            writer.record(after_gap(&blocks[n], 9, Loss::Overflow), Timestamp::now());
        }
        let disk = storage.disk();
        let (_, sidecar) = disk.files.iter().find(|(name, _)| name.ends_with(".jsonl")).unwrap();
        std::str::from_utf8(&sidecar.bytes).unwrap().matches("no such directory").count()
    };
    assert_eq!((errors(false), errors(true)), (1, 0));
}

#[test]
fn an_existing_file_is_not_touched() {
    let blocks = blocks(30, Duration::from_millis(10));
    let mut storage = FakeStorage::default();
    let stem = super::name::stem(blocks[0].stamp.captured_at, 0);
    for name in [format!("{stem}.wav"), format!("{stem}_2.jsonl")] {
        storage.create(&name).unwrap();
    }
    let mut writer = segment_writer(&storage, &blocks, 10);
    record_all(&mut writer, &blocks);
    writer.finish(finished(None), Timestamp::now());
    let files = &storage.disk().files;
    let names: Vec<_> = files.keys().map(|name| name.trim_start_matches(&stem)).collect();
    assert_eq!(names, [".wav", "_2.jsonl", "_3.jsonl", "_3.wav"]);
    assert!(files.values().take(2).all(|file| file.bytes.is_empty()));
}

#[test]
fn the_note_of_a_gap_is_on_the_disk_before_its_silence() {
    let blocks = blocks(300, Duration::from_millis(10));
    let storage = FakeStorage::default();
    let mut writer = segment_writer(&storage, &blocks, 10_000);
    record_all(&mut writer, &blocks[..1]);
    writer.record(after_gap(&blocks[20], 19, Loss::Source), Timestamp::now());
    storage.disk().synced.clear();
    writer.sync_idle(Timestamp::now());
    let endings: Vec<_> = storage.disk().synced.iter().map(|name| name[name.find('.').unwrap()..].to_owned()).collect();
    assert_eq!(endings, [".jsonl", ".wav"]);
}
