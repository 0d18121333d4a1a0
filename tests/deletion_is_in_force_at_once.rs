//! A search that begins after a deletion's reply never names what was deleted, however many searches are in flight; and one
//! that begins after an enrolment's reply finds it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::people::{DIMENSION, enrollment, gallery, identity, pack, settings, template};
use facematch::biometrics::ids::TemplateId;
use facematch::gallery::{EmbeddedGalleries, Scope, Search, SearchPath, SearchPolicy};

const PEOPLE: u64 = 2_000;
const ROUNDS: u64 = 300;
const SEARCHERS: usize = 3;

/// The best score of a template, whoever it is.
fn score(galleries: &EmbeddedGalleries, id: &str, number: u64, which: u64) -> f32 {
    let search = Search { probe: template(number, which), capacity: 1, exact: false, scope: Scope::default() };
    let outcome = galleries.search(&gallery(id), search).expect("search");
    outcome.ranked.first().map_or(-1.0, |best| best.score.cosine())
}

async fn trial(policy: SearchPolicy) {
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = Arc::new(EmbeddedGalleries::open(folder.path()).expect("open"));
    galleries.create_gallery(gallery("a"), settings(policy), pack(), DIMENSION).await.expect("create");
    for number in 0..PEOPLE {
        galleries.enroll(gallery("a"), enrollment(number, &[0])).await.expect("enrol");
    }
    if policy == SearchPolicy::Graph {
        let path = || galleries.gallery(&gallery("a")).expect("the gallery").1.path;
        while path() != SearchPath::Graph {
            tokio::task::yield_now().await;
        }
    }
    // Rounds whose deletion was acknowledged: number and template of each follow from it.
    let (deleted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (searches, stale) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let searchers: Vec<_> = (0..SEARCHERS)
        .map(|_| {
            let (galleries, deleted, stop) = (Arc::clone(&galleries), Arc::clone(&deleted), Arc::clone(&stop));
            let (searches, stale) = (Arc::clone(&searches), Arc::clone(&stale));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let round = deleted.load(Ordering::Acquire);
                    if round > 0 && score(&galleries, "a", PEOPLE + round, 0) > 0.99 {
                        stale.fetch_add(1, Ordering::Relaxed);
                    }
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 1..=ROUNDS {
        let number = PEOPLE + round;
        galleries.enroll(gallery("a"), enrollment(number, &[0, 1])).await.expect("enrol");
        assert!(score(&galleries, "a", number, 0) > 0.99, "what was acknowledged is found");
        if round % 2 == 0 {
            let id = TemplateId::parse("0").expect("an id");
            galleries.delete_template(gallery("a"), identity(number), id).await.expect("delete");
        } else {
            galleries.delete_identity(gallery("a"), identity(number)).await.expect("delete");
        }
        deleted.store(round, Ordering::Release);
        assert!(score(&galleries, "a", number, 0) < 0.99, "what was deleted is found");
    }
    stop.store(true, Ordering::Release);
    searchers.into_iter().for_each(|searcher| searcher.join().expect("a searcher"));
    println!("{policy:?}: {} searches in flight beside {ROUNDS} deletions", searches.load(Ordering::Relaxed));
    assert_eq!(stale.load(Ordering::Relaxed), 0, "searches that named what was deleted before they began");
    assert!(searches.load(Ordering::Relaxed) > ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_is_in_force_for_exact_searches_that_begin_after_it() {
    trial(SearchPolicy::Exact).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_is_in_force_for_graph_searches_that_begin_after_it() {
    trial(SearchPolicy::Graph).await;
}
