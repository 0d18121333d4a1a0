//! Moves between stores that fail at the worst moment, as a test tells them to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};

use super::{MovePlan, MoveState, Side, TwoStores, lock};
use crate::access::{Key, KeyId};
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::enrolment::CheckDefaults;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::biometrics::template::Template;
use crate::error::{Entity, Error};
use crate::gallery::{
    Capabilities, Compaction, CurveOwner, Deletion, Embed, EmbeddedGalleries, Enrolled, EnrolledTemplate, Enrollment,
    ExportPart, Galleries, Gallery, GalleryChange, GallerySettings, GalleryStatus, Health, Identity, IdentityChange,
    IdentityOutline, IfExists, ImportState, Importing, IsListed, Lasting, MigrationPlan, MigrationState, NewCurve,
    Page, Search, SearchOutcome, Served,
};

const DIMENSION: usize = 4;

/// What becomes of a write that says who serves a gallery.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Done,
    /// Nothing is written.
    Refused,
    /// It is written, and the answer gets lost.
    Unanswered,
}

const LOST: Error = Error::Unavailable("as the test wants it");

/// How a store fails.
#[derive(Default)]
struct Plan {
    /// Of the next writes of each kind, in their order; later ones are done.
    fates: Mutex<VecDeque<(Served, Fate)>>,
    /// A write was refused.
    refused: Notify,
    /// What happened: refusals, and writes of people.
    events: Mutex<Vec<&'static str>>,
    /// Reads of identities return another name.
    renames: bool,
    /// One template is not counted.
    miscounts: bool,
    /// The next read of an identity says that it has begun, and waits to be told to go on.
    held: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

/// A store that fails by a plan.
struct Failing {
    store: Arc<dyn Galleries>,
    plan: Arc<Plan>,
}

impl Failing {
    async fn updated(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error> {
        let said = wanted.served;
        let fate = {
            let mut fates = lock(&self.plan.fates);
            let at = fates.iter().position(|(served, _)| said == Some(*served));
            at.and_then(|at| fates.remove(at)).map_or(Fate::Done, |(_, fate)| fate)
        };
        if fate == Fate::Refused {
            lock(&self.plan.events).push("refused");
            self.plan.refused.notify_one();
            return Err(LOST);
        }
        let updated = self.store.update_gallery(id, wanted).await;
        if fate == Fate::Unanswered { Err(LOST) } else { updated }
    }

    async fn found(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error> {
        let (gallery, mut status) = self.store.gallery(id).await?;
        status.counts.templates -= u64::from(self.plan.miscounts);
        Ok((gallery, status))
    }

    async fn read(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error> {
        let held = lock(&self.plan.held).take();
        if let Some((begun, go_on)) = held {
            begun.send(()).expect("the test waits");
            go_on.await.expect("the test says so");
        }
        let mut identity = self.store.identity(gallery, id).await?;
        if self.plan.renames {
            identity.details.display_name = "Somebody else".into();
        }
        Ok(identity)
    }

    async fn enrolled(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> {
        lock(&self.plan.events).push("enrolled");
        self.store.enroll(gallery, enrollment).await
    }
}

/// What fails, by methods of [`Failing`], and what does not.
macro_rules! pass_on {
    (
        { $(fn $own:ident(&self $(, $a:ident: $A:ty)*) -> $O:ty => $by:ident;)* }
        { $(fn $name:ident(&self $(, $b:ident: $B:ty)*) -> $R:ty;)* }
    ) => {
        #[async_trait]
        impl Galleries for Failing {
            fn capabilities(&self) -> Capabilities {
                self.store.capabilities()
            }
            fn health(&self) -> Health {
                self.store.health()
            }
            $(async fn $own(&self $(, $a: $A)*) -> $O { self.$by($($a),*).await })*
            $(async fn $name(&self $(, $b: $B)*) -> $R { self.store.$name($($b),*).await })*
        }
    };
}

pass_on! {
    {
        fn gallery(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error> => found;
        fn update_gallery(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error> => updated;
        fn identity(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error> => read;
        fn enroll(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> => enrolled;
    }
    {
        fn close(&self) -> ();
        fn create_gallery(&self, id: GalleryId, s: GallerySettings, p: PackId, d: usize) -> Result<Gallery, Error>;
        fn list_galleries(&self, after: Option<&GalleryId>, count: usize, is_listed: IsListed<'_>)
            -> Result<Page<(Gallery, GalleryStatus)>, Error>;
        fn delete_gallery(&self, id: GalleryId, force: bool) -> Result<Deletion, Error>;
        fn identities(&self, gallery: &GalleryId, ids: &[IdentityId]) -> Result<Vec<Result<Identity, Error>>, Error>;
        fn list_identities(&self, gallery: &GalleryId, after: Option<&IdentityId>, count: usize)
            -> Result<Page<IdentityOutline>, Error>;
        fn some_identities(&self, gallery: &GalleryId, count: usize, seed: u64) -> Result<Vec<IdentityId>, Error>;
        fn update_identity(&self, gallery: GalleryId, id: IdentityId, wanted: IdentityChange)
            -> Result<Identity, Error>;
        fn delete_identity(&self, gallery: GalleryId, id: IdentityId) -> Result<Deletion, Error>;
        fn delete_template(&self, gallery: GalleryId, identity: IdentityId, template: TemplateId)
            -> Result<Deletion, Error>;
        fn settle(&self) -> Result<(), Error>;
        fn search(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error>;
        fn curve(&self, owner: &CurveOwner) -> Result<Option<Arc<KnownCurve>>, Error>;
        fn set_curve(&self, owner: CurveOwner, new: NewCurve) -> Result<Arc<KnownCurve>, Error>;
        fn remove_curve(&self, owner: CurveOwner) -> Result<(), Error>;
        fn keys(&self) -> Result<Vec<Key>, Error>;
        fn set_key(&self, new: Key) -> Result<(), Error>;
        fn remove_key(&self, id: KeyId) -> Result<(), Error>;
        fn export(&self, gallery: &GalleryId) -> Result<Lasting<ExportPart>, Error>;
        fn import_state(&self, gallery: &GalleryId) -> Result<ImportState, Error>;
        fn begin_import(&self, id: GalleryId, offset: u64) -> Result<Box<dyn Importing>, Error>;
        fn compact(&self) -> Result<Lasting<Compaction>, Error>;
        fn migrate(&self, id: &GalleryId, plan: MigrationPlan, embed: Arc<Embed>)
            -> Result<Lasting<MigrationState>, Error>;
    }
}

/// Two folders; what they hold outlives the servers that are started on them.
struct House {
    _folder: tempfile::TempDir,
    stores: [Arc<dyn Galleries>; 2],
}

fn gallery() -> GalleryId {
    GalleryId::parse("g").expect("an id")
}

fn identity(number: u8) -> IdentityId {
    IdentityId::parse(&number.to_string()).expect("an id")
}

fn pack() -> PackId {
    PackId::from_digits("0a".repeat(16))
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |name: &str| -> Arc<dyn Galleries> {
            Arc::new(Arc::new(EmbeddedGalleries::open(&folder.path().join(name)).expect("open")))
        };
        let stores = [open("a"), open("b")];
        let settings = Gallery::with_defaults(gallery(), pack(), DIMENSION, SystemTime::now()).settings;
        stores[0].create_gallery(gallery(), settings, pack(), DIMENSION).await.expect("create");
        let house = Self { _folder: folder, stores };
        for number in 0..3 {
            enroll(&house.start(), number).await;
        }
        house
    }

    fn start(&self) -> Arc<TwoStores> {
        self.start_with([Plan::default(), Plan::default()].map(Arc::new))
    }

    /// As a server that knows nothing of another one before it.
    fn start_with(&self, plans: [Arc<Plan>; 2]) -> Arc<TwoStores> {
        let mut sides = self.stores.iter().zip(plans).zip(["a", "b"]).map(|((store, plan), address)| {
            let galleries: Arc<dyn Galleries> = Arc::new(Failing { store: Arc::clone(store), plan });
            Side::new(address.to_owned(), Some(galleries))
        });
        Arc::new(TwoStores::new(sides.next().expect("a"), sides.next().expect("b")))
    }

    /// Of each store: how many people it has, if it has the gallery at all, and who it says serves it.
    async fn held(&self) -> [Option<(u64, Served)>; 2] {
        let [a, b] = &self.stores;
        [a.gallery(&gallery()).await, b.gallery(&gallery()).await]
            .map(|found| found.ok().map(|(gallery, status)| (status.counts.identities, gallery.settings.served)))
    }
}

async fn enroll(stores: &Arc<TwoStores>, number: u8) {
    let vector = [1.0, f32::from(number), 0.0, 0.0];
    let template = EnrolledTemplate {
        id: TemplateId::parse("0").expect("an id"),
        template: Template::from_vector(&vector, pack()).expect("a template"),
        face: None,
        chip: None,
        created: SystemTime::now(),
    };
    let enrollment = Enrollment {
        identity: identity(number),
        change: IdentityChange::default(),
        templates: vec![template],
        if_exists: IfExists::Add,
        check_defaults: CheckDefaults::default(),
        may_refuse_all: false,
        identities_max: None,
    };
    Galleries::enroll(stores, gallery(), enrollment).await.expect("enrol");
}

async fn has(stores: &Arc<TwoStores>, number: u8) -> bool {
    match Galleries::identity(stores, &gallery(), &identity(number)).await {
        Ok(_) => true,
        Err(Error::NotFound(Entity::Identity)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A test that waits for what does not come has failed.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
}

async fn go(stores: &Arc<TwoStores>, to: &str) -> Result<MoveState, Error> {
    let plan = MovePlan { to: to.to_owned(), as_it_was: false, is_only_server: true };
    let mut states = stores.move_gallery(&gallery(), plan).await?;
    let mut last = MoveState::default();
    while let Some(state) = states.recv().await {
        last = state?;
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_that_is_not_what_was_copied_is_not_switched_to() {
    let house = House::new().await;
    let failing = [Plan { renames: true, ..Plan::default() }, Plan { miscounts: true, ..Plan::default() }];
    for plan in failing {
        let stores = house.start_with([Arc::default(), Arc::new(plan)]);
        assert!(matches!(go(&stores, "b").await, Err(Error::DataLoss(_))));
        assert!(has(&stores, 1).await);
        assert_eq!(house.held().await, [Some((3, Served::Here)), None], "what was copied does not stay");
    }
    let moved = go(&house.start(), "b").await.expect("moved");
    assert_eq!((moved.compared, moved.is_switched), (3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_whose_answer_is_lost_is_taken_back() {
    let house = House::new().await;
    // Nor can it be written down at the end that nothing is left.
    let fates = [(Served::Elsewhere, Fate::Unanswered), (Served::Here, Fate::Refused)];
    let plan = Plan { fates: Mutex::new(fates.into()), ..Plan::default() };
    let stores = house.start_with([Arc::new(plan), Arc::default()]);
    assert!(matches!(go(&stores, "b").await, Err(Error::Unavailable(_))));
    enroll(&stores, 7).await;
    assert_eq!(house.held().await, [Some((4, Served::HereWithCopy)), None]);
    for stores in [stores, house.start()] {
        assert!(has(&stores, 1).await && has(&stores, 7).await);
    }
    go(&house.start(), "b").await.expect("moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_passes_until_it_is_known_who_serves() {
    let house = House::new().await;
    let switched_back = [(Served::HereWithCopy, Fate::Refused); 5];
    let mut fates = VecDeque::from([(Served::HereWithCopy, Fate::Done), (Served::Elsewhere, Fate::Unanswered)]);
    fates.extend(switched_back);
    let plan = Arc::new(Plan { fates: Mutex::new(fates), ..Plan::default() });
    let stores = house.start_with([Arc::clone(&plan), Arc::default()]);
    let writer = {
        let (stores, plan) = (Arc::clone(&stores), Arc::clone(&plan));
        tokio::spawn(async move {
            in_time(plan.refused.notified()).await;
            enroll(&stores, 7).await;
        })
    };
    assert!(matches!(go(&stores, "b").await, Err(Error::Unavailable(_))));
    writer.await.expect("a writer");
    assert_eq!(*lock(&plan.events), [&["refused"; 5][..], &["enrolled"]].concat());
    assert!(has(&stores, 7).await && has(&house.start(), 7).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_is_looked_up_where_it_never_became_known() {
    let house = House::new().await;
    let mut fates = VecDeque::from([(Served::HereWithCopy, Fate::Done), (Served::Elsewhere, Fate::Unanswered)]);
    fates.extend([(Served::HereWithCopy, Fate::Refused); 100]);
    let stores = house.start_with([Arc::new(Plan { fates: Mutex::new(fates), ..Plan::default() }), Arc::default()]);
    assert!(matches!(go(&stores, "b").await, Err(Error::Unavailable(_))));
    // The switch had been written, and nothing that it left or made was deleted.
    enroll(&stores, 7).await;
    assert_eq!(house.held().await, [Some((3, Served::Elsewhere)), Some((4, Served::Here))]);
    assert!(has(&stores, 7).await && has(&house.start(), 7).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_that_meets_a_switch_finds_who_is_there() {
    let house = House::new().await;
    let plan = Arc::new(Plan::default());
    let stores = house.start_with([Arc::default(), Arc::clone(&plan)]);
    go(&stores, "b").await.expect("moved");
    let ((begun, has_begun), (go_on, may_go_on)) = (oneshot::channel(), oneshot::channel());
    *lock(&plan.held) = Some((begun, may_go_on));
    let reader = {
        let stores = Arc::clone(&stores);
        tokio::spawn(async move { has(&stores, 1).await })
    };
    has_begun.await.expect("begun");
    stores.delete_copy(&gallery()).await.expect("the way back goes");
    go(&stores, "a").await.expect("moved back");
    stores.delete_copy(&gallery()).await.expect("deleted");
    go_on.send(()).expect("it waits");
    assert!(in_time(reader).await.expect("read"), "it is served by the other store now");
}
