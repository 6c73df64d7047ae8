//! HdrHistogram's interval logs: histograms over time, one line each, of values in nanoseconds.
//!
//! A log of ours begins with comments on its origin, and the tag of an interval names its measurement. Logs of other
//! tools are read as well; untagged intervals are called `all`.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag};
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

/// The first line of every version of the format begins with this.
const MARK: &str = "#[Histogram log format version ";
/// Versions that are read. They differ in the compression of the histograms, which a histogram names itself.
const VERSIONS: [&str; 3] = ["1.1", "1.2", "1.3"];
/// The version that is written.
const VERSION: &str = "1.3";
/// The largest value of an interval is shown in milliseconds, as HdrHistogram's own tools have it.
const NANOS_PER_SHOWN: f64 = 1e6;
/// The first bytes of a compressed histogram.
const COMPRESSED: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();
/// Bytes of a histogram before its counts.
const HISTOGRAM_HEAD_BYTES: usize = 40;
/// The most bytes of a histogram: a count takes up to 9, and one of 5 digits for all values of 64 bits has some 6 million.
const MAX_HISTOGRAM_BYTES: u64 = 64 << 20;
/// Name of intervals without a tag.
const UNTAGGED: &str = "all";

/// The content of a log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Comments, without the format's own.
    pub comments: Vec<String>,
    /// The measurements, in the order of first appearance.
    pub series: Vec<Series>,
}

/// All intervals with one tag.
#[derive(Clone, Debug)]
pub struct Series {
    /// The tag.
    pub name: String,
    /// The histogram of all intervals together, in nanoseconds.
    pub histogram: Histogram<u64>,
}

/// A reason that a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {trouble}", path.display())]
pub struct LogError {
    path: PathBuf,
    trouble: Trouble,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is not an HdrHistogram log, which begins with `{MARK}1.3]`")]
    Foreign,
    #[error("it has version {version} of the format, and {read} can be read", read = VERSIONS.join(", "))]
    Version { version: String },
    #[error("it is cut off in line {0} (has the run that writes it ended?)")]
    Cut(usize),
    #[error("line {0} is not an interval")]
    Line(usize),
    #[error("line {0} has no histogram")]
    Histogram(usize),
    #[error("it has no intervals")]
    Nothing,
}

impl Log {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is empty or cut off, is not such a log or of another version, or has no intervals.
    pub fn read(path: &Path) -> Result<Self, LogError> {
        std::fs::read(path)
            .map_err(Trouble::Io)
            .and_then(|bytes| Self::parse(&bytes))
            .map_err(|trouble| LogError { path: path.to_owned(), trouble })
    }

    fn parse(bytes: &[u8]) -> Result<Self, Trouble> {
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().find(|line| !line.trim().is_empty()).ok_or(Trouble::Empty)?;
        let version = first.strip_prefix(MARK).and_then(|rest| rest.split(']').next()).ok_or(Trouble::Foreign)?;
        if !VERSIONS.contains(&version) {
            return Err(Trouble::Version { version: version.to_owned() });
        }
        if !text.ends_with('\n') {
            return Err(Trouble::Cut(text.lines().count()));
        }
        let mut log = Self { comments: Vec::new(), series: Vec::new() };
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            if let Some(comment) = line.strip_prefix('#') {
                // The format's own comments are in brackets.
                log.comments.extend((!comment.starts_with('[')).then(|| comment.trim().to_owned()));
                continue;
            }
            // Line by line, so that an error has the line's number.
            let interval = match IntervalLogIterator::new(line.as_bytes()).next() {
                Some(Ok(LogEntry::Interval(interval))) => interval,
                Some(Err(_)) => return Err(Trouble::Line(number)),
                // The titles of the columns.
                Some(Ok(_)) | None => continue,
            };
            let name = interval.tag().map_or(UNTAGGED, |tag| tag.as_str());
            let histogram = decode(interval.encoded_histogram()).ok_or(Trouble::Histogram(number))?;
            match log.series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.histogram.add(&histogram).map_err(|_| Trouble::Histogram(number))?,
                None => log.series.push(Series { name: name.to_owned(), histogram }),
            }
        }
        if log.series.is_empty() { Err(Trouble::Nothing) } else { Ok(log) }
    }
}

fn decode(encoded: &str) -> Option<Histogram<u64>> {
    let bytes = unpack(STANDARD.decode(encoded).ok()?)?;
    let mut histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
    // An interval of a larger range can then be added. The buckets stay those of the file: counts moved into finer ones
    // would all lie at the lower end of their old bucket, up to 1/128 below what HdrHistogram's own tools report.
    histogram.auto(true);
    Some(histogram)
}

/// Returns an uncompressed histogram, which has the length that it promises: the crate would take up to 4 GiB for one that does
/// not.
fn unpack(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let bytes = match bytes.split_first_chunk::<8>() {
        Some((head, packed)) if head.starts_with(&COMPRESSED) => {
            let mut unpacked = Vec::new();
            ZlibDecoder::new(packed).take(MAX_HISTOGRAM_BYTES).read_to_end(&mut unpacked).ok()?;
            unpacked
        }
        _ => bytes,
    };
    let promised = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    let there = bytes.len().checked_sub(HISTOGRAM_HEAD_BYTES)?;
    (promised as usize <= there).then_some(bytes)
}

