//! What is kept besides galleries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use facematch::access::{Credential, Grants, Key, KeyId, KeyLimits, KeyText, SecretHash};
use facematch::biometrics::calibration::{Curve, ScoreCounts};
use facematch::biometrics::ids::PackId;
use facematch::error::{Entity, Error};
use facematch::gallery::{CurveOwner, GallerySettings, NewCurve};

use super::house::House;
use crate::common::people::{gallery, pack};

pub async fn curves_are_kept_and_go(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    house.enroll("g", 1, &[0]).await;
    let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
    (0..100).for_each(|at| mated.add(0.3 + at as f32 / 200.0).expect("a score"));
    (0..3_000).for_each(|at| non_mated.add(at as f32 / 8_000.0).expect("a score"));
    let curve = Curve::of(&mated, &non_mated);
    let new = |pack_id| NewCurve { pack_id, curve: curve.clone(), source: "a test".into() };
    let own = CurveOwner::Gallery(gallery("g"));
    assert!(house.any(1).curve(&own).await.expect("read").is_none());
    let set = house.first().set_curve(own.clone(), new(pack())).await.expect("set");
    assert_eq!(house.first().curve(&own).await.expect("read"), Some(Arc::clone(&set)));
    let eventually = async |server: u64, wanted: Option<&Arc<facematch::biometrics::calibration::KnownCurve>>| {
        let began = SystemTime::now();
        while house.any(server).curve(&own).await.expect("read").as_ref() != wanted {
            assert!(began.elapsed().expect("a time") < Duration::from_secs(2), "not fresh");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed().expect("a time") < Duration::from_secs(1), "fresh only after a second");
    };
    eventually(1, Some(&set)).await;
    let other = PackId::parse(&"0b".repeat(16)).expect("an id");
    let mismatch = house.first().set_curve(own.clone(), new(other.clone())).await;
    assert!(matches!(mismatch, Err(Error::PackMismatch { .. })));
    let missing = house.first().set_curve(CurveOwner::Gallery(gallery("nobody")), new(pack())).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
    house.first().set_curve(CurveOwner::Pack(other.clone()), new(other)).await.expect("of a pack");
    house.any(2).remove_curve(own.clone()).await.expect("remove");
    eventually(1, None).await;
    assert!(matches!(house.first().remove_curve(own).await, Err(Error::NotFound(Entity::Curve))));
}

pub async fn access_keys_are_kept_and_go(house: Arc<House>) {
    let key = |subject: Option<&str>| {
        let id = KeyId::generate().expect("an id");
        let text = KeyText::generate(&id).expect("a key");
        Key {
            credential: match subject {
                Some(subject) => Credential::CertificateSubject(subject.to_owned()),
                None => Credential::Secret(SecretHash::of(&text).expect("a hash")),
            },
            id,
            display_name: "the door".into(),
            grants: Grants::new(vec!["read:*".parse().expect("a grant")]).expect("grants"),
            limits: KeyLimits { identities: Some(5), ..Default::default() },
            created: SystemTime::UNIX_EPOCH,
            expires: None,
        }
    };
    let (one, two) = (key(None), key(Some("CN=door")));
    house.first().set_key(one.clone()).await.expect("set");
    house.any(1).set_key(two.clone()).await.expect("set");
    let ids: BTreeSet<KeyId> = house.any(2).keys().await.expect("keys").into_iter().map(|key| key.id).collect();
    assert_eq!(ids, BTreeSet::from([one.id.clone(), two.id.clone()]));
    for again in [house.any(1).set_key(one.clone()).await, house.any(1).set_key(key(Some("CN=door"))).await] {
        assert!(matches!(again, Err(Error::AlreadyExists(Entity::Key))));
    }
    house.any(2).remove_key(one.id.clone()).await.expect("remove");
    assert!(matches!(house.first().remove_key(one.id).await, Err(Error::NotFound(Entity::Key))));
    assert_eq!(house.first().keys().await.expect("keys").len(), 1);
}
