//! The study's file: a pair of photos a line, and whether they show the same person.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail};

/// Which columns hold what.
#[derive(clap::Args, Clone)]
pub(in crate::cli) struct Columns {
    /// Column of one photo's path below the photos' folder
    #[arg(long, value_name = "NAME", default_value = "image1")]
    pub image1: String,
    /// Column of the other's
    #[arg(long, value_name = "NAME", default_value = "image2")]
    pub image2: String,
    /// Column of the label: 1 the same person, 0 two people
    #[arg(long, value_name = "NAME", default_value = "label")]
    pub label: String,
}

/// A row of the file. Photos are numbers, so that a file of ten million rows takes 160 MB.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Pair {
    pub line: u32,
    pub a: u32,
    pub b: u32,
    /// `None` where no label was asked for.
    pub is_mated: Option<bool>,
    /// The line of the same pair before this one.
    pub repeats: Option<std::num::NonZeroU32>,
}

/// A whole file.
pub(in crate::cli) struct Pairs {
    /// As the file names them, each once.
    pub photos: Vec<String>,
    /// Of each photo, the first line that names it.
    pub first_lines: Vec<u32>,
    pub rows: Vec<Pair>,
}

/// Faults that are told; more are counted.
const FAULTS_TOLD: usize = 10;

/// What is wrong with a file, by line.
#[derive(Default)]
pub(in crate::cli) struct Faults {
    told: Vec<String>,
    count: usize,
}

impl Faults {
    pub fn add(&mut self, line: u32, fault: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < FAULTS_TOLD {
            self.told.push(format!("line {line}: {}", fault()));
        }
    }

    /// *Errors*: all faults, where there are any.
    pub fn check(self, path: &Path) -> anyhow::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let more = self.count - self.told.len();
        let more = if more > 0 { format!("\n… and {more} more") } else { String::new() };
        bail!("{}: {}{more}", path.display(), self.told.join("\n"))
    }
}

/// Opens a file for reading. Its header names columns; a byte order mark is passed over.
pub(in crate::cli) fn reader(path: &Path) -> anyhow::Result<csv::Reader<std::fs::File>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Lines end with LF, and a CR before it is trimmed: read as an end of its own, it would put the next line's number off.
    let mut builder = csv::ReaderBuilder::new();
    let builder = builder.trim(csv::Trim::All).terminator(csv::Terminator::Any(b'\n')).buffer_capacity(1 << 16);
    Ok(builder.from_reader(file))
}

/// Finds a column.
///
/// *Errors*: there is none of this name, or several; what there is.
pub(in crate::cli) fn column(header: &csv::StringRecord, name: &str, path: &Path) -> anyhow::Result<usize> {
    let mut found = header.iter().enumerate().filter(|(_, title)| *title == name).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => {
            let columns: Vec<&str> = header.iter().collect();
            bail!("{}: line 1: no column {name:?}; the columns are {}", path.display(), columns.join(", "))
        }
        (Some(_), Some(_)) => bail!("{}: line 1: several columns {name:?}", path.display()),
    }
}

/// Reads pairs; with `labels`, whether each is mated.
///
/// *Errors*: every fault with its line, the first ten of them: a wrong header, a row of another length, no path, a label that
/// is not 0 or 1, a photo paired with itself, a pair that came before with another label.
pub(in crate::cli) fn read(path: &Path, columns: &Columns, labels: bool) -> anyhow::Result<Pairs> {
    let mut reader = reader(path)?;
    let cannot_read = || format!("cannot read {}", path.display());
    let header = reader.headers().with_context(cannot_read)?.clone();
    let (at_a, at_b) = (column(&header, &columns.image1, path)?, column(&header, &columns.image2, path)?);
    let at_label = labels.then(|| column(&header, &columns.label, path)).transpose()?;
    let mut pairs = Pairs { photos: Vec::new(), first_lines: Vec::new(), rows: Vec::new() };
    let (mut numbers, mut faults) = (HashMap::new(), Faults::default());
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                let line = error.position().map_or(0, |position| position.line() as u32);
                match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        faults.add(line, || format!("{len} fields where the header has {expected_len}"));
                    }
                    csv::ErrorKind::Utf8 { .. } => faults.add(line, || "not UTF-8".to_owned()),
                    _ => return Err(error).with_context(cannot_read),
                }
                continue;
            }
        }
        let line = record.position().map_or(0, |position| position.line() as u32);
        let field = |at: usize| record.get(at).unwrap_or_default();
        let is_mated = match at_label.map(field) {
            None => None,
            Some("0") => Some(false),
            Some("1") => Some(true),
            Some(other) => {
                faults.add(line, || format!("{} must be 0 or 1, found {other:?}", columns.label));
                continue;
            }
        };
        if field(at_a).is_empty() || field(at_b).is_empty() {
            faults.add(line, || "no photo named".to_owned());
            continue;
        }
        let [a, b] = [field(at_a), field(at_b)].map(|name| pairs.number(&mut numbers, name, line));
        if a == b && labels {
            faults.add(line, || "a photo paired with itself".to_owned());
        }
        pairs.rows.push(Pair { line, a, b, is_mated, repeats: None });
    }
    pairs.note_repeats(&mut faults);
    faults.check(path)?;
    anyhow::ensure!(!pairs.rows.is_empty(), "{}: no pairs below the header", path.display());
    Ok(pairs)
}

