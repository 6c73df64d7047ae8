//! aircheck beside Icecast and beside the floor: the same sound in pages of the same length to as many listeners, on the
//! same machine, in turns within one run.
//!
//! One aircheck, the *origin*, encodes a looping WAV to Ogg Opus at 96 kbit/s, or serves its samples. The contenders:
//! - *Icecast*, which the bench feeds with the origin's packets in Ogg pages of exactly 10, 100 or 500 ms (of WAV, with
//!   samples of that length), and which passes each page on;
//! - *aircheck*, which plays the same WAV itself, in pages of that length (`?gather=`, zero for each block of 10 ms);
//! - the *floor*: a bare loop of non-blocking `send` of the pages that Icecast gets to as many sockets. It has no queues,
//!   accounts or late listeners: no server that writes to each socket can be cheaper.
//!
//! Longer pages are fewer system calls, so only rows of the same page length can be compared. `aircheckctl load` is the
//! listeners, 200 to 1000 of whom come in a second, of one contender after the other, so that each has the machine to itself.
//! Each run has a server of its own, because the memory that an allocator keeps from one set of listeners serves the
//! next. There are three repetitions, each of which begins with another contender; rows have their medians. After them,
//! Icecast and aircheck run at once *on one core*: see `beside.rs`. That is the ratio to compare versions by, and with the target.
//!
//! Processor time is that of the server's threads (`/proc/PID/task/*/schedstat`) over the window alone, when all
//! listeners have come; of the floor, that of the sending thread. *Own CPU* is that with one listener: capturing, encoding
//! and metering. All other columns are of what comes beyond it, which is delivery. Memory is `RssAnon` beyond that with one
//! listener. The processor time of the load tool is shown and is in no other figure; neither is that of the origin and of
//! the feed, which run for Icecast and the floor.
//!
//! One more listener, the *ear*, hears how old the sound is: see `ear.rs`. Icecast's burst on connect is switched off,
//! because it starts listeners with sound that is seconds old. Icecast tells neither a listener's delay nor its losses.
//!
//! Pages of 100 ms are measured with TLS, too, of Icecast and aircheck: with one certificate (ECDSA, P-256), TLS 1.3 and
//! AES-128-GCM, and listeners that know each other's sessions no more than strangers do.
//!
//! `make bench-icecast` builds the programs, passes their paths in `AIRCHECK_PROGRAM` and `AIRCHECKCTL_PROGRAM`, and runs
//! this. `-- opus/500` measures only those cases; `-- --quick opus/100` takes a minute, for one repetition with 1000
//! listeners.

mod beside;
mod case;
mod ear;
mod feed;
mod floor;
mod load;
mod result;
mod server;
#[path = "../tls/mod.rs"]
mod tls;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aircheck_benches::{Arguments, Steal, write_wav};

use beside::Ratios;
use case::{Case, Contender};
use ear::{Ear, LOOP_SECONDS, mark_time, sound};
use feed::Feed;
use load::{Listened, Load, measure};
use result::Results;
use server::Server;
use tls::Tls;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Numbers of listeners.
const LISTENERS: [usize; 3] = [100, 1000, 5000];
const QUICK_LISTENERS: usize = 1000;
const REPETITIONS: usize = 3;
/// The time over which processor time is counted.
const WINDOW: Duration = Duration::from_secs(10);
const QUICK_WINDOW: Duration = Duration::from_secs(5);

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
    let (window, listeners, repetitions) = if arguments.is_quick() {
        (QUICK_WINDOW, &[QUICK_LISTENERS][..], 1)
    } else {
        (WINDOW, &LISTENERS[..], REPETITIONS)
    };
    let cases = arguments.choose(Case::all(listeners), Case::name);
    if cases.is_empty() {
        return Ok(());
    }
    let (directory, steal) = (tempfile::tempdir()?, Steal::now());
    let wav = directory.path().join("chirps.wav");
    write_wav(&wav, 2, LOOP_SECONDS, sound)?;
    let tls = Tls::make(directory.path())?;
    let origin = Server::aircheck(&aircheck, &wav, None)?;
    let origin_mark = mark_time(origin.address(), None)?;
    let programs = Programs {
        aircheck: &aircheck,
        ctl: &ctl,
        wav: &wav,
        directory: directory.path(),
        tls: &tls,
        origin: &origin,
        origin_mark,
    };
    let mut results = Results::default();
    for group in cases.chunk_by(Case::is_like) {
        for repetition in 0..repetitions {
            for turn in 0..group.len() {
                let case = group[(repetition + turn) % group.len()];
                eprintln!("{}, {} of {repetitions}", case.name(), repetition + 1);
                match programs.run(&case, window) {
                    Ok(listened) => results.add(case, listened),
                    Err(error) => eprintln!("left out: {}: {error}", case.contender.name()),
                }
            }
        }
        let of = |contender| group.iter().find(|case| case.contender == contender);
        if let (Some(icecast), Some(aircheck)) = (of(Contender::Icecast), of(Contender::Aircheck))
            && results.beside(aircheck).is_none()
        {
            eprintln!("{}, both on one core", icecast.work());
            match Ratios::measure(&programs, icecast, aircheck, repetitions) {
                Ok(ratios) => results.add_beside(*aircheck, ratios),
                Err(error) => eprintln!("left out: both on one core: {error}"),
            }
        }
    }
    print!("{results}");
    println!("steal: {:.2} % of the time", steal.map_or(f64::NAN, Steal::percent_since));
    Ok(())
}

/// All that a run takes.
struct Programs<'a> {
    aircheck: &'a Path,
    ctl: &'a Path,
    wav: &'a Path,
    /// For Icecast's configuration and logs.
    directory: &'a Path,
    tls: &'a Tls,
    origin: &'a Server,
    /// When the origin captured a mark, in Unix seconds.
    origin_mark: f64,
}

impl Programs<'_> {
    fn run(&self, case: &Case, window: Duration) -> Result<Listened> {
        let (server, path, mark) = self.start(case)?;
        let ear = self.ear(case, &server, &path)?;
        let listeners = Load { ctl: self.ctl, url: &server.url(&path), trusted: &self.tls.certificate };
        measure(&listeners, &server, &ear, mark, case.listeners, window)
    }

    /// Opens the listener that is alone before the others come.
    fn ear(&self, case: &Case, server: &Server, path: &str) -> Result<Ear> {
        Ear::open(server.address(), self.tls_of(case), &format!("/{path}"), case.stream)
    }

    fn tls_of(&self, case: &Case) -> Option<&Tls> {
        case.tls.then_some(self.tls)
    }

    /// Starts a contender. Returns it with the path of its stream, and when a mark of its sound was captured.
    fn start(&self, case: &Case) -> Result<(Server, String, f64)> {
        Ok(match case.contender {
            Contender::Floor => (Server::floor(case, self.origin)?, "floor".to_owned(), self.origin_mark),
            Contender::Icecast => {
                let icecast = Server::icecast(self.directory, self.tls_of(case))?;
                Feed::open(self.origin.address(), case.stream, case.page)?.pass_to_icecast(icecast.source())?;
                (icecast, "live".to_owned(), self.origin_mark)
            }
            Contender::Aircheck => {
                let own = Server::aircheck(self.aircheck, self.wav, self.tls_of(case))?;
                let mark = mark_time(own.address(), self.tls_of(case))?;
                (own, case.path_and_query(), mark)
            }
        })
    }
}
