//! The packs that are known by name: where their publishers have them, how large they are, and under which licence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::packs::PackName;

/// The catalogue that the program brings.
const OWN: &str = include_str!("../../models/catalogue.toml");

/// A catalogue, checked: every name is one, every pack's licence is there, every manifest can be read.
#[derive(Debug)]
pub struct Catalogue {
    /// The packs, in the order of the file.
    pub packs: Vec<Entry>,
}

/// A pack of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// By which it is asked for.
    pub name: PackName,
    /// What it is, in one line.
    pub about: String,
    /// On which terms its publisher gives it.
    pub licence: Licence,
    /// What its publisher has; empty where that is nothing that runs here.
    pub files: Vec<Published>,
    /// The manifest of files that come without one.
    pub manifest: Option<String>,
    /// What to do where nothing can be fetched.
    pub instead: Option<String>,
}

/// A file as its publisher has it: an archive of a pack, or a file of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Its name, without a path.
    pub file: String,
    /// Where it is, in the order in which that is tried.
    pub addresses: Vec<String>,
    /// Its size.
    pub bytes: u64,
    /// 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Whose word the checksum is.
    pub sha256_by: Option<Source>,
}

/// Whose word a checksum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The publisher states it.
    Publisher,
    /// The publisher states none; others that are independent of each other state this one.
    Others,
}

/// The terms of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// In one line.
    pub title: String,
    /// Whether they forbid a use that somebody may have in mind, so that they must be accepted.
    #[serde(default)]
    pub must_be_accepted: bool,
    /// In full, or where they are.
    pub text: String,
}

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no catalogue.
    #[error("{file}: {fault}")]
    Bad {
        /// The file.
        file: String,
        /// What is wrong with it.
        fault: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    licences: BTreeMap<String, Licence>,
    packs: Vec<WrittenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    name: String,
    about: String,
    licence: String,
    #[serde(default)]
    files: Vec<Published>,
    manifest: Option<String>,
    instead: Option<String>,
}

impl Catalogue {
    /// Reads a catalogue: a file, or the program's own.
    ///
    /// *Errors*: [`CatalogueError`], which names the file and the pack at fault.
    pub fn read(file: Option<&Path>) -> Result<Self, CatalogueError> {
        let Some(path) = file else { return Self::parse(OWN).map_err(|fault| bad("the program's catalogue", fault)) };
        let unreadable = |source| CatalogueError::Unreadable { path: path.to_path_buf(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|fault| bad(&path.display().to_string(), fault))
    }

    /// Finds a pack by its name.
    pub fn find(&self, name: &PackName) -> Option<&Entry> {
        self.packs.iter().find(|entry| entry.name == *name)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
        if written.format != 1 {
            return Err(format!("format is {}; this version reads format 1", written.format));
        }
        let (mut packs, mut names) = (Vec::new(), BTreeSet::new());
        for entry in written.packs {
            let name = entry.name.clone();
            let entry = entry.check(&written.licences).map_err(|fault| format!("pack {name:?}: {fault}"))?;
            if !names.insert(entry.name.clone()) {
                return Err(format!("pack {name:?} is there twice"));
            }
            packs.push(entry);
        }
        Ok(Self { packs })
    }
}

impl Entry {
    /// Returns the bytes of all its files as they are published.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl WrittenEntry {
    fn check(self, licences: &BTreeMap<String, Licence>) -> Result<Entry, String> {
        let name = PackName::parse(&self.name).map_err(|error| error.to_string())?;
        let licence = licences.get(&self.licence).ok_or_else(|| format!("there is no licence {:?}", self.licence))?;
        if self.files.is_empty() == self.instead.is_none() {
            return Err("expected either files, or instead: what to do where nothing can be fetched".to_owned());
        }
        for file in &self.files {
            file.check().map_err(|fault| format!("file {:?}: {fault}", file.file))?;
        }
        let archives = self.files.iter().filter(|file| file.is_archive()).count();
        if archives > 0 && self.files.len() > 1 {
            return Err("a pack is one archive, or files that are none".to_owned());
        }
        if let Some(manifest) = &self.manifest {
            Manifest::parse(manifest).map_err(|fault| format!("manifest: {fault}"))?;
        }
        let Self { about, files, manifest, instead, .. } = self;
        Ok(Entry { name, about, licence: licence.clone(), files, manifest, instead })
    }
}

impl Published {
    /// Tells whether it is to be unpacked.
    pub fn is_archive(&self) -> bool {
        self.file.ends_with(".zip")
    }

