//! Processor time that the hypervisor gave to other machines.

use std::fs;

/// Processor time since the system started, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Steal {
    stolen: u64,
    total: u64,
}

impl Steal {
    /// Reads the first line of `/proc/stat`; `None` where there is no such file.
    #[must_use]
    pub fn now() -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal: proc_stat(5). What follows is in `user` already.
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> =
            stat.lines().next()?.split_whitespace().skip(1).take(8).map_while(|ticks| ticks.parse().ok()).collect();
        Some(Self { stolen: *ticks.get(7)?, total: ticks.iter().sum() })
    }

    /// Returns the share of all processor time since then that went to other machines, in per cent.
    #[must_use]
    pub fn percent_since(self) -> f64 {
        Self::now()
            .map_or(f64::NAN, |now| 100.0 * (now.stolen - self.stolen) as f64 / (now.total - self.total).max(1) as f64)
    }
}
