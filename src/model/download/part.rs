//! A download that is not whole yet: what has come, and by what the server tells whether it has the same file still.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What there is of a file, and a note beside it of what it is a part of.
pub(super) struct Part {
    file: File,
    pub bytes: u64,
    /// By which the server tells whether it has the same file still; without one nothing can be gone on with.
    pub validator: Option<String>,
    note: PathBuf,
    address: String,
}

#[derive(Deserialize, Serialize)]
struct Note {
    address: String,
    validator: String,
}

impl Part {
    /// Opens what there is of a file of an address, or begins anew.
    pub fn open(path: &Path, address: &str) -> std::io::Result<Self> {
        let mut note = path.as_os_str().to_owned();
        note.push(".note");
        let note = PathBuf::from(note);
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let written = std::fs::read_to_string(&note).ok().and_then(|text| toml::from_str::<Note>(&text).ok());
        let validator = written.filter(|note| note.address == address).map(|note| note.validator);
        let mut bytes = file.seek(SeekFrom::End(0))?;
        if validator.is_none() || bytes == 0 {
            file.set_len(0)?;
            bytes = file.seek(SeekFrom::Start(0))?;
        }
        let validator = validator.filter(|_| bytes > 0);
        Ok(Self { file, bytes, validator, note, address: address.to_owned() })
    }

    /// Begins anew, with the validator of what will come.
    pub fn restart(&mut self, validator: Option<String>) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.bytes = self.file.seek(SeekFrom::Start(0))?;
        let note = validator.map(|validator| Note { address: self.address.clone(), validator });
        match note.and_then(|note| toml::to_string(&note).ok()) {
            Some(text) => std::fs::write(&self.note, text),
            None => match std::fs::remove_file(&self.note) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_another_address_or_without_a_note_is_not_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let mut part = Part::open(&path, "http://h/1").expect("open");
        part.restart(Some("\"a\"".to_owned())).expect("restart");
        part.write(b"abc").expect("write");
        let same = Part::open(&path, "http://h/1").expect("open");
        assert_eq!((same.bytes, same.validator.as_deref()), (3, Some("\"a\"")));
        let other = Part::open(&path, "http://h/2").expect("open");
        assert_eq!((other.bytes, other.validator), (0, None));
        std::fs::write(&path, b"abc").expect("write");
        std::fs::remove_file(&other.note).expect("remove");
        assert_eq!(Part::open(&path, "http://h/1").expect("open").bytes, 0);
    }
}
