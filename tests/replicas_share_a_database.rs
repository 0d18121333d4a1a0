//! Whole servers over one database: what is done through one is so for all, at once or within a second; and one may go while the
//! others serve.

#[path = "common/callers.rs"]
mod callers;
mod common;
#[path = "common/postgres.rs"]
mod postgres;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Running;
use facematch::client::is_unprocessed;
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::key_service_client::KeyServiceClient;
use facematch::contract::match_service_client::MatchServiceClient;
use facematch::contract::{self as proto};
use postgres::PostgresServer;
use tonic::transport::Channel;
use tonic::{Code, Status};

const DIMENSION: usize = 512;

/// A server that has nothing of its own: its data folder is one that cannot be.
async fn replica(database: &str, settings: &[(&str, &str)]) -> Running {
    let nowhere = Path::new("/proc/no-folder-of-ours");
    common::serve_starter(nowhere, &[settings, &[("store", database), ("store_connections_max", "8")]].concat()).await
}

async fn database() -> String {
    tokio::task::spawn_blocking(|| PostgresServer::shared().database()).await.expect("a database")
}

fn embedding(pack_id: &str, seed: u64) -> proto::Embedding {
    proto::Embedding { values: common::direction(DIMENSION, seed), pack_id: pack_id.to_owned() }
}

async fn best(running: &Running, pack_id: &str, seed: u64) -> Option<String> {
    let probe = proto::probe::Probe::Embedding(embedding(pack_id, seed));
    let reply = running.identify("g", probe).await.expect("identify");
    reply.candidates.into_iter().next().map(|candidate| candidate.identity_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_enrols_the_next_finds_and_what_a_third_deletes_is_no_ghost() {
    let database = database().await;
    let replicas = [replica(&database, &[]).await, replica(&database, &[]).await, replica(&database, &[]).await];
    let pack_id = replicas[0].create_gallery("g").await.pack_id;
    let source = |seed| proto::sample::Source::Embedding(embedding(&pack_id, seed));
    replicas[0].enroll("g", "somebody", vec![source(1_000_000)]).await.expect("enrol");
    for round in 0..300u64 {
        let [one, next, third] = [0, 1, 2].map(|at| &replicas[(round as usize + at) % 3]);
        let name = format!("p{round}");
        one.enroll("g", &name, vec![source(round)]).await.expect("enrol");
        assert_eq!(best(next, &pack_id, round).await.as_deref(), Some(name.as_str()), "a miss in round {round}");
        let request = proto::DeleteIdentityRequest { gallery_id: "g".into(), identity_id: name.clone() };
        third.enrollment().delete_identity(request).await.expect("delete");
        for replica in [one, next] {
            assert_eq!(best(replica, &pack_id, round).await.as_deref(), Some("somebody"), "a ghost in round {round}");
        }
    }
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_settings_and_curves_of_one_are_those_of_all_within_a_second() {
    let (database, folder) = (database().await, tempfile::tempdir().expect("a folder"));
    let admin = callers::admin_key_file(folder.path());
    let settings = [("keys", "required"), ("admin_key_file", admin.as_str())];
    let (one, other) = (replica(&database, &settings).await, replica(&database, &settings).await);
    let created = callers::create_key(&one.channel, callers::new_key(&["admin:*", "read:*"])).await.expect("a key");
    let (secret, id) = (created.secret, created.key.expect("the key").key_id);
    let list = async |secret: &str| -> Result<(), Status> {
        let mut client = GalleryServiceClient::new(callers::caller(&other.channel, secret));
        client.list_galleries(proto::ListGalleriesRequest::default()).await.map(drop)
    };
    within_a_second(async || list(&secret).await.is_ok()).await;
    let mut galleries = GalleryServiceClient::new(callers::caller(&one.channel, &secret));
    let gallery = proto::Gallery { gallery_id: "g".into(), ..Default::default() };
    galleries.create_gallery(proto::CreateGalleryRequest { gallery: Some(gallery) }).await.expect("create");
    let gallery = proto::Gallery { gallery_id: "g".into(), ambiguity_margin: Some(0.25), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["ambiguity_margin".into()] });
    let update = proto::UpdateGalleryRequest { gallery: Some(gallery), update_mask };
    galleries.update_gallery(update).await.expect("update");
    // Settings at once.
    let mut elsewhere = GalleryServiceClient::new(callers::caller(&other.channel, &secret));
    let seen =
        elsewhere.get_gallery(proto::GetGalleryRequest { gallery_id: "g".into() }).await.expect("get").into_inner();
    assert_eq!(seen.gallery.expect("the gallery").ambiguity_margin, Some(0.25));
    let mut keys = KeyServiceClient::new(callers::caller(&one.channel, callers::ADMIN_KEY));
    keys.revoke_key(proto::RevokeKeyRequest { key_id: id }).await.expect("revoke");
    within_a_second(async || list(&secret).await.is_err_and(|status| status.code() == Code::Unauthenticated)).await;
    one.stop().await;
    other.stop().await;
}

async fn within_a_second(mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        // Twice the interval of half a second, and what a machine that builds beside takes.
        assert!(began.elapsed() < Duration::from_millis(1_500), "not within a second");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Calls as the README advises: over all servers in turn, and once more on another where one has turned the call away.
async fn identify(channels: &[Channel], pack_id: &str, seed: u64) -> Result<proto::IdentifyResponse, Status> {
    let mut tries = 0;
    loop {
        let channel = &channels[(seed as usize + tries) % channels.len()];
        let request = proto::IdentifyRequest {
            gallery_id: "g".into(),
            probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding(pack_id, seed))) }),
            ..Default::default()
        };
        tries += 1;
        match MatchServiceClient::new(channel.clone()).identify(request).await {
            // A connection that closes before a call is sent is a CANCELLED of the client's own library.
            Err(status)
                if tries < 4
                    && ([Code::Unavailable, Code::Cancelled].contains(&status.code()) || is_unprocessed(&status)) =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            reply => return reply.map(tonic::Response::into_inner),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_goes_under_load_and_nobody_notices() {
    let database = database().await;
    let mut replicas =
        vec![replica(&database, &[]).await, replica(&database, &[]).await, replica(&database, &[]).await];
    let pack_id = replicas[0].create_gallery("g").await.pack_id;
    for seed in 0..20 {
        let source = proto::sample::Source::Embedding(embedding(&pack_id, seed));
        replicas[0].enroll("g", &format!("p{seed}"), vec![source]).await.expect("enrol");
    }
    let endpoints = replicas
        .iter()
        .map(|replica| Channel::from_shared(format!("http://{}", replica.server.address())).expect("an address"));
    let channels: Vec<Channel> = endpoints.map(|endpoint| endpoint.connect_lazy()).collect();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..6u64 {
        let (channels, pack_id) = (channels.clone(), pack_id.clone());
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        callers.spawn(async move {
            let mut at = caller;
            while !stop.load(Ordering::Relaxed) {
                at += 7;
                let reply = identify(&channels, &pack_id, at % 20).await.unwrap_or_else(|status| panic!("{status:?}"));
                assert_eq!(reply.candidates[0].identity_id, format!("p{}", at % 20));
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let more = async |count: u64| {
        let (before, began) = (served.load(Ordering::Relaxed), Instant::now());
        while served.load(Ordering::Relaxed) < before + count {
            assert!(began.elapsed() < Duration::from_secs(30), "no call is answered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    more(100).await;
    replicas.remove(1).stop().await;
    more(200).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller saw an error");
    }
    for replica in replicas {
        replica.stop().await;
    }
}
