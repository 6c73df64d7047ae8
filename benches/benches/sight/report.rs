//! What was said, beside what was true.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use aircheck_benches::{Table, number};
use serde_json::Value;

use crate::receiver::{Reading, Receiver};
use crate::stream::{BLOCK, Stream};
use crate::{Case, Result, TOKEN, Times};

pub(crate) const EXPLANATION: &str = "\
what is said of each receiver, beside what is true, in seconds
error 1 s, 5 s   the largest error of the estimate, from so long after a change on; + is too much, - too little
outside          samples in which the truth was not within the bounds, of all
between          median of what lies between the bounds, while a receiver reads
lag              the true lag at the end
at most          the upper bound at the end
noticed          time from the freeze until the estimate is more than 0.25
accused          samples with a verdict although the receiver was less than 0.2 behind in the last second
";

/// Time in which receivers connect and get their first sound.
const SETTLE: Duration = Duration::from_secs(1);
/// How exactly the time of a row and of a position are known.
const TOLERANCE: f64 = 0.02;
/// A row is compared with the positions from this long before it was asked for, to this long after it was answered.
const AROUND: Duration = Duration::from_millis(25);
/// The most by which a machine delays an acknowledgement that is due, and some.
const ACK_DELAY: Duration = Duration::from_millis(60);
/// A lag that must be noticed.
const NOTICEABLE: f64 = 0.25;
/// A verdict on a lag that was always below this is false.
const MAX_LIVE: f64 = 0.2;
/// A machine on which this program pauses for longer delays receivers and relays as well. What is said up to so long after that is left
/// out.
const MAX_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MEMORY: Duration = Duration::from_millis(1500);
const VERDICT_MEMORY: Duration = Duration::from_secs(1);

/// The rows of all listeners, by their names, and when they were asked for and answered.
#[derive(Debug)]
pub(crate) struct Rows {
    asked: Duration,
    answered: Duration,
    rows: HashMap<String, Value>,
}

