//! Small steps on one thread, by criterion: what each costs where no other core is involved.

use std::hint::black_box;
use std::sync::Arc;

use aircheck_engine::{
    Consumer, FanOut, FanOutOptions, Overflow, Precision, Recorder, Stamp, SubscribeOptions, Timestamp,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn clock(criterion: &mut Criterion) {
    criterion.bench_function("Timestamp::now", |bencher| bencher.iter(Timestamp::now));
}

fn recorder(criterion: &mut Criterion) {
    let recorder = Recorder::new(1 << 26, Precision::TwoDigits);
    let mut value = 0_u64;
    criterion.bench_function("Recorder::record", |bencher| {
        bencher.iter(|| {
            value = (value + 977) & 0xfff;
            recorder.record(black_box(value));
        });
    });
    criterion.bench_function("Recorder::summary", |bencher| bencher.iter(|| recorder.summary()));
}

/// One item from `push` to every consumer's `try_recv`.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("push, flush, every try_recv");
    for consumers in [1_u64, 16, 64] {
        group.throughput(Throughput::Elements(consumers));
        group.bench_with_input(BenchmarkId::from_parameter(consumers), &consumers, |bencher, &consumers| {
            let (mut fan_out, hub) = FanOut::new(FanOutOptions::default());
            let options = SubscribeOptions { overflow: Overflow::DropNewest, ..SubscribeOptions::default() };
            let mut consumers: Vec<Consumer<Arc<[f32]>>> =
                (0..consumers).map(|_| hub.subscribe(options).expect("a running fan-out")).collect();
            let item: Arc<[f32]> = [0.25; 480].into();
            let now = Timestamp::now();
            bencher.iter(|| {
                let sequence = fan_out.next_sequence();
                fan_out.push(Stamp { sequence, captured_at: now, dispatched_at: now }, Arc::clone(&item));
                fan_out.flush();
                for consumer in &mut consumers {
                    black_box(consumer.try_recv(now).expect("it was flushed"));
                }
            });
        });
    }
}

criterion_group!(steps, clock, recorder, fan_out);
criterion_main!(steps);
