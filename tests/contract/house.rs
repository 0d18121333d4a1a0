//! Servers of one store, and what the tests ask them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use facematch::biometrics::template::Template;
use facematch::gallery::{
    EmbeddedGalleries, Enrollment, Galleries, GallerySettings, Identity, MovePlan, OpenGalleries, PostgresGalleries,
    PostgresOptions, Scope, Search, StoreLocation, TwoStores, open_galleries,
};

use crate::common::people::{self, DIMENSION, gallery, pack};
use crate::postgres;

pub type Store = Arc<dyn Galleries>;

/// Servers of one store; on this machine's own store they are one.
pub struct House {
    pub servers: Vec<Store>,
    /// Moves each gallery that is made, and where to.
    mover: Option<(Arc<TwoStores>, String)>,
    _folder: Option<tempfile::TempDir>,
}

impl House {
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries: Store = Arc::new(Arc::new(EmbeddedGalleries::open(folder.path()).expect("open")));
        let servers = vec![Arc::clone(&galleries), Arc::clone(&galleries), galleries];
        Self { servers, mover: None, _folder: Some(folder) }
    }

    pub async fn moved() -> Self {
        let url =
            tokio::task::spawn_blocking(|| postgres::PostgresServer::shared().database()).await.expect("a database");
        let folder = tempfile::tempdir().expect("a folder");
        let here = StoreLocation::Folder(folder.path().to_path_buf());
        let there = StoreLocation::Postgres(PostgresOptions::new(&url));
        let to = there.address();
        let OpenGalleries { galleries, two_stores } = open_galleries(here, Some(there), None).await.expect("open");
        let servers = vec![Arc::clone(&galleries), Arc::clone(&galleries), galleries];
        Self { servers, mover: two_stores.map(|mover| (mover, to)), _folder: Some(folder) }
    }

    pub async fn in_database(url: &str) -> Self {
        let mut servers: Vec<Store> = Vec::new();
        for _ in 0..3 {
            let mut options = PostgresOptions::new(url);
            options.connections_max = 6;
            let opened =
                PostgresGalleries::open(&options).await.unwrap_or_else(|error| panic!("open {url}: {error:?}"));
            servers.push(Arc::new(Arc::new(opened)));
        }
        Self { servers, mover: None, _folder: None }
    }

    pub async fn postgres() -> Self {
        let url =
            tokio::task::spawn_blocking(|| postgres::PostgresServer::shared().database()).await.expect("a database");
        Self::in_database(&url).await
    }

    /// A schema of its own in a database that somebody named.
    pub async fn named(variable: &str) -> Self {
        let url = postgres::named(variable);
        let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
        let make = format!("create schema {schema}");
        let at = url.clone();
        tokio::task::spawn_blocking(move || postgres::psql_named(&at, &make)).await.expect("a schema");
        let joint = if url.contains('?') { '&' } else { '?' };
        Self::in_database(&format!("{url}{joint}options=-csearch_path%3D{schema},public")).await
    }

    pub fn any(&self, number: u64) -> &dyn Galleries {
        self.servers[number as usize % self.servers.len()].as_ref()
    }

    pub fn first(&self) -> &dyn Galleries {
        self.any(0)
    }

    pub async fn create(&self, id: &str, settings: GallerySettings) {
        self.first().create_gallery(gallery(id), settings, pack(), DIMENSION).await.expect("create");
        if let Some((mover, to)) = &self.mover {
            let plan = MovePlan { to: to.clone(), as_it_was: false, is_only_server: false };
            let mut states = mover.move_gallery(&gallery(id), plan).await.expect("move");
            while let Some(state) = states.recv().await {
                state.expect("move");
            }
        }
    }

    pub async fn enroll(&self, id: &str, number: u64, which: &[u64]) {
        self.any(number).enroll(gallery(id), enrollment(number, which)).await.expect("enrol");
    }

    pub async fn close(self) {
        for server in &self.servers {
            server.close().await;
        }
    }
}

/// As stores keep them: times to the microsecond.
pub fn enrollment(number: u64, which: &[u64]) -> Enrollment {
    let mut enrollment = people::enrollment(number, which);
    enrollment.templates.iter_mut().for_each(|enrolled| enrolled.created = SystemTime::UNIX_EPOCH);
    enrollment
}

pub fn search_for(probe: Template, capacity: usize) -> Search {
    Search { probe, capacity, exact: false, scope: Scope::default() }
}

pub async fn ranked(galleries: &dyn Galleries, id: &str, search: Search) -> Vec<(String, String, f32)> {
    let outcome = galleries.search(&gallery(id), vec![search]).await.expect("search").remove(0);
    let ranked = outcome.ranked.into_iter();
    ranked.map(|r| (r.identity.as_str().to_owned(), r.template.as_str().to_owned(), r.score.cosine())).collect()
}

/// Every identity of a gallery, whole, by id.
pub async fn all(galleries: &dyn Galleries, id: &str) -> BTreeMap<String, Identity> {
    let page = galleries.list_identities(&gallery(id), None, 100_000).await.expect("list");
    let mut all = BTreeMap::new();
    for outline in page.items {
        let whole = galleries.identity(&gallery(id), &outline.id).await.expect("an identity");
        assert!(outline.known.expect("undamaged") == whole.outline());
        all.insert(outline.id.as_str().to_owned(), whole);
    }
    all
}
