//! Who is found, by which score, and how.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::IdentityId;
use facematch::biometrics::template::{Template, dot};
use facematch::gallery::filter::Filter;
use facematch::gallery::{GalleryChange, GallerySettings, MetadataValue, Scope, Search, SearchPath, SearchPolicy};

use super::house::{House, all, enrollment, ranked, search_for};
use crate::common::people::{gallery, identity, settings, template};

pub async fn scores_are_those_of_the_templates(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    for number in 0..150 {
        house.enroll("g", number, &[0, 1, 2][..1 + number as usize % 3]).await;
    }
    for probe in 0..25u64 {
        let template_of = template(probe * 7, 9);
        let mut expected: Vec<(String, f32)> = (0..150u64)
            .map(|number| {
                let scores =
                    (0..1 + number % 3).map(|which| dot(template_of.values(), template(number, which).values()));
                (identity(number).as_str().to_owned(), scores.fold(-1.0, f32::max))
            })
            .collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (server, capacity) in [(0, 1), (1, 10), (2, 150)] {
            let found = ranked(house.any(server), "g", search_for(template_of.clone(), capacity)).await;
            let found: Vec<(String, f32)> = found.into_iter().map(|(identity, _, score)| (identity, score)).collect();
            // To the last bit.
            assert_eq!(found, expected[..capacity.min(150)], "probe {probe}, {capacity}");
        }
    }
    let outcomes =
        house.first().search(&gallery("g"), vec![search_for(template(3, 9), 1), search_for(template(5, 9), 1)]).await;
    let outcomes = outcomes.expect("search");
    let best: Vec<_> = outcomes.iter().map(|outcome| outcome.ranked[0].identity.clone()).collect();
    assert_eq!((best, outcomes[0].identities, outcomes[1].searched), (vec![identity(3), identity(5)], 150, 150));
}

pub async fn equals_are_told_apart_by_id(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    // A crowd with one face: more than any store looks at at once.
    for number in 0..300u64 {
        let mut twin = enrollment(299 - number, &[0]);
        twin.templates[0].template = template(1, 0);
        house.any(number).enroll(gallery("g"), twin).await.expect("enrol");
    }
    let found = ranked(house.any(1), "g", search_for(template(1, 5), 20)).await;
    let expected: Vec<String> = (0..20).map(|number| identity(number).as_str().to_owned()).collect();
    assert_eq!(found.into_iter().map(|(identity, _, _)| identity).collect::<Vec<_>>(), expected);
}

pub async fn fused_identities_are_searched_by_their_mean(house: Arc<House>) {
    house.create("g", GallerySettings { fusion: Fusion::Mean, ..Default::default() }).await;
    for number in 0..40 {
        house.enroll("g", number, &[0, 1, 2]).await;
    }
    let expected = async |fusion: Fusion, probe: &Template| {
        let mut expected = Vec::new();
        for (id, identity) in all(house.any(1), "g").await {
            let scores =
                identity.compared_by(fusion).into_iter().map(|(_, template)| dot(probe.values(), template.values()));
            expected.push((id, scores.fold(-1.0, f32::max)));
        }
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        expected
    };
    let probe = template(12, 8);
    let found = async |server: u64| -> Vec<(String, f32)> {
        let found = ranked(house.any(server), "g", search_for(probe.clone(), 40)).await;
        found.into_iter().map(|(identity, _, score)| (identity, score)).collect()
    };
    assert_eq!(found(0).await, expected(Fusion::Mean, &probe).await);
    // A template more moves the mean.
    house.enroll("g", 12, &[3]).await;
    assert_eq!(found(1).await, expected(Fusion::Mean, &probe).await);
    for fusion in [Fusion::Max, Fusion::QualityWeightedMean, Fusion::Mean] {
        let change = GalleryChange { fusion: Some(fusion), ..Default::default() };
        house.any(2).update_gallery(gallery("g"), change).await.expect("another rule");
        assert_eq!(found(0).await, expected(fusion, &probe).await, "{fusion:?}");
    }
    let (_, status) = house.first().gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (40, 121));
}

