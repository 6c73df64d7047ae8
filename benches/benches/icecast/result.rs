//! The table: each contender beside the floor and Icecast with the same work, by the medians of all repetitions.

use std::fmt;

use aircheck_benches::{Table, Target, number};

use crate::beside::Ratios;
use crate::case::{Case, Contender};
use crate::load::{Listened, Lost};

/// Processor time of delivery on one core, as a multiple of Icecast's, by the milliseconds of a page.
const CPU_TARGETS: [(u128, Target); 3] =
    [(10, Target::AtMost(1.1)), (100, Target::AtMost(1.2)), (500, Target::AtMost(1.3))];
/// KiB for a listener without TLS, whose library has buffers and keys of its own.
const MEMORY_TARGET: Target = Target::AtMost(4.0);

/// All that was measured so far.
#[derive(Default)]
pub(crate) struct Results {
    /// Those of a case together.
    runs: Vec<(Case, Vec<Listened>)>,
    /// One of each length of pages.
    beside: Vec<(Case, Ratios)>,
}

impl Results {
    pub(crate) fn add(&mut self, case: Case, listened: Listened) {
        match self.runs.iter_mut().find(|(other, _)| other.name() == case.name()) {
            Some((_, runs)) => runs.push(listened),
            None => self.runs.push((case, vec![listened])),
        }
    }

    pub(crate) fn add_beside(&mut self, case: Case, ratios: Ratios) {
        self.beside.push((case, ratios));
    }

    /// Returns the ratios on one core with pages like these.
    pub(crate) fn beside(&self, case: &Case) -> Option<&Ratios> {
        self.beside.iter().find(|(other, _)| other.has_pages_of(case)).map(|(_, ratios)| ratios)
    }

    /// Returns the runs of another contender with the same work.
    fn of(&self, contender: Contender, case: &Case) -> Option<&[Listened]> {
        let is_it = |(other, _): &&(Case, Vec<Listened>)| other.contender == contender && other.is_like(case);
        self.runs.iter().find(is_it).filter(|_| contender != case.contender).map(|(_, runs)| &runs[..])
    }

    fn row(&self, case: &Case, runs: &[Listened]) -> [String; 17] {
        let cpu = |run: &Listened| run.delivery_cpu;
        let to = |contender: Contender| Some(median(runs, cpu) / median(self.of(contender, case)?, cpu));
        let is_aircheck = case.contender == Contender::Aircheck;
        let to_icecast = to(Contender::Icecast).filter(|_| is_aircheck);
        let beside = self.beside(case).filter(|_| is_aircheck).map(Ratios::range);
        let verdict = |ratio: f64| {
            let target = CPU_TARGETS.iter().find(|(millis, _)| *millis == case.page.as_millis());
            target.map_or_else(String::new, |(_, target)| target.verdict(ratio))
        };
        let kib = median(runs, |run| run.kib_per_listener);
        let micros_per_page = |share: f64| format!("{:.2}", 1e6 * share / case.pages_per_second());
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let millis = |seconds: f64| format!("{:.1}", 1000.0 * seconds);
        let age = |index: usize| {
            let age = median(runs, |run| run.ages.map_or(f64::NAN, |ages| ages[index]));
            number(Some(1000.0 * age).filter(|age| age.is_finite()), 0)
        };
        [
            case.work(),
            case.contender.name().to_owned(),
            format!("{} / {}", micros_per_page(lowest(runs, cpu)), micros_per_page(median(runs, cpu))),
            format!("{:.3}", 3600.0 * median(runs, cpu) / case.listeners as f64),
            percent(median(runs, cpu)),
            percent(median(runs, |run| run.own_cpu)),
            number(to(Contender::Floor), 2),
            number(to_icecast, 2),
            beside.map_or_else(|| "-".to_owned(), |[low, middle, high]| format!("{middle:.2} ({low:.2} to {high:.2})")),
            beside.map(|[_, middle, _]| verdict(middle)).unwrap_or_default(),
            format!("{kib:.1}"),
            if is_aircheck && !case.tls { MEMORY_TARGET.verdict(kib) } else { String::new() },
            format!(
                "{}, {}",
                millis(median(runs, |run| run.first_byte_p50)),
                millis(median(runs, |run| run.first_byte_p99))
            ),
            millis(median(runs, |run| run.longest_pause)),
            format!("{}, {}", age(0), age(1)),
            percent(median(runs, |run| run.load_cpu)),
            lost(runs),
        ]
    }
}

fn lost(runs: &[Listened]) -> String {
    let sum = |count: fn(&Lost) -> Option<u64>| runs.iter().map(|run| count(&run.lost)).sum::<Option<u64>>();
    let blocks = sum(|lost| if let Lost::Blocks(blocks) = lost { Some(*blocks) } else { None });
    let pages = sum(|lost| if let Lost::Pages(pages) = lost { Some(*pages) } else { None });
    let lost = match (blocks, pages) {
        (Some(blocks), _) => format!("{blocks} blocks"),
        (_, Some(pages)) => format!("{pages} pages"),
        _ => "not known".to_owned(),
    };
    let missing: u64 = runs.iter().map(|run| run.missing).sum();
    if missing > 0 { format!("{lost}; {missing} had no stream") } else { lost }
}

fn lowest(runs: &[Listened], of: impl Fn(&Listened) -> f64) -> f64 {
    runs.iter().map(of).fold(f64::NAN, f64::min)
}

fn median(runs: &[Listened], of: impl Fn(&Listened) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "stream/page/listeners",
            "contender",
            "CPU us a page, min / median",
            "CPU s / listener-hour",
            "CPU %",
            "own CPU %",
            "/ floor",
            "/ icecast",
            "/ icecast on one core",
            "target",
            "KiB / listener",
            "target",
            "first byte p50, p99 ms",
            "longest pause ms",
            "age p50, max ms",
            "load CPU %",
            "lost",
        ]);
        for (case, runs) in &self.runs {
            table.row(self.row(case, runs));
        }
        write!(f, "{table}")
    }
}