impl Rows {
    pub(crate) fn read(address: SocketAddr, started: Instant) -> Result<Self> {
        let asked = started.elapsed();
        let mut connection = TcpStream::connect(address)?;
        write!(
            connection,
            "GET /api/v1/listeners HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let rows: Vec<Value> = serde_json::from_str(body)?;
        let by_name = |row: Value| (row["name"].as_str().unwrap_or_default().to_owned(), row);
        Ok(Self { asked, answered: started.elapsed(), rows: rows.into_iter().map(by_name).collect() })
    }

    fn seconds(&self, name: &str, field: &str) -> Option<f64> {
        self.rows.get(name)?[field].as_f64()
    }
}

/// Everything that was seen on one path.
#[derive(Debug)]
pub(crate) struct Report {
    cases: Vec<Case>,
    /// The streams of the direct receivers.
    streams: Vec<&'static Stream>,
    times: Times,
    is_trace: bool,
    /// The positions of the cases' receivers and of the direct ones, at some moments.
    positions: Vec<(Duration, Vec<Duration>, Vec<Duration>)>,
    pub(crate) rows: Vec<Rows>,
}

/// What was said at one moment, and what was true.
#[derive(Debug)]
struct Sample {
    at: Duration,
    least: f64,
    estimate: f64,
    most: f64,
    /// The smallest and the largest true lag while the row was made.
    now: (f64, f64),
    is_inside: bool,
    is_accused: bool,
    parts: [f64; 3],
}

impl Sample {
    fn error(&self) -> f64 {
        (self.estimate - self.now.1).max(0.0) + (self.estimate - self.now.0).min(0.0)
    }
}

impl Report {
    pub(crate) fn new(cases: &[Case], streams: &[&'static Stream], times: Times, is_trace: bool) -> Self {
        let (positions, rows) = (Vec::new(), Vec::new());
        Self { cases: cases.to_vec(), streams: streams.to_vec(), times, is_trace, positions, rows }
    }

    /// Notes where all receivers are.
    pub(crate) fn note(&mut self, at: Duration, receivers: &[Receiver], direct: &[Receiver]) {
        let positions = |receivers: &[Receiver]| receivers.iter().map(Receiver::position).collect();
        self.positions.push((at, positions(receivers), positions(direct)));
    }

    /// Returns all samples of a case.
    fn samples(&self, index: usize) -> Vec<Sample> {
        let case = &self.cases[index];
        let (name, stream) = (format!("case-{index}"), case.stream);
        let direct = self.streams.iter().position(|other| other.name == stream.name).unwrap_or_default();
        let direct_name = stream.name.replace(['?', '='], "-");
        // Positions of Ogg begin with the listener.
        let mut offsets: Vec<f64> = self
            .rows
            .iter()
            .filter_map(|rows| Some(rows.seconds(&direct_name, "offered")? - rows.seconds(&name, "offered")?))
            .collect();
        offsets.sort_by(f64::total_cmp);
        let is_relative = matches!(stream.container, crate::stream::Container::Ogg);
        let offset = offsets.get(offsets.len() / 2).filter(|_| is_relative).unwrap_or(&0.0) * BLOCK.as_secs_f64();
        let packet = stream.packet.as_secs_f64();
        let truth = |from: Duration, to: Duration| {
            let from = self.positions.partition_point(|(at, ..)| *at < from);
            let until = self.positions.partition_point(|(at, ..)| *at <= to);
            let within = &self.positions[from.saturating_sub(1)..until];
            let lag = |(_, own, all): &(Duration, Vec<Duration>, Vec<Duration>)| {
                all[direct].as_secs_f64() - own[index].as_secs_f64() - offset
            };
            let least = within.iter().map(lag).fold(f64::INFINITY, f64::min);
            (least.max(0.0), within.iter().map(lag).fold(0.0, f64::max) + packet)
        };
        let memory = stream.packet + case.path.round_trip() + ACK_DELAY;
        let sample = |rows: &Rows| {
            let second = |field| rows.seconds(&name, field);
            let estimate = second("lag_seconds")?;
            let (least, most) = (second("lag_at_least_seconds")?, second("lag_at_most_seconds")?);
            let parts = ["undelivered_seconds", "socket_queued_seconds", "unread_seconds"].map(&second);
            let (from, to) = (rows.asked.saturating_sub(AROUND), rows.answered + AROUND);
            // What came before a listener is no lag of it.
            let due = second("offered")? * BLOCK.as_secs_f64();
            let now = truth(from, to);
            let now = (now.0.min(due), now.1.min(due + packet));
            let earlier = truth(from.saturating_sub(memory), from).1 + memory.as_secs_f64();
            let lately = truth(from.saturating_sub(VERDICT_MEMORY), to);
            Some(Sample {
                at: rows.answered,
                least,
                estimate,
                most,
                now,
                is_inside: least <= earlier + TOLERANCE && most >= now.0 - TOLERANCE,
                is_accused: rows.rows[&name]["verdict"] != "ok" && lately.1 < MAX_LIVE + packet,
                parts: parts.map(Option::unwrap_or_default),
            })
        };
        let pauses = self.pauses();
        let is_quiet = |rows: &&Rows| {
            let is_near = |(from, to): &(Duration, Duration)| *from <= rows.answered + AROUND && rows.asked <= *to;
            rows.asked >= SETTLE && !pauses.iter().any(is_near)
        };
        self.rows.iter().filter(is_quiet).filter_map(sample).collect()
    }

    /// Returns when the machine was busy: the start of each pause of this program, and the end of what it spoils.
    fn pauses(&self) -> Vec<(Duration, Duration)> {
        let looks = self.positions.windows(2).map(|looks| (looks[0].0, looks[1].0));
        let pauses = looks.filter(|(from, to)| to.saturating_sub(*from) > MAX_PAUSE);
        pauses.map(|(from, to)| (from, to + PAUSE_MEMORY)).collect()
    }

    /// Returns a line of the table.
    fn line(&self, index: usize, samples: &[Sample]) -> [String; 11] {
        let (case, times) = (&self.cases[index], self.times);
        let changes = match case.reading {
            Reading::NothingFromTheStart | Reading::Everything => vec![Duration::ZERO],
            Reading::NothingForAWhile => vec![times.change, times.back],
            _ => vec![times.change],
        };
        let error = |after: Duration| {
            let is_near = |at: &Duration| changes.iter().any(|change| *at >= *change && *at < *change + after);
            let judged = samples.iter().filter(|sample| sample.at >= changes[0] && !is_near(&sample.at));
            let largest = judged.map(Sample::error).max_by(|a, b| a.abs().total_cmp(&b.abs()));
            largest.map_or_else(|| "-".to_owned(), |error| format!("{error:+.2}"))
        };
        let outside = samples.iter().filter(|sample| !sample.is_inside).count();
        let is_reading = |sample: &&Sample| case.reading == Reading::Everything || sample.at < times.change;
        let reads = samples.iter().filter(is_reading).filter(|_| case.reading != Reading::NothingFromTheStart);
        let mut between: Vec<f64> = reads.map(|sample| sample.most - sample.least).collect();
        between.sort_by(f64::total_cmp);
        let freezes = matches!(case.reading, Reading::Nothing | Reading::NothingForAWhile);
        let noticed = samples.iter().find(|sample| sample.at >= times.change && sample.estimate > NOTICEABLE);
        let noticed = noticed.filter(|_| freezes).map(|sample| (sample.at - times.change).as_secs_f64());
        let noticed = if freezes && noticed.is_none() { "never".to_owned() } else { number(noticed, 1) };
        let accused = samples.iter().filter(|sample| sample.is_accused).count();
        let last = samples.last();
        let seconds = |value: Option<f64>| number(value, 2);
        [
            format!("{}/{}", case.path.name(), case.stream.name),
            case.buffer.name().to_owned(),
            case.reading.name().to_owned(),
            error(Duration::from_secs(1)),
            error(Duration::from_secs(5)),
            format!("{outside}/{}", samples.len()),
            seconds(between.get(between.len() / 2).copied()),
            seconds(last.map(|sample| sample.now.0)),
            seconds(last.map(|sample| sample.most)),
            noticed,
            accused.to_string(),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "path/stream",
            "buffer",
            "receiver",
            "error 1 s",
            "5 s",
            "outside",
            "between",
            "lag",
            "at most",
            "noticed",
            "accused",
        ]);
        for index in 0..self.cases.len() {
            let samples = self.samples(index);
            if self.is_trace {
                writeln!(f, "{}", self.cases[index].name())?;
                for sample in &samples {
                    let Sample { at, least, estimate, most, now, parts, .. } = sample;
                    let [undelivered, queued, unread] = parts;
                    let wrong = if sample.is_inside { "" } else { " OUTSIDE" };
                    let accused = if sample.is_accused { " ACCUSED" } else { "" };
                    writeln!(
                        f,
                        "{:5.2} s: true {:.2} to {:.2}, said {least:.2} <= {estimate:.2} <= {most:.2}: \
                         undelivered {undelivered:.2}, in the kernel {queued:.2}, unread {unread:.2}{wrong}{accused}",
                        at.as_secs_f64(),
                        now.0,
                        now.1,
                    )?;
                }
            }
            table.row(self.line(index, &samples));
        }
        write!(f, "{table}")?;
        let pauses = self.positions.windows(2).map(|looks| looks[1].0.saturating_sub(looks[0].0));
        let longest = pauses.max().unwrap_or_default();
        let busy = match self.pauses().len() {
            0 => String::new(),
            pauses => format!(": the machine was busy {pauses} times, and what was said then is left out"),
        };
        writeln!(f, "this program itself paused for {} ms at most{busy}", longest.as_millis())
    }
}
