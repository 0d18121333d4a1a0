//! The exact search against a graph that finds 99.9 % of the mates, at 100,000 templates (`ROWS` for another number).
//!
//! On one core: `taskset -c 0 cargo bench --bench graph_search`. The engine builds and measures the graph itself and raises
//! its expansion until it misses few enough, as it does for a gallery; both then answer the same probes in turn.

use std::time::{Duration, Instant};

use facematch::biometrics::ids::{GalleryId, PackId};
use facematch::biometrics::template::Template;
use facematch::gallery::{
    EmbeddedGalleries, GalleryChange, Scope, Search, SearchPath, SearchPolicy, Synthetic, SyntheticGallery,
    write_synthetic,
};

const DIMENSION: usize = 512;
const PROBES: u64 = 501;

fn main() {
    let templates = std::env::var("ROWS").map_or(100_000, |rows| rows.parse().expect("ROWS is a number"));
    let (gallery, pack_id) = (GalleryId::parse("g").expect("an id"), PackId::parse(&"0".repeat(32)).expect("an id"));
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    let mut import = galleries.begin_import(gallery.clone(), 0).expect("begin");
    let wanted = SyntheticGallery {
        gallery: gallery.clone(),
        pack_id: pack_id.clone(),
        dimension: DIMENSION,
        seed: 1,
        templates,
    };
    write_synthetic(&wanted, |part, _| import.feed(part)).expect("feed");
    import.finish().expect("finish");

    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("tokio");
    let change = GalleryChange { search_policy: Some(SearchPolicy::Graph), ..GalleryChange::default() };
    runtime.block_on(galleries.update_gallery(gallery.clone(), change)).expect("update");
    let status = loop {
        let (_, status) = galleries.gallery(&gallery).expect("the gallery");
        if status.build_progress.is_none() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let recall = status.recall.expect("a measurement");
    println!("{templates} templates of {DIMENSION}; the graph was built and measured in {:.0?}", started.elapsed());
    println!("expansion {}: {} of {} mates missed", recall.expansion, recall.missed, recall.probes);
    if status.path != SearchPath::Graph {
        println!("no expansion meets 99.9 %: the gallery is searched exactly");
        galleries.close();
        return;
    }

    let people = Synthetic::new(1, DIMENSION);
    let mut times = [Vec::new(), Vec::new()];
    let mut found_alike = 0;
    for turn in 0..PROBES {
        let vector = people.template(turn * 37 % (templates / 3), 1_000);
        let probe = Template::from_vector(&vector, pack_id.clone()).expect("a template");
        let outcomes = [true, false].map(|exact| {
            let search = Search { probe: probe.clone(), capacity: 5, exact, scope: Scope::default() };
            let started = Instant::now();
            let outcome = galleries.search(&gallery, search).expect("search");
            (started.elapsed(), outcome)
        });
        for (times, (time, _)) in times.iter_mut().zip(&outcomes) {
            times.push(*time);
        }
        let first = outcomes.map(|(_, outcome)| outcome.ranked.into_iter().next().map(|best| best.identity));
        found_alike += u64::from(first[0] == first[1]);
    }
    let [exact, graph] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    println!("exact search, median of {PROBES}   {exact:.3} ms");
    println!("by graph, median of {PROBES}       {graph:.3} ms, {:.2} of the exact one", graph / exact);
    println!("both name the same first of {found_alike} of {PROBES} probes");
    galleries.close();
}
