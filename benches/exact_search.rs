//! The exact search against what bounds it and what it replaces, at a million templates of 512 (`ROWS` for another number).
//!
//! On one core: `taskset -c 0 cargo bench --bench exact_search`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use facematch::biometrics::ids::{IdentityId, TemplateId};
use facematch::biometrics::template::dot;
use facematch::gallery::{ExactSearch, Synthetic, Wanted};

const DIMENSION: usize = 512;

fn rows() -> usize {
    std::env::var("ROWS").map_or(1_000_000, |rows| rows.parse().expect("ROWS is a number"))
}

/// Rows of synthetic people, and the same as a plain matrix.
fn gallery(people: Synthetic, rows: usize) -> (ExactSearch, Vec<f32>) {
    let (mut search, mut matrix) = (ExactSearch::new(DIMENSION), Vec::with_capacity(rows * DIMENSION));
    let template = TemplateId::parse("t").expect("an id");
    for identity in 0.. {
        let id = IdentityId::parse(&identity.to_string()).expect("an id");
        for number in 0..people.template_count(identity) {
            if search.templates() == rows {
                return (search, matrix);
            }
            let vector = people.template(identity, number);
            search.add(&id, &template, &vector);
            matrix.extend_from_slice(&vector);
        }
    }
    (search, matrix)
}

/// Bytes to read, in pages of a size: the search asks for large ones.
fn ones(count: usize, in_large_pages: bool) -> Vec<u64> {
    let mut bytes: Vec<u64> = Vec::with_capacity(count);
    #[cfg(target_os = "linux")]
    if in_large_pages {
        let start = bytes.as_ptr().cast::<u8>();
        let skipped = start.align_offset(4_096);
        #[expect(unsafe_code, reason = "the advice has no safe form")]
        // SAFETY: the range lies within the vector's own allocation, and advice changes nothing that a program can see.
        unsafe {
            libc::madvise(start.add(skipped).cast_mut().cast(), count * 8 - skipped, libc::MADV_HUGEPAGE);
        }
    }
    bytes.resize(count, 1);
    bytes
}

fn exact_search(criterion: &mut Criterion) {
    let people = Synthetic::new(1, DIMENSION);
    let rows = rows();
    let (search, matrix) = gallery(people, rows);
    let probes: Vec<Vec<f32>> = (0..64).map(|identity| people.template(identity * 31, 1_000)).collect();
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 1) % probes.len();
        &probes[turn]
    };
    let mut group = criterion.benchmark_group(format!("{rows} rows of {DIMENSION}"));
    group.sample_size(30);

    // What the first pass must read, and nothing else: half a byte a value, and eight bytes a row.
    let count = rows * (DIMENSION / 2 + 8) / 8;
    for (pages, is_large) in [("small", false), ("large", true)] {
        let bytes = ones(count, is_large);
        group.bench_function(format!("plain read of the first pass's bytes, {pages} pages"), |bencher| {
            bencher.iter(|| black_box(&bytes).iter().copied().fold(0, u64::wrapping_add));
        });
    }
    group.bench_function("exact search, top 5", |bencher| bencher.iter(|| search.search(black_box(next()), 5)));
    group.bench_function("exact search, top 100", |bencher| bencher.iter(|| search.search(black_box(next()), 100)));
    group.bench_function("exact search, 8 probes in a pass, top 5", |bencher| {
        bencher.iter(|| {
            let wanted: Vec<Wanted<'_>> =
                (0..8).map(|at| Wanted { probe: &probes[at * 7], capacity: 5, only: None }).collect();
            search.search_many(black_box(&wanted))
        });
    });
    group.bench_function("f32 scan, best score", |bencher| {
        bencher.iter(|| {
            let probe = next();
            let scores = matrix.chunks_exact(DIMENSION).map(|row| dot(black_box(probe), row));
            scores.fold(f32::MIN, f32::max)
        });
    });
    group.finish();
}

criterion_group!(benches, exact_search);
criterion_main!(benches);
