//! Proof that nothing is lost in silence: a recording on a shelf that fails in every way, laid over its source.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::source::{Paced, Pull};
use aircheck_engine::{
    Block, Consumer, Delivery, End, EndReason, FanOut, FanOutOptions, Gap, Item, Loss, Overflow, RecvError, Start,
    Stream, StreamOptions, SubscribeOptions, Timestamp,
};
use serde_json::Value;

use super::fake::{Fake, Kept};
use super::segment_writer::Reel;
use super::storage::Shelf;

const CHANNELS: u16 = 2;
const RATE_HZ: u32 = 1000;

/// Noise that says where it belongs; never silent.
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

/// All blocks of so many frames of noise.
fn blocks(frames: usize, block: Duration) -> Vec<Arc<Item<Block>>> {
    let noise = Noise { next: 0, end: frames * usize::from(CHANNELS) };
    let options = StreamOptions { block, live: false, await_consumers: 1, ..StreamOptions::default() };
    let stream = Stream::start(Box::new(Paced::new(noise)), options).unwrap();
    let options = SubscribeOptions { overflow: Overflow::Block, ..SubscribeOptions::default() };
    let mut consumer = stream.subscribe(options).unwrap();
    std::iter::from_fn(|| consumer.recv().ok().map(|delivery| delivery.item)).collect()
}

fn reel(shelf: &Fake, blocks: &[Arc<Item<Block>>], take_blocks: u64) -> Reel<Fake> {
    Reel::new(shelf.clone(), blocks[0].format(), "noise".into(), take_blocks)
}

/// What a frame of the stream is in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Frame {
    #[default]
    Absent,
    Sound,
    Silence,
}

/// What the files hold.
#[derive(Default)]
struct Overlay {
    frames: Vec<Frame>,
    /// Blocks of which a sidecar says that they are missing.
    missing: BTreeSet<u64>,
    /// Why the files ended, in their order.
    ends: Vec<String>,
}

impl Overlay {
    fn count(&self, what: Frame) -> usize {
        self.frames.iter().filter(|frame| **frame == what).count()
    }
}

/// Lays every file over the source, as a program that finds them after a kill would: it is equal outside the gaps that
/// the sidecars tell, silent inside them, and nothing is there twice.
fn lay_over(shelf: &Fake) -> Overlay {
    lay_over_what(shelf, |file| &file.bytes)
}

/// Likewise, with what would be left of the files.
fn lay_over_what(shelf: &Fake, left: impl Fn(&Kept) -> &Vec<u8>) -> Overlay {
    let files = shelf.world().files.clone();
    let mut overlay = Overlay::default();
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
        assert!(frames > 0, "{name}: a header that says 0 may mean anything");
        let mut silent = vec![false; frames];
        for line in &lines[1..] {
            if let Some(gap) = line.get("gap") {
                let (from, blocks) = (gap["from"].as_u64().unwrap(), gap["blocks"].as_u64().unwrap());
                overlay.missing.extend(from..from + blocks);
                let start = number(&line["frame"]);
                silent.iter_mut().skip(start).take(number(&line["frames"])).for_each(|silent| *silent = true);
            } else {
                let reason = line["end"]["reason"].as_str().unwrap();
                assert!(number(&line["end"]["frames"]) == frames || reason == "failed", "{name}: {line}");
                frames = number(&line["end"]["frames"]);
                overlay.ends.push(reason.to_owned());
            }
        }
        overlay.frames.resize(overlay.frames.len().max(position + frames), Frame::Absent);
        for frame in 0..frames {
            let place = &mut overlay.frames[position + frame];
            assert_eq!(*place, Frame::Absent, "{name}: frame {frame} is in another file too");
            *place = if silent[frame] { Frame::Silence } else { Frame::Sound };
            for channel in 0..usize::from(CHANNELS) {
                let sample = samples[frame * usize::from(CHANNELS) + channel];
                let expected = noise((position + frame) * usize::from(CHANNELS) + channel);
                assert_eq!(sample, if silent[frame] { 0.0 } else { expected }, "{name}: frame {frame}");
            }
        }
    }
    overlay
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

/// What the recorder's thread does, as far as it can go now.
fn record(reel: &mut Reel<Fake>, consumer: &mut Consumer<Block>, now: Timestamp) -> Option<End> {
    loop {
        let is_over = consumer.tally().end_reason().is_some();
        match reel.retry_at() {
            Some(retry_at) if now < retry_at && !is_over => return None,
            Some(_) if !reel.retry(now) => return None,
            _ => {}
        }
        match consumer.try_recv(now) {
            Ok(delivery) => reel.record(delivery, now),
            Err(RecvError::Empty) => return None,
            Err(RecvError::Ended(end)) => return Some(end),
        }
    }
}

