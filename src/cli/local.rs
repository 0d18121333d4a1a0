//! The models on this machine, for the commands that need no server.

use std::io::Read;
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

/// Larger files are no photos: a device or a disk image that was named by mistake must not fill the memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a photo's bytes.
pub(super) fn read_photo(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(cannot_read)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(cannot_read)?;
    anyhow::ensure!((bytes.len() as u64) < FILE_BYTES_MAX, "{} is larger than any photo", path.display());
    Ok(bytes)
}

/// Says what is wrong with a photo, and the reason that the contract gives it.
pub(super) fn photo_fault(path: &Path, error: Error) -> anyhow::Error {
    let reason = error.reason();
    // `{:#}`: with the decoder's own words, where it has any.
    anyhow::anyhow!("{}: {:#} ({reason})", path.display(), anyhow::Error::new(error))
}
