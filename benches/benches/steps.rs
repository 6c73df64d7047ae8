//! The smallest steps, by criterion, which are taken for every block and consumer: reading the clock, recording a value.

use std::hint::black_box;

use aircheck_engine::{Precision, Recorder, Timestamp};
use criterion::{Criterion, criterion_group, criterion_main};

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

criterion_group!(steps, clock, recorder);
criterion_main!(steps);