#[test]
fn whatever_fails_the_files_are_the_source_outside_the_gaps_that_they_tell() {
    const FRAMES: usize = 15_003;
    let blocks = blocks(FRAMES, Duration::from_millis(10));
    for seed in 1..=24_u64 {
        let mut random = Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let shelf = Fake::default();
        let (mut fan_out, hub) = FanOut::new(FanOutOptions::default());
        let options = SubscribeOptions { overflow: Overflow::DropNewest, buffer: 150, start: Start::From(0) };
        let mut consumer = hub.subscribe(options).unwrap();
        let mut reel = reel(&shelf, &blocks, 7 + random.below(600));
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
                // One thing at a time: a full disk that loses what it has cannot even be told of.
                shelf.heal();
                let mut world = shelf.world();
                match random.below(4) {
                    0 => world.create_fails = true,
                    1 => world.sync_fails = Some([".wav", ".jsonl"][random.below(2) as usize]),
                    2 => world.write_fails = Some(".jsonl"),
                    _ => world.free_bytes = Some(random.below(9000) as usize),
                }
            } else if n as u64 == healthy_from {
                shelf.heal();
            }
            if n as u64 >= lost_until {
                fan_out.push_item(Arc::clone(block));
                fan_out.flush();
            }
            if n as u64 >= stalled_until && random.one_in(2) {
                assert!(record(&mut reel, &mut consumer, now).is_none());
            }
            if random.one_in(100) {
                // Killed here, nothing is missing but the last half of a second, and without power the last five.
                for (overlay, most_frames) in
                    [(lay_over(&shelf), 510), (lay_over_what(&shelf, |file| &file.synced), 5010)]
                {
                    let (kept, written) = (overlay.frames, reel.next() as usize * 10);
                    assert!(!kept.contains(&Frame::Absent), "seed {seed}, block {n}");
                    assert!(
                        reel.retry_at().is_some() || kept.len() + most_frames >= written,
                        "seed {seed}, block {n}: {} of {written}",
                        kept.len()
                    );
                }
            }
        }
        shelf.heal();
        fan_out.advance_to(blocks.len() as u64);
        fan_out.finish(EndReason::Finished);
        let end = record(&mut reel, &mut consumer, Timestamp::now()).unwrap();
        reel.finish(end, Timestamp::now());

        let (overlay, account) = (lay_over(&shelf), consumer.tally().snapshot());
        assert_eq!(account.delivered + account.lost.total(), blocks.len() as u64);
        assert_eq!(overlay.missing.len() as u64, account.lost.total(), "seed {seed}");
        assert_eq!(overlay.count(Frame::Absent), 0, "seed {seed}");
        assert_eq!(overlay.count(Frame::Silence), overlay.missing.len() * 10, "seed {seed}");
        assert_eq!(overlay.frames.len().div_ceil(10), blocks.len());
        assert_eq!(overlay.ends.last().map(String::as_str), Some("finished"), "seed {seed}");
        assert_eq!(reel.next(), blocks.len() as u64);
        let files = shelf.world().files.len() as u64;
        let progress = reel.progress();
        assert_eq!((progress.blocks, progress.files * 2), (account.delivered, files), "seed {seed}");
        assert_eq!(progress.bytes, 8 * overlay.frames.len() as u64, "seed {seed}");
        assert_eq!((&progress.failing, &progress.file), (&None, &None));
    }
}

/// A delivery with `blocks` blocks missing before it.
fn after_gap(item: &Arc<Item<Block>>, blocks: u64, reason: Loss) -> Delivery<Block> {
    let gap = (blocks > 0).then(|| Gap { from: item.stamp.sequence - blocks, blocks, reason });
    Delivery { gap, lag_items: 0, item: Arc::clone(item) }
}

fn record_all(reel: &mut Reel<Fake>, blocks: &[Arc<Item<Block>>]) {
    for block in blocks {
        reel.record(after_gap(block, 0, Loss::Source), block.stamp.captured_at);
    }
}

fn finished(gap: Option<Gap>) -> End {
    End { reason: EndReason::Finished, gap }
}

#[test]
fn a_gap_of_over_a_minute_is_told_and_not_filled() {
    let blocks = blocks(200_000, Duration::from_millis(100));
    // 600 blocks are a minute.
    for (missing, reason, frames) in [(600, "finished", 120_000), (601, "gap", 59_900)] {
        let shelf = Fake::default();
        let mut reel = reel(&shelf, &blocks, 10_000);
        record_all(&mut reel, &blocks[..100]);
        reel.record(after_gap(&blocks[100 + missing], missing as u64, Loss::Source), Timestamp::now());
        record_all(&mut reel, &blocks[101 + missing..1200]);
        // At the end, too.
        let tail = Gap { from: 1200, blocks: 700, reason: Loss::Overflow };
        reel.finish(finished(Some(tail)), Timestamp::now());
        let overlay = lay_over(&shelf);
        assert_eq!(overlay.ends[0], reason);
        assert_eq!(overlay.count(Frame::Sound), (1200 - missing) * 100);
        assert_eq!(overlay.count(Frame::Sound) + overlay.count(Frame::Silence), frames);
        assert_eq!(overlay.missing.len(), missing + 700);
        assert_eq!(reel.next(), 1900);
    }
}