impl Pairs {
    fn number(&mut self, numbers: &mut HashMap<String, u32>, name: &str, line: u32) -> u32 {
        if let Some(number) = numbers.get(name) {
            return *number;
        }
        let number = self.photos.len() as u32;
        numbers.insert(name.to_owned(), number);
        self.photos.push(name.to_owned());
        self.first_lines.push(line);
        number
    }

    /// A pair that comes again tells nothing new; one that comes again with another label is a fault.
    fn note_repeats(&mut self, faults: &mut Faults) {
        let key = |row: &Pair| (row.a.min(row.b), row.a.max(row.b));
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        let rows = &self.rows;
        let of = |at: &u32| rows.get(*at as usize).map(|row| (key(row), row.line));
        order.sort_unstable_by_key(of);
        let mut repeats = Vec::new();
        for same in order.chunk_by(|a, b| of(a).map(|of| of.0) == of(b).map(|of| of.0)) {
            let mut rows = same.iter().filter_map(|at| Some((*at, rows.get(*at as usize)?)));
            let Some((_, first)) = rows.next() else { continue };
            for (at, row) in rows {
                if row.is_mated != first.is_mated {
                    faults.add(row.line, || format!("the pair of line {} again, with another label", first.line));
                }
                repeats.push((at, std::num::NonZeroU32::new(first.line)));
            }
        }
        for (at, line) in repeats {
            if let Some(row) = self.rows.get_mut(at as usize) {
                row.repeats = line;
            }
        }
    }

    /// Checks that every photo is there.
    ///
    /// *Errors*: the first ten that are not, by line.
    pub fn check_photos(&self, folder: &Path, path: &Path) -> anyhow::Result<()> {
        let mut faults = Faults::default();
        for (photo, line) in self.photos.iter().zip(&self.first_lines) {
            if !folder.join(photo).is_file() {
                faults.add(*line, || format!("no photo {}", folder.join(photo).display()));
            }
        }
        faults.check(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns { image1: "image1".into(), image2: "image2".into(), label: "label".into() }
    }

    fn read_text(text: &str) -> anyhow::Result<Pairs> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.csv");
        std::fs::write(&path, text).expect("write");
        read(&path, &columns(), true)
    }

    #[test]
    fn faults_are_told_with_their_lines() {
        for (text, expected) in [
            ("", "no column \"image1\""),
            ("image1,image2,same\na,b,1\n", "line 1: no column \"label\"; the columns are image1, image2, same"),
            ("image1,image2,label,label\na,b,1,1\n", "line 1: several columns \"label\""),
            ("image1,image2,label\n", "no pairs below the header"),
            ("image1,image2,label\na,b,1\na,c,yes\n", "line 3: label must be 0 or 1, found \"yes\""),
            ("image1,image2,label\na,b\n", "line 2: 2 fields where the header has 3"),
            ("image1,image2,label\na,,1\n", "line 2: no photo named"),
            ("image1,image2,label\na,a,1\n", "line 2: a photo paired with itself"),
            ("image1,image2,label\na,b,1\nc,d,0\nb,a,0\n", "line 4: the pair of line 2 again, with another label"),
        ] {
            let error = read_text(text).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let many = "image1,image2,label\n".to_owned() + &"a,b,2\n".repeat(25);
        let error = read_text(&many).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("line 2:") && error.contains("line 11:") && error.ends_with("… and 15 more"), "{error}");
    }

    #[test]
    fn rows_are_read_in_order_and_repeats_noted() {
        let pairs = read_text("\u{feff}label,image2, image1\n1,b,a\r\n0,\"c,d\",a\n1, a ,b\n").expect("pairs");
        assert_eq!(pairs.photos, ["a", "b", "c,d"]);
        let rows: Vec<_> =
            pairs.rows.iter().map(|row| (row.line, row.a, row.b, row.is_mated, row.repeats.map(u32::from))).collect();
        assert_eq!(rows, [(2, 0, 1, Some(true), None), (3, 0, 2, Some(false), None), (4, 1, 0, Some(true), Some(2))]);
    }
}