pub async fn scopes_leave_nobody_out(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let time = |seconds| MetadataValue::Time { seconds, nanos: 0 };
    let people: [&[(&str, MetadataValue)]; 6] = [
        &[("site", MetadataValue::Text("north".into())), ("age", MetadataValue::Number(30.0))],
        &[("site", MetadataValue::Text("south".into())), ("age", MetadataValue::Number(-1.5))],
        &[("site", MetadataValue::Text("north".into())), ("guest", MetadataValue::Flag(true))],
        &[("site", MetadataValue::Number(7.0)), ("since", time(1_767_225_600))], // 2026-01-01
        &[
            ("since", time(1_735_689_600)),
            ("age", MetadataValue::Number(0.0)),
            ("a\u{0}b'\"\\", MetadataValue::Text("\u{0}\u{1}".into())),
        ],
        &[],
    ];
    for (number, metadata) in people.iter().enumerate() {
        let mut enrollment = enrollment(number as u64, &[0]);
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        enrollment.change.metadata = Some(metadata);
        let enrolled = house.any(number as u64).enroll(gallery("g"), enrollment).await.expect("enrol");
        let stored = house.first().identity(&gallery("g"), &identity(number as u64)).await.expect("stored");
        assert!(stored.details == enrolled.identity.details);
    }
    let cases: [(&str, &[u64]); 24] = [
        ("site = \"north\"", &[0, 2]),
        ("site = 7", &[3]),
        ("site = \"7\"", &[]),
        ("site != \"north\"", &[1, 3]),
        ("NOT site = \"north\"", &[1, 3, 4, 5]),
        ("site IN (\"south\", 7)", &[1, 3]),
        ("site < \"o\"", &[0, 2]),
        ("site >= \"north\"", &[0, 1, 2]),
        ("age > -2", &[0, 1, 4]),
        ("age < 0", &[1]),
        ("age <= 0", &[1, 4]),
        ("age = -0.0", &[4]),
        ("guest = true", &[2]),
        ("guest < true", &[]),
        ("guest <= true", &[2]),
        ("since < \"2026-01-01T00:00:00Z\"", &[4]),
        ("since = \"2026-01-01T01:00:00+01:00\"", &[3]),
        ("since:*", &[3, 4]),
        ("nobody:*", &[]),
        ("NOT nobody:*", &[0, 1, 2, 3, 4, 5]),
        ("site = \"north\" AND (age >= 30 OR guest = true)", &[0, 2]),
        ("site = \"north\" AND NOT guest = true OR since:* AND age:*", &[0, 4]),
        ("`a\u{0}b'\\\"\\\\` = \"\u{0}\u{1}\"", &[4]),
        ("`a\u{0}b'\\\"\\\\` > \"\u{0}\"", &[4]),
    ];
    for (filter, expected) in cases {
        let filter_of = Filter::parse("filter", filter).expect(filter);
        let scope = Scope { filter: Some(filter_of.clone()), candidates: None };
        let search = Search { scope, ..search_for(template(9, 0), 10) };
        let outcome = house.any(1).search(&gallery("g"), vec![search]).await.expect(filter).remove(0);
        let found: BTreeSet<IdentityId> = outcome.ranked.iter().map(|ranked| ranked.identity.clone()).collect();
        assert_eq!(found, expected.iter().map(|number| identity(*number)).collect(), "{filter}");
        assert_eq!((outcome.searched, outcome.identities), (expected.len() as u64, 6), "{filter}");
        // Among candidates, too, and who is not enrolled is passed over.
        let candidates = Some(vec![identity(0), identity(4), identity(77)]);
        let search = Search { scope: Scope { filter: Some(filter_of), candidates }, ..search_for(template(9, 0), 10) };
        let outcome = house.any(2).search(&gallery("g"), vec![search]).await.expect(filter).remove(0);
        let both = expected.iter().filter(|number| [0, 4].contains(*number)).count() as u64;
        assert_eq!((outcome.searched, outcome.ranked.len() as u64), (both, both), "{filter}");
    }
}

pub async fn indexes_are_built_beside_serving_and_measured(house: Arc<House>) {
    house.create("g", settings(SearchPolicy::Graph)).await;
    for number in 0..300 {
        house.enroll("g", number, &[0, 1]).await;
    }
    let becomes = async |path: SearchPath| {
        let began = SystemTime::now();
        loop {
            let (_, status) = house.any(1).gallery(&gallery("g")).await.expect("the gallery");
            // One that was built before all were there is measured again as they become more.
            let is_of_few = status.recall.is_some_and(|recall| recall.probes < 50);
            if status.path == path && !(path == SearchPath::Graph && is_of_few) {
                return status;
            }
            assert!(began.elapsed().expect("a time") < Duration::from_secs(60), "{status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let recall = becomes(SearchPath::Graph).await.recall.expect("it was measured");
    assert!(recall.missed as f64 <= 0.001 * recall.probes as f64, "{recall:?}");
    for number in (0..300u64).step_by(7) {
        let search = search_for(template(number, 0), 3);
        let outcome = house.any(number).search(&gallery("g"), vec![search.clone()]).await.expect("search").remove(0);
        assert_eq!((outcome.path, &outcome.ranked[0].identity), (SearchPath::Graph, &identity(number)));
        let exact = Search { exact: true, ..search };
        let outcome = house.any(number).search(&gallery("g"), vec![exact]).await.expect("search").remove(0);
        assert_eq!((outcome.path, &outcome.ranked[0].identity), (SearchPath::Exact, &identity(number)));
    }
    // Whoever is enrolled now is found by it, and whoever is deleted is not.
    house.enroll("g", 900, &[0]).await;
    assert_eq!(ranked(house.any(1), "g", search_for(template(900, 0), 1)).await[0].0, identity(900).as_str());
    house.any(2).delete_identity(gallery("g"), identity(900)).await.expect("delete");
    assert_ne!(ranked(house.any(1), "g", search_for(template(900, 0), 1)).await[0].0, identity(900).as_str());
    let exact = GalleryChange { search_policy: Some(SearchPolicy::Exact), ..Default::default() };
    house.first().update_gallery(gallery("g"), exact).await.expect("another policy");
    becomes(SearchPath::Exact).await;
}
