//! The worker pool: what nobody waits for is not done, a bad job fails alone, a full queue refuses at once.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use facematch::decode::PhotoLimits;
use facematch::error::Error;
use facematch::model::PackError;
use facematch::pipeline::Pipelines;
use facematch::runtime::{Caller, Workers};

/// One worker, whose sessions can be opened again after a panic or not.
fn one_worker(shared: &Path, queue_max: usize, can_reopen: bool) -> Workers {
    let pack = common::pack(shared, "scrfd500-edgeface-xxs");
    let first = Pipelines::open(&pack, &[], PhotoLimits::default()).expect("open the pipelines");
    let open = move || match can_reopen {
        true => Pipelines::open(&pack, &[], PhotoLimits::default()),
        false => Err(PackError::BadManifest { path: "gone".into(), fault: "gone".to_owned() }),
    };
    Workers::start(vec![first], queue_max, open).expect("start a worker")
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_caller_has_gone_never_runs() {
    let Some(shared) = common::shared("job_whose_caller_has_gone_never_runs") else { return };
    let workers = Arc::new(one_worker(&shared, 4, true));
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let mut place = workers.reserve(Caller::default()).expect("a place");
    let busy = {
        let workers = Arc::clone(&workers);
        tokio::spawn(async move {
            let job = move |_: &mut Pipelines| {
                started.send(()).expect("the test waits");
                released.recv().expect("released");
                Ok(())
            };
            workers.run(&mut place, job).await
        })
    };
    has_started.await.expect("the worker is busy");

    let ran = Arc::new(AtomicBool::new(false));
    let mut abandoned = workers.reserve(Caller::default()).expect("a place");
    {
        let ran = Arc::clone(&ran);
        let job = workers.run(&mut abandoned, move |_| {
            ran.store(true, Ordering::SeqCst);
            Ok(())
        });
        tokio::pin!(job);
        // Polled once, so that it is in the queue; then given up, as a deadline does.
        tokio::select! {
            biased;
            _ = &mut job => panic!("the worker is busy"),
            () = std::future::ready(()) => {}
        }
    }
    release.send(()).expect("the worker waits");
    busy.await.expect("a task").expect("the first job");
    // One more job: when it is done, the worker has passed over the abandoned one.
    let mut place = workers.reserve(Caller::default()).expect("a place");
    workers.run(&mut place, |_| Ok(())).await.expect("the last job");
    assert!(!ran.load(Ordering::SeqCst));
    workers.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_costs_its_own_job_alone() {
    let Some(shared) = common::shared("panic_costs_its_own_job_alone") else { return };
    let workers = one_worker(&shared, 4, true);
    let mut place = workers.reserve(Caller::default()).expect("a place");
    let failed = workers.run::<()>(&mut place, |_| panic!("a bad photo")).await;
    assert!(matches!(failed, Err(Error::Internal(_))));
    let photo = common::lfw_photo(&shared, "Ai_Sugiyama", 1);
    let detected =
        workers.run(&mut place, move |pipelines| pipelines.first().detect(&photo, &Default::default())).await;
    assert_eq!(detected.expect("the next job").faces.len(), 1);
    assert!(workers.are_alive());
    workers.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_worker_is_reported_and_refuses() {
    let Some(shared) = common::shared("dead_worker_is_reported_and_refuses") else { return };
    let workers = one_worker(&shared, 4, false);
    let mut place = workers.reserve(Caller::default()).expect("a place");
    assert!(workers.run::<()>(&mut place, |_| panic!("a bad photo")).await.is_err());
    workers.stop(); // waits for the thread, so that it has ended
    assert!(!workers.are_alive());
    assert!(matches!(workers.reserve(Caller::default()), Err(Error::Unavailable(_))));
    assert!(matches!(workers.run(&mut place, |_| Ok(())).await, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn place_beyond_the_queue_is_overloaded() {
    let Some(shared) = common::shared("place_beyond_the_queue_is_overloaded") else { return };
    let workers = one_worker(&shared, 2, true);
    // One at the worker and two who wait.
    let places: Vec<_> = (0..3).map(|_| workers.reserve(Caller::default()).expect("a place")).collect();
    let Err(Error::Overloaded { retry_after }) = workers.reserve(Caller::default()) else { panic!("no refusal") };
    assert!(!retry_after.is_zero());
    drop(places);
    assert!(workers.reserve(Caller::default()).is_ok());
    workers.stop();
}

/// A caller with many calls waiting does not hold up the next one, who is served in turn.
#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_in_turn() {
    let Some(shared) = common::shared("callers_are_served_in_turn") else { return };
    let workers = Arc::new(one_worker(&shared, 7, true));
    let caller = |port: u16| Caller(Some(std::net::SocketAddr::from(([127, 0, 0, 1], port))));
    let (release, released) = mpsc::channel::<()>();
    let mut first = workers.reserve(caller(1)).expect("a place");
    let (started, has_started) = tokio::sync::oneshot::channel();
    let mut jobs = tokio::task::JoinSet::new();
    let busy = Arc::clone(&workers);
    jobs.spawn(async move {
        let job = move |_: &mut Pipelines| {
            started.send(()).expect("the test waits");
            released.recv().expect("released");
            Ok(())
        };
        busy.run(&mut first, job).await
    });
    has_started.await.expect("the worker is busy");

    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    for port in [1, 1, 1, 1, 2, 2] {
        let mut place = workers.reserve(caller(port)).expect("a place");
        let (own, served, waiting) = (Arc::clone(&workers), Arc::clone(&served), workers.waiting());
        jobs.spawn(async move {
            let job = move |_: &mut Pipelines| {
                served.lock().expect("the lock").push(port);
                Ok(())
            };
            own.run(&mut place, job).await
        });
        // In the order in which they were asked for.
        while workers.waiting() == waiting {
            tokio::task::yield_now().await;
        }
    }
    release.send(()).expect("the worker waits");
    while let Some(done) = jobs.join_next().await {
        done.expect("a task").expect("a job");
    }
    assert_eq!(*served.lock().expect("the lock"), [1, 2, 1, 2, 1, 1]);
    workers.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_streams_wait_and_leave_places_to_calls() {
    let Some(shared) = common::shared("items_of_streams_wait_and_leave_places_to_calls") else { return };
    let workers = one_worker(&shared, 4, true);
    let first = workers.wait_for_place(Caller::default()).await.expect("a place");
    let _second = workers.wait_for_place(Caller::default()).await.expect("a place");
    let third = workers.wait_for_place(Caller::default());
    tokio::pin!(third);
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(third.as_mut().poll(context).is_pending())).await);
    let calls: Vec<_> = (0..6).map(|_| workers.reserve(Caller::default())).collect();
    assert_eq!(calls.iter().filter(|place| place.is_ok()).count(), 5, "the streams' places are none of theirs");
    assert!(matches!(calls[5], Err(Error::Overloaded { .. })));
    drop(first);
    drop(third.await.expect("the place that was given back"));
}
