//! The capture thread's cost for each block, by number of consumers, beside what else could be done on that thread.
//!
//! Two ways to hand a block over to another thread, which then fans it out:
//! - the engine's `Capture::write` of one block of 480 stereo frames, which copies the samples into the capture ring; the
//!   dispatcher makes the shared block and fans it out;
//! - *ring, task, broadcast*: the same copy into a plain rtrb ring, which a tokio task looks into each millisecond; it
//!   makes an `Arc` of each block and sends that to tokio's broadcast channel. Nothing wakes the task, as nothing wakes
//!   the dispatcher, so this is the same work on the capture thread for the same result.
//!
//! And one that fans out on the spot, which is more work and so no equal: tokio's `broadcast::Sender::send` of a
//! ready-made `Arc` of the same block, copy and allocation not counted. All receivers are tasks on one runtime of two
//! workers and read every sample.
//!
//! Two rhythms: *paced*, a block each millisecond as from a device (the stream has 480 kHz, so that 480 frames are a
//! millisecond), and *bursts* of 64 blocks in a row every 20 ms, as from a sound server after a stall. Each call is timed
//! by itself; the median cost of the clock is taken off. Contenders take turns. Quantiles are of all rounds together, and
//! left out where fewer than ten values lie beyond them; ratios of the median are between turns of the same round, and
//! their median is shown. On a machine with few processors, p99.9 is when the pushing thread was interrupted or woke a
//! peer. The dispatcher's timer is set for the moment at which a block comes. Where it fires on the pushing thread's
//! processor, it interrupts the push. Only one or a few calls in a thousand are hit, so p99.9 jumps from run to run, while
//! the number of *slow* calls, of more than 5 us, is steady. *Dispatcher apart* keeps the two threads on two processors and
//! so shows the push alone. *Lost* counts blocks that a consumer or the capture ring lost, of all that consumers were offered.
//!
//! `-- "paced/engine"` measures only those cases; without a base there is no ratio.

mod contender;
mod rhythm;

use aircheck_benches::{Arguments, Rounds, Table, Target, clock_cost, number};
use aircheck_tools::report::percentiles::at;
use tokio::runtime::Builder;

use contender::{CONTENDERS, Calls, Contender};
use rhythm::{RHYTHMS, histogram};

const ROUNDS: usize = 5;
/// Calls that take longer are slow: they take several times the median, which only an interruption does.
const SLOW_NANOS: u64 = 5_000;

fn main() {
    let arguments = Arguments::read();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("threads");
    let clock = clock_cost();
    let cases = RHYTHMS.iter().enumerate().flat_map(|(rhythm, _)| CONTENDERS.map(|contender| (rhythm, contender)));
    let cases =
        arguments.choose(cases, |(rhythm, contender)| format!("{}/{}", RHYTHMS[*rhythm].name, contender.name()));
    println!("push of one block of 480 frames stereo; clock cost of {} ns taken off", clock.as_nanos());
    for (number, rhythm) in RHYTHMS.into_iter().enumerate() {
        let in_it = cases.iter().filter(|(rhythm, _)| *rhythm == number);
        let contenders: Vec<Contender> = in_it.map(|(_, contender)| *contender).collect();
        if contenders.is_empty() {
            continue;
        }
        let (rounds, rhythm) = if arguments.is_quick() { (1, rhythm.short()) } else { (ROUNDS, rhythm) };
        let mut calls: Vec<Calls> =
            contenders.iter().map(|_| Calls { spans: histogram(), offered: 0, lost: 0 }).collect();
        let p50 = Rounds::run(rounds, contenders.len(), |contender| {
            let turn = contenders[contender].measure(&runtime, rhythm, clock);
            let all = &mut calls[contender];
            all.spans.add(&turn.spans).expect("the same bounds");
            all.offered += turn.offered;
            all.lost += turn.lost;
            turn.spans.value_at_quantile(0.5) as f64
        });
        println!("\n{}, {}; {} calls in each of {rounds} rounds\n", rhythm.name, rhythm.about, rhythm.calls);
        print(&contenders, &p50, &calls);
    }
}

fn print(contenders: &[Contender], p50: &Rounds, calls: &[Calls]) {
    let place = |wanted: Contender| contenders.iter().position(|contender| *contender == wanted);
    let bases = [Contender::RingTaskBroadcast, Contender::Broadcast, Contender::Engine(1)].map(place);
    let tail = |contender: usize| at(&calls[contender].spans, 0.999).map(|nanos| nanos as f64);
    let of_medians = |contender: usize, base: usize| Some(p50.ratio(contender, base));
    let of_tails = |contender: usize, base: usize| Some(tail(contender)? / tail(base)?);
    let mut table = Table::new([
        "contender",
        "lost",
        "p50 ns",
        "p99.9 ns",
        "slow",
        "p50 / ring, task",
        "p99.9",
        "p50 / send",
        "p99.9",
        "p50 / engine, 1",
        "p99.9",
    ]);
    for (number_of_it, contender) in contenders.iter().enumerate() {
        let Calls { offered, lost, .. } = calls[number_of_it];
        let lost = if offered == 0 { "-".to_owned() } else { format!("{lost} of {offered}") };
        let mut row =
            vec![contender.name(), lost, number(Some(p50.median(number_of_it)), 0), number(tail(number_of_it), 0)];
        let spans = &calls[number_of_it].spans;
        row.push(format!("{} of {}", spans.count_between(SLOW_NANOS, spans.high()), spans.len()));
        for base in bases {
            row.push(number(base.and_then(|base| of_medians(number_of_it, base)), 3));
            row.push(number(base.and_then(|base| of_tails(number_of_it, base)), 3));
        }
        table.row(row);
    }
    let verdict = |most, ratio: Option<f64>| ratio.map(|ratio| Target::AtMost(most).verdict(ratio)).unwrap_or_default();
    let [_, send, engine_1] = bases;
    let sixteen = place(Contender::Engine(16)).zip(send);
    let sixty_four = place(Contender::Engine(64)).zip(engine_1);
    let targets = [
        verdict(0.1, sixteen.and_then(|(engine, send)| of_medians(engine, send))),
        verdict(0.05, sixteen.and_then(|(engine, send)| of_tails(engine, send))),
        verdict(1.25, sixty_four.and_then(|(many, one)| of_medians(many, one))),
        verdict(1.25, sixty_four.and_then(|(many, one)| of_tails(many, one))),
    ];
    let cells = ["target (16 / send; 64 / 1)", "", "", "", "", "", ""].map(str::to_owned);
    table.row(cells.into_iter().chain(targets));
    println!("{table}");
}
