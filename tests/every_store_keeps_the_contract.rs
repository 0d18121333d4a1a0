//! What holds of galleries holds in every store: each test here runs on this machine's own store, on a real PostgreSQL with
//! pgvector through several servers of it, and on both at once, where each gallery has moved from one to the other. With
//! `FACEMATCH_TEST_POSTGRES_URL` or `FACEMATCH_TEST_CITUS_URL` the same tests run in the database that it names, in a schema of their
//! own; without, they are not run, and not counted as passed.

mod common;
#[path = "common/postgres.rs"]
mod postgres;

/// The tests, each of a house.
mod contract {
    pub mod house;
    pub mod identities;
    pub mod keys_and_curves;
    pub mod random_operations;
    pub mod searches;
    pub mod whole_galleries;
}

use std::sync::Arc;

use contract::house::House;
use contract::identities::*;
use contract::keys_and_curves::*;
use contract::random_operations::*;
use contract::searches::*;
use contract::whole_galleries::*;
use facematch::gallery::Health;

/// Runs each test on every store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::run(super::House::embedded(), super::$name).await; })*
        }
        mod postgres_16 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::run(super::House::postgres().await, super::$name).await; })*
        }
        mod moved_to_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::run(super::House::moved().await, super::$name).await; })*
        }
        mod named_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "NOT RUN: FACEMATCH_TEST_POSTGRES_URL names no server"]
            async fn $name() { super::run(super::House::named("FACEMATCH_TEST_POSTGRES_URL").await, super::$name).await; })*
        }
        mod named_citus {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "NOT RUN: FACEMATCH_TEST_CITUS_URL names no server"]
            async fn $name() { super::run(super::House::named("FACEMATCH_TEST_CITUS_URL").await, super::$name).await; })*
        }
    };
}

on_every_store!(
    access_keys_are_kept_and_go,
    changes_are_seen_by_the_next_search_of_every_server,
    concurrent_enrolments_lose_nothing,
    curves_are_kept_and_go,
    deleted_is_gone_at_once,
    duplicates_and_strangers_are_seen,
    enrolment_says_what_it_did,
    equals_are_told_apart_by_id,
    fused_identities_are_searched_by_their_mean,
    galleries_move_as_files,
    galleries_move_to_another_pack,
    import_that_somebody_deletes_is_no_gallery,
    reads_beside_changes_are_whole,
    gallery_lives_as_it_is_told,
    identities_are_listed_in_pages,
    imports_go_on_where_they_broke_off,
    indexes_are_built_beside_serving_and_measured,
    of_two_enrolments_of_one_face_the_second_is_refused,
    random_operations_match_a_plain_model,
    scopes_leave_nobody_out,
    scores_are_those_of_the_templates,
);

async fn run<F: Future<Output = ()>>(house: House, test: impl FnOnce(Arc<House>) -> F) {
    let house = Arc::new(house);
    assert_eq!(house.first().health(), Health::Ready);
    test(Arc::clone(&house)).await;
    if let Ok(house) = Arc::try_unwrap(house) {
        house.close().await;
    }
}
