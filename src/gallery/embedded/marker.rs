//! A small file beside the store that says which store it is and what it must hold at least.
//!
//! sled takes a file that was cut short, or whose end is damaged, for one that ends there: it opens, with less in it, and says
//! nothing. The marker tells that apart from a new store.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "facematch.state";
const FIRST_LINE: &str = "facematch store 2";
const VERSION: u32 = 2;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// The store's own id, which the store has too.
    pub store_id: String,
    /// A write that was durable when the file was written.
    pub sequence: u64,
    /// The folder beside the file that holds the store.
    pub store_folder: String,
}

impl Marker {
    /// Returns where the marker of a store lies.
    pub(super) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }

    /// Reads the marker; `None` where there is none, or one that cannot be read: it is only ever replaced whole.
    pub(super) fn read(folder: &Path) -> std::io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(Self::path(folder)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = text.lines();
        let first = lines.next();
        let version = first.and_then(|line| line.strip_prefix("facematch store ")?.parse::<u32>().ok());
        if let Some(found) = version.filter(|found| *found > VERSION) {
            let newer = format!(
                "its {FILE_NAME} is of version {found}, and this version of facematch knows none above {VERSION}: a newer one wrote it"
            );
            return Err(std::io::Error::new(ErrorKind::InvalidData, newer));
        }
        let marker = (first == Some(FIRST_LINE)).then_some(()).and_then(|()| {
            let store_id = lines.next()?.strip_prefix("id ")?.to_owned();
            let sequence = lines.next()?.strip_prefix("sequence ")?.parse().ok()?;
            let store_folder = lines.next()?.strip_prefix("folder ")?.to_owned();
            Some(Self { store_id, sequence, store_folder })
        });
        marker.map(Some).ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, "it is not a marker"))
    }

    /// Replaces the marker durably: temporary name → fsync → rename → fsync of the folder.
    pub(super) fn write(&self, folder: &Path) -> std::io::Result<()> {
        let temporary = folder.join(format!("{FILE_NAME}.new"));
        let mut file = File::create(&temporary)?;
        let Self { store_id, sequence, store_folder } = self;
        writeln!(file, "{FIRST_LINE}\nid {store_id}\nsequence {sequence}\nfolder {store_folder}")?;
        file.sync_all()?;
        std::fs::rename(&temporary, Self::path(folder))?;
        File::open(folder)?.sync_all()
    }
}

/// Makes a data folder that its owner alone can look into, where there is none.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_comes_back_as_it_was_and_damage_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Marker::read(folder.path()).expect("no marker"), None);
        let marker = Marker { store_id: "0a1b".to_owned(), sequence: 42, store_folder: "store-1".to_owned() };
        marker.write(folder.path()).expect("written");
        assert_eq!(Marker::read(folder.path()).expect("read"), Some(marker));
        for text in
            ["", "x", "facematch store 2\nid 0a\nsequence 1\n", "facematch store 1\nid 0a\nsequence 1\nfolder s\n"]
        {
            std::fs::write(Marker::path(folder.path()), text).expect("written");
            assert!(Marker::read(folder.path()).is_err(), "{text:?}");
        }
        std::fs::write(Marker::path(folder.path()), "facematch store 3\nwhatever\n").expect("written");
        let error = Marker::read(folder.path()).expect_err("newer").to_string();
        assert!(error.contains("version 3") && error.contains("none above 2"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn folder_is_its_owners_alone() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("data");
        make_folder(&folder).expect("made");
        let mode = std::fs::metadata(&folder).expect("there").permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o700);
    }
}
