//! The fuzz target of logs of histograms, which come from other machines and other tools.

use aircheck_fuzz::{assert_one_line, edited, text};
use bolero::check;

use super::*;

const WORDS: [&str; 24] = [
    "#[Histogram log format version 1.3]\n",
    "#[Histogram log format version 1.2]\n",
    "\n",
    "#",
    "Tag=",
    "Tag=a,",
    ",",
    "0.1",
    "1.0",
    "-1",
    "nan",
    "1e400",
    "99999999999999999999",
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    "HISTFAAAABx4nJNpmSzMwMDAxAABzFCaEUoz2X+AsQA0SgKI",
    "HISTEwAA",
    "AAAA",
    "====",
    "[StartTime: 1.5",
    "[BaseTime: 1.5",
    "]",
    "\u{fc}",
    "\r\n",
    " ",
];

/// A plain histogram without its payload: cookie, length, offset, digits, bounds and ratio.
fn histogram(payload_bytes: u32, digits: u32, high: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [0x1c84_9313, payload_bytes, 0, digits] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    for number in [1, high, 1.0_f64.to_bits()] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn check_log(bytes: &[u8]) {
    match Log::parse(bytes) {
        Ok(log) => {
            for series in &log.series {
                // As a report does.
                let _ = (series.histogram.len(), series.histogram.value_at_quantile(0.99), series.histogram.max());
            }
        }
        Err(trouble) => assert_one_line(&trouble.to_string()),
    }
}

#[test]
fn log() {
    check!().with_max_len(96).for_each(|bytes: &[u8]| check_log(text(bytes, &WORDS).as_bytes()));
}

#[test]
fn histogram_of_a_line() {
    let bases = [histogram(2, 3, 1_000_000), histogram(2, 2, u64::MAX / 2)].map(|head| [&head[..], &[2, 4]].concat());
    let [short, long] = bases.each_ref().map(Vec::as_slice);
    check!().with_max_len(64).for_each(|bytes: &[u8]| {
        let line = STANDARD.encode(edited(bytes, &[short, long]));
        check_log(format!("{MARK}{VERSION}]\n0.1,1.0,2.0,{line}\n").as_bytes());
    });
}

#[test]
fn a_histogram_that_promises_gigabytes_takes_no_memory() {
    let line = |bytes: &[u8]| format!("{MARK}{VERSION}]\n0.1,1.0,2.0,{}\n", STANDARD.encode(bytes));
    let plain = histogram(u32::MAX, 3, 1_000_000);
    let before = resident_kib();
    assert!(Log::parse(line(&plain).as_bytes()).is_err());
    // The same, compressed: a kilobyte that unpacks to a megabyte.
    let bomb = [&plain[..], &[0; 1 << 20]].concat();
    let mut packed = 0x1c84_9314_u32.to_be_bytes().to_vec();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&bomb).unwrap();
    let zlib = zlib.finish().unwrap();
    packed.extend_from_slice(&(zlib.len() as u32).to_be_bytes());
    packed.extend_from_slice(&zlib);
    assert!(Log::parse(line(&packed).as_bytes()).is_err());
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 512 * 1024, "{grown} KiB were taken");
}

/// Returns a line of this process' status in KiB.
fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
}

fn resident_kib() -> u64 {
    status_kib("VmRSS:")
}

fn peak_kib() -> u64 {
    status_kib("VmHWM:")
}
