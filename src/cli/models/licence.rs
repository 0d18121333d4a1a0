//! Nobody gets a pack without having seen a licence that forbids something.

use super::asked;
use crate::model::Licence;

/// Has a licence accepted where it must be: by the flag, or at the terminal.
///
/// *Errors*: the licence's text and what to do, where it is not accepted.
pub(super) fn accept(licence: &Licence, by_flag: bool) -> anyhow::Result<()> {
    if !licence.must_be_accepted || by_flag {
        return Ok(());
    }
    let Licence { title, text, .. } = licence;
    let text = text.trim();
    if asked(&format!("{title}\n{text}\nDo you accept this licence?"))? {
        return Ok(());
    }
    anyhow::bail!("the licence was not accepted; --accept-licence accepts it.\n{title}\n{text}")
}
