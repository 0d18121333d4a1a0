//! Folders of people, and what a metadata file says of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::pairs::{Faults, column, reader};
use crate::biometrics::calibration::NO_GROUP;
use crate::cli::enroll::is_photo;

/// Lists DIR/NAME/PHOTO as NAME/PHOTO, in order: photos of a person one after the other.
///
/// *Errors*: a folder cannot be read; there is no photo.
pub(super) fn photos_of_people(folder: &Path) -> anyhow::Result<Vec<String>> {
    let list = |path: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let cannot_read = || format!("cannot read {}", path.display());
        let entries = std::fs::read_dir(path).with_context(cannot_read)?;
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(cannot_read)?;
        paths.sort();
        Ok(paths)
    };
    let mut photos = Vec::new();
    for person in list(folder)?.into_iter().filter(|path| path.is_dir()) {
        let is_one =
            |path: &PathBuf| path.is_file() && path.file_name().is_some_and(|name| is_photo(&name.to_string_lossy()));
        for photo in list(&person)?.into_iter().filter(is_one) {
            let name = photo.strip_prefix(folder).unwrap_or(&photo);
            let name = name.to_str().with_context(|| format!("{} is not UTF-8", photo.display()))?;
            photos.push(name.to_owned());
        }
    }
    anyhow::ensure!(!photos.is_empty(), "{}: no photo in any folder of it", folder.display());
    Ok(photos)
}

/// The folder that a photo is in, as it is named.
pub(super) fn folder_of(photo: &str) -> Option<&str> {
    photo.rsplit_once('/').map(|(folder, _)| folder).filter(|folder| !folder.is_empty())
}

/// Groups of photos, one grouping a column.
#[derive(Default)]
pub(super) struct Groups {
    pub columns: Vec<String>,
    /// Of each column, the groups' names.
    pub names: Vec<Vec<String>>,
    /// Of each column, of each photo, its group; [`NO_GROUP`]: none.
    pub of_photo: Vec<Vec<u32>>,
}

/// Groups of a column at most: each takes memory of its own.
const GROUPS_MAX: usize = 50;

/// Reads who is in which group: a file with a column `photo` (as photos are named here) or `identity` (their folders), and
/// the columns asked for. An empty field is no group.
///
/// *Errors*: by line: a key that comes twice, a photo or identity that is not there; a column with too many groups.
pub(super) fn read_groups(path: &Path, columns: &[String], photos: &[String]) -> anyhow::Result<Groups> {
    let mut reader = reader(path)?;
    let header = reader.headers().with_context(|| format!("cannot read {}", path.display()))?.clone();
    let is_by_photo = header.iter().any(|title| title == "photo");
    let key = column(&header, if is_by_photo { "photo" } else { "identity" }, path)?;
    let places: Vec<usize> = columns.iter().map(|name| column(&header, name, path)).collect::<anyhow::Result<_>>()?;
    let mut photos_of: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, photo) in photos.iter().enumerate() {
        let name = if is_by_photo { Some(photo.as_str()) } else { folder_of(photo) };
        if let Some(name) = name {
            photos_of.entry(name).or_default().push(number);
        }
    }
    let mut groups = Groups {
        columns: columns.to_vec(),
        names: vec![Vec::new(); columns.len()],
        of_photo: vec![vec![NO_GROUP; photos.len()]; columns.len()],
    };
    let (mut faults, mut seen) = (Faults::default(), HashMap::<String, u32>::new());
    for record in reader.records() {
        let record = record.with_context(|| format!("cannot read {}", path.display()))?;
        let line = record.position().map_or(0, |position| position.line() as u32);
        let name = record.get(key).unwrap_or_default();
        if let Some(before) = seen.insert(name.to_owned(), line) {
            faults.add(line, || format!("{name:?} again, as on line {before}"));
        }
        let Some(of_photos) = photos_of.get(name) else {
            faults.add(line, || format!("no photo of {name:?} is compared"));
            continue;
        };
        for ((place, names), of_photo) in places.iter().zip(&mut groups.names).zip(&mut groups.of_photo) {
            let group = record.get(*place).unwrap_or_default();
            if group.is_empty() {
                continue;
            }
            let number = names.iter().position(|known| known == group).unwrap_or_else(|| {
                names.push(group.to_owned());
                names.len() - 1
            });
            for photo in of_photos {
                if let Some(of) = of_photo.get_mut(*photo) {
                    *of = number as u32;
                }
            }
        }
        for (names, column) in groups.names.iter().zip(columns) {
            anyhow::ensure!(
                names.len() <= GROUPS_MAX,
                "{}: line {line}: column {column:?} has more than {GROUPS_MAX} groups",
                path.display()
            );
        }
    }
    faults.check(path)?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> anyhow::Result<Groups> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metadata.csv");
        std::fs::write(&path, text).expect("write");
        let photos = ["a/1.jpg", "a/2.jpg", "b/1.jpg"].map(str::to_owned);
        read_groups(&path, &["age".to_owned()], &photos)
    }

    #[test]
    fn groups_are_of_photos_or_of_their_folders() {
        let by_identity = groups("identity,age\na,old\nb,young\n").expect("groups");
        assert_eq!(
            (by_identity.names, by_identity.of_photo),
            (vec![vec!["old".into(), "young".into()]], vec![vec![0, 0, 1]])
        );
        let by_photo = groups("age,photo\n,a/1.jpg\nold,a/2.jpg\n").expect("groups");
        assert_eq!(by_photo.of_photo, [[NO_GROUP, 0, NO_GROUP]]);
    }

    #[test]
    fn faults_of_metadata_are_told_with_their_lines() {
        for (text, expected) in [
            ("identity,sex\na,f\n", "no column \"age\""),
            ("name,age\na,old\n", "no column \"identity\""),
            ("identity,age\na,old\na,old\n", "line 3: \"a\" again, as on line 2"),
            ("identity,age\nc,old\n", "line 2: no photo of \"c\" is compared"),
        ] {
            let error = groups(text).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
