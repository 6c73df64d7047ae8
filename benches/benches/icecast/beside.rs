//! aircheck and Icecast at the same time and on one core, with equally many listeners each.
//!
//! Where a server and its listeners run decides what a page costs: on two cores, they pass the memory of their sockets from one to
//! the other, or do not, and wake each other, or do not, as it comes. In two minutes with the same listeners, one aircheck took
//! 5.6 to 8.2 us for a page of 10 ms, and 5.6 to 5.7 on one core. And a machine's speed may change by a third from minute to minute. Here
//! both have one core in turns of milliseconds, so that whatever changes meets both: some windows of three seconds tell the ratio of
//! their processor times to a few hundredths. Where their memory lies makes another 0.07 from start to start, so there are several starts.
//!
//! What a server takes for itself is not delivery: to capture, encode and meter, half as much as delivery takes with pages of 100 ms. It is that of
//! another one with one listener at the same time. Before the listeners came, the same work had taken a tenth to a fifth more or less.

use std::fs;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::case::Case;
use crate::ear::Ear;
use crate::load::{Load, SETTLE, Streams};
use crate::server::Server;
use crate::{Programs, Result};

/// Of each start.
const WINDOWS: u32 = 4;
const WINDOW: Duration = Duration::from_secs(3);
/// Most pages that each sends in a second: with those of Opus, one core carries both and their listeners, and is not full.
const MAX_PAGES_PER_SECOND: f64 = 25_000.0;
/// Most listeners of each.
const MAX_LISTENERS: usize = 1000;

/// The processor time of aircheck's delivery as a multiple of Icecast's, in each window.
#[derive(Clone, Debug)]
pub(crate) struct Ratios(Vec<f64>);

impl Ratios {
    /// Measures two contenders with the same work, which are started so often.
    pub(crate) fn measure(programs: &Programs<'_>, icecast: &Case, aircheck: &Case, starts: usize) -> Result<Self> {
        let of_starts = (0..starts).map(|_| of_start(programs, icecast, aircheck)).collect::<Result<Vec<_>>>()?;
        Ok(Self(of_starts.concat()))
    }

    /// Returns the lowest, the median and the highest.
    pub(crate) fn range(&self) -> [f64; 3] {
        let mut ratios = self.0.clone();
        ratios.sort_unstable_by(f64::total_cmp);
        [0, ratios.len() / 2, ratios.len() - 1].map(|index| ratios[index])
    }
}

/// Returns the ratio in each window, after a start of both.
fn of_start(programs: &Programs<'_>, icecast: &Case, aircheck: &Case) -> Result<Vec<f64>> {
    let start = |case: &Case| -> Result<_> {
        let (server, path, _) = programs.start(case)?;
        let ear = programs.ear(case, &server, &path)?;
        Ok((server, path, ear))
    };
    let both = [start(icecast)?, start(aircheck)?];
    let alone = [start(icecast)?, start(aircheck)?];
    let servers = [&both, &alone].map(|pair| pair.each_ref().map(|(server, ..)| server));
    let core = first_core()?;
    servers.as_flattened().iter().try_for_each(|server| pin(server.pid(), &core))?;

    let listeners = MAX_LISTENERS.min((MAX_PAGES_PER_SECOND * icecast.page.as_secs_f64()) as usize);
    let (rate, ramp) = Load::ramp(listeners);
    let load = |(server, path, _): &(Server, String, Ear)| -> Result<Child> {
        let load = Load { ctl: programs.ctl, url: &server.url(path), trusted: &programs.tls.certificate };
        let load = load.command(listeners, rate, SETTLE + WINDOWS * WINDOW + SETTLE).spawn()?;
        pin(load.id(), &core)?;
        Ok(load)
    };
    let mut loads = [load(&both[0])?, load(&both[1])?];
    sleep(ramp + SETTLE);
    let windows = (0..WINDOWS).map(|_| shares(servers, WINDOW)).collect::<Result<Vec<_>>>()?;
    let [of_icecast, of_aircheck] = &mut loads;
    let streams = [Streams::of(of_icecast, listeners)?, Streams::of(of_aircheck, listeners)?];
    // As if all listeners had a stream.
    let delivery =
        |[with, alone]: &[[f64; 2]; 2], index: usize| (with[index] - alone[index]) / streams[index].count as f64;
    Ok(windows.iter().map(|shares| delivery(shares, 1) / delivery(shares, 0)).collect())
}

/// Returns the first core that this process may use, alone.
fn first_core() -> Result<CpuSet> {
    let all = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).ok_or("no core")?;
    let mut core = CpuSet::new();
    core.set(first);
    Ok(core)
}

/// Has all threads of a process run there, and those that they start.
fn pin(process: u32, core: &CpuSet) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let Some(thread) = task?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw) else { continue };
        match sched_setaffinity(Some(thread), core) {
            // It has ended since.
            Err(rustix::io::Errno::SRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Returns the shares of a core that the servers take for some time from now on, those with listeners and those alone.
fn shares(servers: [[&Server; 2]; 2], time: Duration) -> Result<[[f64; 2]; 2]> {
    let cpu = || -> Result<_> {
        let [[icecast, aircheck], [icecast_alone, aircheck_alone]] = servers;
        Ok([[icecast.cpu()?, aircheck.cpu()?], [icecast_alone.cpu()?, aircheck_alone.cpu()?]])
    };
    let (start, before) = (Instant::now(), cpu()?);
    sleep(time);
    let (span, after) = (start.elapsed(), cpu()?);
    let share = |pair: usize, index: usize| (after[pair][index] - before[pair][index]).div_duration_f64(span);
    Ok([0, 1].map(|pair| [0, 1].map(|index| share(pair, index))))
}
