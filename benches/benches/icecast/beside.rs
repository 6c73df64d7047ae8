//! aircheck and Icecast at the same time, with half of the listeners each.
//!
//! A machine's speed may change by a third from minute to minute. Here the change meets both, so some windows of three
//! seconds tell the ratio of their processor times to a few hundredths. Where their memory lies makes another 0.05 from
//! start to start, so the medians of a few runs tell versions of aircheck apart. But neither has the machine to itself, as a
//! server has that is used, so the target is for the ratio in turns.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::ear::Ear;
use crate::load::{ALONE, Load, SETTLE, Streams};
use crate::server::Server;
use crate::{Programs, Result};

const WINDOWS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(3);

/// The processor time of aircheck's delivery as a multiple of Icecast's, in each window.
#[derive(Clone, Debug)]
pub(crate) struct Ratios(Vec<f64>);

impl Ratios {
    /// Measures two contenders with the same work.
    pub(crate) fn measure(programs: &Programs<'_>, icecast: &Case, aircheck: &Case) -> Result<Self> {
        let start = |case: &Case| -> Result<_> {
            let (server, path, _) = programs.start(case)?;
            let ear = programs.ear(case, &server, &path)?;
            Ok((server, path, ear))
        };
        let both = [start(icecast)?, start(aircheck)?];
        let servers = [&both[0].0, &both[1].0];
        let own = shares(servers, ALONE)?;

        let listeners = icecast.listeners / 2;
        let (rate, ramp) = Load::ramp(listeners);
        let load = |(server, path, _): &(Server, String, Ear)| {
            let load = Load { ctl: programs.ctl, url: &server.url(path), trusted: &programs.tls.certificate };
            load.command(listeners, rate, SETTLE + WINDOWS * WINDOW + SETTLE).spawn()
        };
        let mut loads = [load(&both[0])?, load(&both[1])?];
        sleep(ramp + SETTLE);
        let windows = (0..WINDOWS).map(|_| shares(servers, WINDOW)).collect::<Result<Vec<_>>>()?;
        let [of_icecast, of_aircheck] = &mut loads;
        let streams = [Streams::of(of_icecast, listeners)?, Streams::of(of_aircheck, listeners)?];
        // As if all listeners had a stream.
        let delivery = |shares: &[f64; 2], index: usize| (shares[index] - own[index]) / streams[index].count as f64;
        Ok(Self(windows.iter().map(|shares| delivery(shares, 1) / delivery(shares, 0)).collect()))
    }

    /// Returns the lowest, the median and the highest.
    pub(crate) fn range(&self) -> [f64; 3] {
        let mut ratios = self.0.clone();
        ratios.sort_unstable_by(f64::total_cmp);
        [0, ratios.len() / 2, ratios.len() - 1].map(|index| ratios[index])
    }
}

/// Returns the shares of a core that both servers take for some time from now on.
fn shares(servers: [&Server; 2], time: Duration) -> Result<[f64; 2]> {
    let cpu = || -> Result<_> { Ok([servers[0].cpu()?, servers[1].cpu()?]) };
    let (start, before) = (Instant::now(), cpu()?);
    sleep(time);
    let (span, after) = (start.elapsed(), cpu()?);
    Ok([0, 1].map(|index| (after[index] - before[index]).div_duration_f64(span)))
}
