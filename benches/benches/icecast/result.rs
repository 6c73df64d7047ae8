//! The table: each row beside those of the floor and of Icecast with the same work, and the winner.

use std::fmt;

use aircheck_benches::{Table, Target, number};

use crate::case::{Case, Contender, Stream};
use crate::load::Listened;

/// Processor time for a listener of Opus among 1000, as a multiple of Icecast's.
const CPU_TARGET: Target = Target::AtMost(0.7);
/// Memory for such a listener, as a multiple of Icecast's.
const MEMORY_TARGET: Target = Target::AtMost(1.0);
/// Processor time for one listener of many, as a multiple of that for one of few.
const GROWTH_TARGET: Target = Target::AtMost(1.2);
/// The number of listeners that the targets are for.
const MANY: usize = 1000;

/// All rows so far.
#[derive(Default)]
pub(crate) struct Results(Vec<(Case, Listened)>);

impl Results {
    pub(crate) fn add(&mut self, case: Case, listened: Listened) {
        self.0.push((case, listened));
    }

    /// Returns the figures of another contender with the same work.
    fn of(&self, contender: Contender, case: &Case) -> Option<&Listened> {
        let is_it = |other: &&(Case, Listened)| other.0.contender == contender && other.0.is_like(case);
        self.0.iter().find(is_it).map(|(_, listened)| listened)
    }

    fn row(&self, case: &Case, seen: &Listened) -> [String; 17] {
        let to = |contender: Contender, of: fn(&Listened) -> f64| {
            let base = self.of(contender, case).filter(|_| contender != case.contender)?;
            Some(of(seen) / of(base))
        };
        let (cpu, kib) = (|seen: &Listened| seen.server_cpu, |seen: &Listened| seen.kib_per_listener);
        let beside_icecast = |of: fn(&Listened) -> f64, target: Target| {
            let ratio = to(Contender::Icecast, of).filter(|_| case.contender == Contender::Aircheck);
            let winner = ratio.map(|ratio| if ratio < 1.0 { "aircheck" } else { "Icecast" });
            let is_judged = case.stream == Stream::Opus && case.listeners == MANY;
            [
                number(ratio, 2),
                winner.unwrap_or_default().to_owned(),
                ratio.filter(|_| is_judged).map(|ratio| target.verdict(ratio)).unwrap_or_default(),
            ]
        };
        let [cpu_ratio, cpu_winner, cpu_verdict] = beside_icecast(cpu, CPU_TARGET);
        let [kib_ratio, kib_winner, kib_verdict] = beside_icecast(kib, MEMORY_TARGET);
        let millis = |seconds: f64| format!("{:.0}", 1000.0 * seconds);
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        [
            format!("{}, {} ms, {}", case.stream.name(), case.page.as_millis(), case.listeners),
            case.contender.name().to_owned(),
            format!("{:.2}", 3600.0 * seen.server_cpu / case.listeners as f64),
            format!("{}, {}", percent(seen.server_cpu), percent(seen.server_cpu_with_one)),
            number(to(Contender::Floor, cpu), 1),
            cpu_ratio,
            cpu_winner,
            cpu_verdict,
            format!("{:.1}", seen.kib_per_listener),
            kib_ratio,
            kib_winner,
            kib_verdict,
            format!("{:.1}", 1000.0 * seen.first_byte_p50),
            millis(seen.first_byte_max),
            seen.worst_stall.map_or_else(|| "none".to_owned(), millis),
            percent(seen.load_cpu),
            seen.lost.clone(),
        ]
    }

    /// Returns a line for each contender whose cost for a listener is known among few and among many.
    fn growths(&self) -> Vec<String> {
        let of_many = self.0.iter().filter(|(case, _)| case.listeners == MANY);
        let growth = |(case, many): &(Case, Listened)| {
            let is_few = |(other, _): &&(Case, Listened)| {
                other.listeners < MANY
                    && other.contender == case.contender
                    && other.is_like(&Case { listeners: other.listeners, ..*case })
            };
            let (few, of_few) = self.0.iter().find(is_few)?;
            let ratio = (many.server_cpu / MANY as f64) / (of_few.server_cpu / few.listeners as f64);
            Some(format!(
                "{}, {} ms, {}: one of {MANY} costs {ratio:.2} x one of {}: {}",
                case.stream.name(),
                case.page.as_millis(),
                case.contender.name(),
                few.listeners,
                GROWTH_TARGET.verdict(ratio)
            ))
        };
        of_many.filter_map(growth).collect()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "stream, page, listeners",
            "contender",
            "CPU s / listener-hour",
            "CPU %, with one",
            "/ floor",
            "/ icecast",
            "winner",
            "target",
            "KiB / listener",
            "/ icecast",
            "winner",
            "target",
            "first byte p50 ms",
            "max",
            "worst stall ms",
            "load CPU %",
            "lost",
        ]);
        for (case, seen) in &self.0 {
            table.row(self.row(case, seen));
        }
        writeln!(f, "{table}")?;
        self.growths().iter().try_for_each(|growth| writeln!(f, "{growth}"))
    }
}