    fn check(&self) -> Result<(), String> {
        // The name becomes that of a file here, and the end of an address at a mirror.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.file.is_empty() || self.file.starts_with('.') || !self.file.bytes().all(plain) {
            return Err("expected a name of a-z, A-Z, 0-9, '-', '_' and '.'".to_owned());
        }
        if self.addresses.is_empty() || !self.addresses.iter().all(|address| is_address(address)) {
            return Err("expected addresses that start with https:// or http://".to_owned());
        }
        if let Some(sha256) = &self.sha256
            && (sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(format!("sha256 must be 64 hexadecimal digits, found {sha256:?}"));
        }
        if self.sha256.is_some() != self.sha256_by.is_some() {
            return Err("sha256 and sha256_by go together".to_owned());
        }
        Ok(())
    }
}

fn is_address(text: &str) -> bool {
    let address = text.parse::<http::Uri>().ok();
    address.is_some_and(|address| matches!(address.scheme_str(), Some("http" | "https")) && address.host().is_some())
}

fn bad(file: &str, fault: String) -> CatalogueError {
    CatalogueError::Bad { file: file.to_owned(), fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        format = 1
        [licences.free]
        title = "free"
        text = "do what you like"
        [[packs]]
        name = "one"
        about = "a pack"
        licence = "free"
        [[packs.files]]
        file = "one.zip"
        addresses = ["https://h/one.zip"]
        bytes = 5
    "#;

    #[test]
    fn catalogue_with_a_fault_names_it() {
        assert!(Catalogue::parse(GOOD).is_ok());
        let cases = [
            ("format = 1", "format = 2", "format"),
            ("name = \"one\"", "name = \"../one\"", "../one"),
            ("licence = \"free\"", "licence = \"none\"", "no licence \"none\""),
            ("file = \"one.zip\"", "file = \"a/one.zip\"", "a/one.zip"),
            ("https://h/one.zip", "ftp://h/one.zip", "https://"),
            ("bytes = 5", "bytes = 5\nsha256 = \"00\"\nsha256_by = \"others\"", "64 hexadecimal digits"),
            ("bytes = 5", "bytes = -5", "bytes"),
            ("about = \"a pack\"", "about = \"a pack\"\ninstead = \"do it\"", "either files, or instead"),
            ("about = \"a pack\"", "about = \"a pack\"\nmanifest = \"format = 1\"", "manifest"),
            ("bytes = 5", "bytes = 5\nsize = 5", "size"),
        ];
        for (from, to, named) in cases {
            let fault = Catalogue::parse(&GOOD.replace(from, to)).expect_err(to);
            assert!(fault.contains(named), "{to}: {fault}");
        }
        let twice = format!("{GOOD}{}", &GOOD[GOOD.find("[[packs]]").expect("packs")..]);
        assert!(Catalogue::parse(&twice).expect_err("twice").contains("twice"));
    }

    #[test]
    fn own_catalogue_is_whole() {
        let catalogue = Catalogue::read(None).expect("the program's catalogue");
        let names: Vec<&str> = catalogue.packs.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2", "sface", "edgeface"]);
        for entry in &catalogue.packs {
            assert_eq!(entry.licence.must_be_accepted, entry.licence.title.contains("non-commercial"));
            let Some(manifest) = entry.manifest.as_deref() else { continue };
            // What a manifest names is what is fetched.
            let manifest = Manifest::parse(manifest).expect("a manifest");
            let models =
                [&manifest.detector.model, &manifest.recognizer.model].map(|model| (&model.file, &model.sha256));
            let fetched: Vec<_> =
                entry.files.iter().map(|file| (&file.file, file.sha256.as_ref().expect("one"))).collect();
            assert_eq!(fetched, models);
        }
    }
}
