//! aircheck beside Icecast and beside the floor: the same sound in pages of the same length to as many listeners, on the
//! same machine, in one run.
//!
//! One aircheck, the *origin*, encodes a looping WAV to Ogg Opus at 96 kbit/s, or serves it as PCM. The contenders:
//! - *Icecast*, which the bench feeds with the origin's packets in Ogg pages of exactly 10, 100 or 500 ms (of PCM, with
//!   pieces of that length), and which passes each page on;
//! - *aircheck*, which plays the same WAV itself and sends each listener what came in that time in one piece
//!   (`?gather=`); within a piece, its Ogg pages are as short as its blocks;
//! - the *floor*: a bare loop of non-blocking `send` of the pages that Icecast gets to as many sockets. It has no queues,
//!   accounts or late listeners: no server that writes to each socket can be cheaper.
//!
//! Longer pages are fewer system calls, so only rows of the same page length can be compared. `aircheckctl load` listens
//! to one contender after the other, so that each has the machine to itself, and counts first bytes and stalls. Each row
//! has a server of its own, because the memory that an allocator keeps from one set of listeners serves the next.
//!
//! Processor time is that of the server's threads (`/proc/PID/task/*/schedstat`) over the window alone, when all
//! listeners have come; of the floor, that of the sending thread. The same with one listener is the server's own share,
//! which for aircheck is capturing, encoding and metering. Memory is `RssAnon` of the server beyond that with one
//! listener. The processor time of the load tool is shown and is in no other figure; neither is that of the origin and of
//! the feed, which run for Icecast and the floor.
//!
//! Icecast starts a listener with a burst of the last 64 KiB: its first bytes come at once and are seconds old for Opus.
//! aircheck starts at the live head. Icecast tells neither a listener's delay nor its losses.
//!
//! `make bench-icecast` builds the programs, passes their paths in `AIRCHECK_PROGRAM` and `AIRCHECKCTL_PROGRAM`, and runs
//! this. `-- "opus/500 ms"` measures only those cases, `-- --quick` takes 20 listeners for three seconds.

mod case;
mod feed;
mod floor;
mod load;
mod result;
mod server;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aircheck_benches::{Arguments, Steal, WAV_RATE_HZ, write_wav};

use case::{Case, Contender};
use feed::Feed;
use load::measure;
use result::Results;
use server::Server;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Numbers of listeners.
const LISTENERS: [usize; 3] = [100, 300, 1000];
const QUICK_LISTENERS: usize = 20;
/// The time over which processor time is counted.
const WINDOW: Duration = Duration::from_secs(10);
const QUICK_WINDOW: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    if let Some(order) = std::env::var_os(floor::ORDER) {
        return floor::run(&order.to_string_lossy());
    }
    let (Some(aircheck), Some(ctl)) = (std::env::var_os("AIRCHECK_PROGRAM"), std::env::var_os("AIRCHECKCTL_PROGRAM"))
    else {
        println!("icecast: `make bench-icecast` runs this, because it takes aircheck's programs and Icecast");
        return Ok(());
    };
    let (aircheck, ctl) = (PathBuf::from(aircheck), PathBuf::from(ctl));
    let arguments = Arguments::read();
    let (window, listeners) =
        if arguments.is_quick() { (QUICK_WINDOW, &[QUICK_LISTENERS][..]) } else { (WINDOW, &LISTENERS[..]) };
    let cases = arguments.choose(Case::all(listeners), Case::name);
    if cases.is_empty() {
        return Ok(());
    }
    let (directory, steal) = (tempfile::tempdir()?, Steal::now());
    let wav = directory.path().join("chirps.wav");
    write_wav(&wav, 2, 4, chirps)?;
    let origin = Server::aircheck(&aircheck, &wav)?;
    let mut results = Results::default();
    for case in cases {
        eprintln!("{}", case.name());
        let programs = Programs { aircheck: &aircheck, wav: &wav, directory: directory.path(), origin: &origin };
        let listened = programs.start(&case).and_then(|(server, url)| {
            let name = case.contender.name();
            measure(&ctl, &server, &url, case.listeners, window).map_err(|error| format!("{name}: {error}").into())
        });
        match listened {
            Ok(listened) => results.add(case, listened),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    print!("{results}");
    println!("steal: {:.2} % of the time", steal.map_or(f64::NAN, Steal::percent_since));
    Ok(())
}

/// All that starting a contender takes.
struct Programs<'a> {
    aircheck: &'a Path,
    wav: &'a Path,
    /// For Icecast's configuration and logs.
    directory: &'a Path,
    origin: &'a Server,
}

impl Programs<'_> {
    /// Starts a contender. Returns it with the URL of its stream.
    fn start(&self, case: &Case) -> Result<(Server, String)> {
        Ok(match case.contender {
            Contender::Floor => {
                let floor = Server::floor(case, self.origin)?;
                let url = floor.url("floor");
                (floor, url)
            }
            Contender::Icecast => {
                let icecast = Server::icecast(self.directory)?;
                let feed = Feed::open(self.origin.address(), case.stream, case.page)?;
                feed.pass_to_icecast(icecast.address())?;
                let url = icecast.url("live");
                (icecast, url)
            }
            Contender::Aircheck => {
                let own = Server::aircheck(self.aircheck, self.wav)?;
                let url = own.url(&case.path_and_query());
                (own, url)
            }
        })
    }
}

/// Chirps in stereo, which a codec has to work for.
fn chirps(frame: u32, channel: u16) -> f64 {
    let t = f64::from(frame) / f64::from(WAV_RATE_HZ);
    let hz = if channel == 0 { 440.0 } else { 660.0 };
    0.25 * (std::f64::consts::TAU * t * (hz + 300.0 * t)).sin()
}