/// One interval to be written.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// The name of the measurement, without spaces, commas or line breaks.
    pub tag: &'a str,
    /// Its beginning, from the start of the log.
    pub start: Duration,
    /// Its length.
    pub span: Duration,
    /// Values in nanoseconds.
    pub histogram: &'a Histogram<u64>,
}

/// Writes a log, with comments on its origin.
///
/// # Errors
///
/// If the file cannot be written, or a tag is not possible.
pub fn write(path: &Path, comments: &[String], start: SystemTime, intervals: &[Interval<'_>]) -> io::Result<()> {
    let mut writer = Writer::create(path, comments, start)?;
    intervals.iter().try_for_each(|interval| writer.write(interval))?;
    writer.flush()
}

/// Writes a log while a run goes on. Intervals that were flushed are kept if the run breaks off.
pub struct Writer {
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
    bytes: Vec<u8>,
}

impl Writer {
    /// Creates a log, with comments on its origin. An existing file is replaced.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn create(path: &Path, comments: &[String], start: SystemTime) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        // The crate's own writer leaves out the mark, without which HdrHistogram's other tools assume an old version.
        writeln!(file, "{MARK}{VERSION}]")?;
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        for comment in comments {
            builder.add_comment(comment);
        }
        builder.with_start_time(start).with_base_time(start).with_max_value_divisor(NANOS_PER_SHOWN);
        drop(builder.begin_log_with(&mut file, &mut serializer)?);
        Ok(Self { file, serializer, bytes: Vec::new() })
    }

    /// Adds an interval. Its line is made here, because the crate's own writer borrows its file and so cannot be kept.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the tag is not possible.
    pub fn write(&mut self, interval: &Interval<'_>) -> io::Result<()> {
        let Interval { tag, start, span, histogram } = interval;
        let tag = Tag::new(tag).ok_or_else(|| io::Error::other(format!("`{tag}` is no tag")))?;
        self.bytes.clear();
        self.serializer
            .serialize(histogram, &mut self.bytes)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        let text = STANDARD.encode(&self.bytes);
        let (start, span) = (start.as_secs_f64(), span.as_secs_f64());
        let shown = histogram.max() as f64 / NANOS_PER_SHOWN;
        writeln!(self.file, "Tag={},{start:.3},{span:.3},{shown:.3},{text}", tag.as_str())
    }

    /// Writes buffered intervals to the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.hlog");
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        (1..=1000).for_each(|n| histogram.record(n * 1000).unwrap());
        let interval = |tag, start| Interval {
            tag,
            start: Duration::from_secs(start),
            span: Duration::from_secs(1),
            histogram: &histogram,
        };
        let intervals = [interval("ring", 0), interval("queue", 0), interval("ring", 1)];
        write(&path, &["one machine".to_owned()], SystemTime::UNIX_EPOCH, &intervals).unwrap();
        (directory, path)
    }

    #[test]
    fn a_written_log_reads_back() {
        let (_directory, path) = sample();
        let log = Log::read(&path).unwrap();
        assert!(log.comments.contains(&"one machine".to_owned()));
        assert_eq!(log.series.iter().map(|series| &*series.name).collect::<Vec<_>>(), ["ring", "queue"]);
        assert_eq!(log.series[0].histogram.len(), 2000);
        assert!((495_000..505_000).contains(&log.series[1].histogram.value_at_quantile(0.5)));
    }

    #[test]
    fn quantiles_are_those_of_the_histogram_that_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("load.hlog");
        // Two digits, as `aircheckctl load` writes them, for a range that is too small for the second interval.
        let mut short = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 2).unwrap();
        let mut long = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2).unwrap();
        (1..=1000).for_each(|n| short.record(n * 1_003).unwrap());
        (1..=1000).for_each(|n| long.record(n * 50_000_017).unwrap());
        let spans = [(&short, 0), (&long, 1)].map(|(histogram, start)| Interval {
            tag: "latency",
            start: Duration::from_secs(start),
            span: Duration::from_secs(1),
            histogram,
        });
        write(&path, &[], SystemTime::UNIX_EPOCH, &spans).unwrap();
        let mut together = long;
        together.add(&short).unwrap();

        let read = Log::read(&path).unwrap().series.remove(0).histogram;
        for quantile in [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0] {
            assert_eq!(read.value_at_quantile(quantile), together.value_at_quantile(quantile), "at {quantile}");
        }
    }

    #[test]
    fn an_unreadable_log_is_an_error_in_a_sentence() {
        let (_directory, path) = sample();
        let whole = std::fs::read_to_string(&path).unwrap();
        let body = whole.split_once('\n').unwrap().1;
        let cut = &whole[..whole.len() - 20];
        let cases = [
            (String::new(), "empty"),
            ("\n\n".to_owned(), "empty"),
            ("a,b,c\n".to_owned(), "not an HdrHistogram log"),
            (format!("{MARK}2.0]\n{body}"), "version 2.0"),
            (cut.to_owned(), "cut off in line"),
            (format!("{MARK}1.3]\n#only words\n"), "no intervals"),
            (format!("{MARK}1.3]\nnonsense\n"), "line 2 is not an interval"),
            (format!("{MARK}1.3]\nTag=a,0.1,1.0,2.0,AAAA\n"), "line 2 has no histogram"),
        ];
        for (text, word) in cases {
            std::fs::write(&path, &text).unwrap();
            let error = Log::read(&path).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("a.hlog"), "{error:?} should say {word:?}");
        }
        assert!(Log::read(Path::new("/nonexistent/b.hlog")).unwrap_err().to_string().contains("No such file"));
    }
}