#[test]
fn a_long_gap_is_told_although_the_file_after_it_fails_at_first() {
    let blocks = blocks(100_000, Duration::from_millis(100));
    let shelf = Fake::default();
    let mut reel = reel(&shelf, &blocks, 10_000);
    record_all(&mut reel, &blocks[..10]);
    let now = blocks[20].stamp.captured_at;
    reel.rest(now);
    // Room for the end of this file and for the beginning of the next, not for sound in it.
    shelf.world().free_bytes = Some(1000);
    reel.record(after_gap(&blocks[800], 790, Loss::Source), now + Duration::from_secs(1));
    assert_eq!(shelf.world().files.len(), 2, "nothing of the file that failed is left");
    assert!(reel.progress().failing.as_ref().unwrap().contains("-0000000800.wav: "));
    shelf.heal();
    assert!(reel.retry(now + Duration::from_secs(2)));
    reel.finish(finished(None), now);
    let overlay = lay_over(&shelf);
    assert_eq!(overlay.missing, (10..800).collect());
    assert_eq!(overlay.count(Frame::Sound), 11 * 100);
    assert_eq!(overlay.ends, ["gap", "finished"]);
}

#[test]
fn a_disk_that_keeps_failing_is_asked_once_a_second_and_not_littered() {
    let blocks = blocks(1000, Duration::from_millis(10));
    for free_bytes in [0, 100, 300] {
        let shelf = Fake::default();
        shelf.world().free_bytes = Some(free_bytes);
        let mut reel = reel(&shelf, &blocks, 10_000);
        let mut now = blocks[0].stamp.captured_at;
        reel.record(after_gap(&blocks[0], 0, Loss::Source), now);
        for _ in 0..10 {
            assert_eq!(reel.retry_at(), Some(now + Duration::from_secs(1)));
            now = now + Duration::from_secs(1);
            assert!(!reel.retry(now));
            assert!(shelf.world().files.is_empty());
            assert_eq!(shelf.world().free_bytes, Some(free_bytes));
        }
        shelf.heal();
        assert!(reel.retry(now));
        record_all(&mut reel, &blocks[1..]);
        reel.finish(finished(None), now);
        assert_eq!(lay_over(&shelf).frames, [Frame::Sound; 1000]);
    }
}

#[test]
fn what_the_disk_did_is_told_with_the_gap_that_it_caused_and_no_other() {
    let blocks = blocks(1000, Duration::from_millis(10));
    let errors = |has_caught_up: bool| {
        let shelf = Fake::default();
        let mut reel = reel(&shelf, &blocks, 10_000);
        shelf.world().create_fails = true;
        record_all(&mut reel, &blocks[..1]);
        shelf.heal();
        assert!(reel.retry(Timestamp::now()));
        let lag_items = u64::from(!has_caught_up);
        reel.record(Delivery { lag_items, ..after_gap(&blocks[1], 0, Loss::Source) }, Timestamp::now());
        for n in [11, 21] {
            reel.record(after_gap(&blocks[n], 9, Loss::Overflow), Timestamp::now());
        }
        let world = shelf.world();
        let (_, sidecar) = world.files.iter().find(|(name, _)| name.ends_with(".jsonl")).unwrap();
        std::str::from_utf8(&sidecar.bytes).unwrap().matches("no such directory").count()
    };
    assert_eq!((errors(false), errors(true)), (1, 0));
}

#[test]
fn a_file_that_is_there_is_not_touched() {
    let blocks = blocks(30, Duration::from_millis(10));
    let mut shelf = Fake::default();
    let stem = super::name::stem(blocks[0].stamp.captured_at, 0);
    for name in [format!("{stem}.wav"), format!("{stem}_2.jsonl")] {
        shelf.create(&name).unwrap();
    }
    let mut reel = reel(&shelf, &blocks, 10);
    record_all(&mut reel, &blocks);
    reel.finish(finished(None), Timestamp::now());
    let files = &shelf.world().files;
    let names: Vec<_> = files.keys().map(|name| name.trim_start_matches(&stem)).collect();
    assert_eq!(names, [".wav", "_2.jsonl", "_3.jsonl", "_3.wav"]);
    assert!(files.values().take(2).all(|file| file.bytes.is_empty()));
}

#[test]
fn why_there_is_silence_is_on_the_disk_before_the_silence() {
    let blocks = blocks(300, Duration::from_millis(10));
    let shelf = Fake::default();
    let mut reel = reel(&shelf, &blocks, 10_000);
    record_all(&mut reel, &blocks[..1]);
    reel.record(after_gap(&blocks[20], 19, Loss::Source), Timestamp::now());
    shelf.world().synced.clear();
    reel.rest(Timestamp::now());
    let endings: Vec<_> = shelf.world().synced.iter().map(|name| name[name.find('.').unwrap()..].to_owned()).collect();
    assert_eq!(endings, [".jsonl", ".wav"]);
}
