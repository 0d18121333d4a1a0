//! The models on this machine, for the commands that need no server.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use crate::config::Config;
use crate::error::Error;
use crate::model::Pack;
use crate::pipeline::Pipeline;

/// Loads the pack of the settings and opens its networks.
pub(super) fn open(config: &Config) -> anyhow::Result<(Arc<Pack>, Pipeline)> {
    let pack = Arc::new(Pack::load(&config.pack_source()?).context("cannot load the model pack")?);
    let pipeline = Pipeline::open(Arc::clone(&pack), config.photo).context("cannot open the model pack's networks")?;
    Ok((pack, pipeline))
}

/// Reads a photo's bytes.
pub(super) fn read_photo(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Says what is wrong with a photo, and the reason that the contract gives it.
pub(super) fn photo_fault(path: &Path, error: Error) -> anyhow::Error {
    let reason = error.reason();
    // `{:#}`: with the decoder's own words, where it has any.
    anyhow::anyhow!("{}: {:#} ({reason})", path.display(), anyhow::Error::new(error))
}
