//! The smallest steps, by criterion, which are taken for every block and consumer: reading the clock, recording a value.

use std::hint::black_box;

use aircheck_engine::{Histogram, Precision, Timestamp};
use criterion::{Criterion, criterion_group, criterion_main};

fn clock(criterion: &mut Criterion) {
    criterion.bench_function("Timestamp::now", |bencher| bencher.iter(Timestamp::now));
}

fn histogram(criterion: &mut Criterion) {
    let histogram = Histogram::new(1 << 26, Precision::TwoDigits);
    let mut value = 0_u64;
    criterion.bench_function("Histogram::record", |bencher| {
        bencher.iter(|| {
            value = (value + 977) & 0xfff;
            histogram.record(black_box(value));
        });
    });
    criterion.bench_function("Histogram::summary", |bencher| bencher.iter(|| histogram.summary()));
}

criterion_group!(steps, clock, histogram);
criterion_main!(steps);
