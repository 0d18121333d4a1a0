//! The call that work is done for: what it holds, who makes it, and what is told of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::access::Access;
use super::codec::Named;
use crate::access::Principal;
use crate::error::Error;
use crate::runtime::{CallPermit, Caller, HeldPart};
use crate::telemetry::{Stage, StageTimes};

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// A call that was admitted. Its place is free again when the last piece of its work lets go of it.
pub(super) struct Call {
    permit: Mutex<CallPermit>,
    pub caller: Caller,
    access: Access,
    times: Mutex<StageTimes>,
}

impl Call {
    pub(super) fn new(permit: CallPermit, caller: Caller, access: Access) -> Arc<Self> {
        Arc::new(Self { permit: Mutex::new(permit), caller, access, times: Mutex::default() })
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.access.principal
    }

    pub(super) fn permit(&self) -> MutexGuard<'_, CallPermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn times(&self) -> StageTimes {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, change: impl FnOnce(&mut StageTimes)) {
        change(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Returns the call that this is part of. Work that cannot be stopped when its caller goes keeps it, and so its place.
pub(super) fn current() -> Option<Arc<Call>> {
    CALL.try_with(Arc::clone).ok()
}

/// Checks that the caller may ask for what a message of the call that this is part of names.
///
/// *Errors*: those of [`Access::check`].
pub(super) fn check_access(named: Named) -> Result<(), Error> {
    let checked = CALL.try_with(|call| call.access.check(named));
    checked.unwrap_or_else(|_| Err(Error::internal("a request was read outside of a call")))
}

/// Returns the call's principal, as far as it is asked about rights to what is not named in a message.
///
/// *Errors*: [`Error::Internal`] outside of a call.
pub(super) fn with_principal<T>(ask: impl FnOnce(&Principal) -> Result<T, Error>) -> Result<T, Error> {
    CALL.try_with(|call| ask(call.principal())).unwrap_or_else(|_| Err(Error::internal("work of no call")))
}

/// Returns who makes the call that this is part of.
pub(super) fn caller() -> Caller {
    CALL.try_with(|call| call.caller).unwrap_or_default()
}

/// Work that belongs to a call, wherever it runs.
pub(super) async fn within<T>(call: Option<Arc<Call>>, work: impl Future<Output = T>) -> T {
    match call {
        Some(call) => CALL.scope(call, work).await,
        None => work.await,
    }
}

/// Adds the times of work that was done for this call.
pub(super) fn merge_times(part: StageTimes) {
    // Work of no call has nobody to tell.
    let _ = CALL.try_with(|call| call.add(|times| times.merge(part)));
}

/// Times a stage that is waited for.
pub(super) async fn timed<T>(stage: Stage, work: impl Future<Output = T>) -> T {
    use tracing::Instrument;
    let began = Instant::now();
    let done = work.instrument(stage.span()).await;
    add_time(stage, began.elapsed());
    done
}

fn add_time(stage: Stage, time: Duration) {
    let mut times = StageTimes::default();
    times.add(stage, time);
    merge_times(times);
}

/// What the message that was just read takes of the server's bytes, until it is dropped.
pub(super) fn bytes_of_message() -> Option<HeldPart> {
    CALL.try_with(|call| call.permit().hand_over_bytes()).ok()
}
