//! Settings of where the galleries are kept.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{Config, ConfigError, Values};
use crate::gallery::{PostgresOptions, StoreLocation};

/// Connections of one server to a database; a database takes a hundred by default.
const CONNECTIONS_LIMIT: usize = 1_000;

/// Where the galleries are kept, as it was stated.
#[derive(Clone, Debug)]
pub(super) struct Store {
    /// `None` is the data folder.
    database: Option<Database>,
    second: Option<Second>,
}

#[derive(Clone, Debug)]
enum Second {
    Folder(PathBuf),
    Database(Database),
}

#[derive(Clone, Debug)]
struct Database {
    options: PostgresOptions,
    password_file: Option<PathBuf>,
}

impl Values {
    pub(super) fn store(&mut self) -> Store {
        let connections_max = self.number("store_connections_max", 2, CONNECTIONS_LIMIT);
        let statement_time_max =
            std::time::Duration::from_millis(self.number("call_time_max_ms", 1, super::TIME_LIMIT_MS));
        let authority = self.path("store_tls_ca");
        let database = |values: &mut Self, address: &str, password_file: Option<PathBuf>| {
            let mut options = PostgresOptions::new(address);
            (options.authority, options.connections_max) = (authority.clone(), connections_max);
            options.statement_time_max = statement_time_max;
            if let Err(error) = options.check() {
                values.faults.push(error.to_string());
            }
            Database { options, password_file }
        };
        let (stated, password_file) = (self.stated("store"), self.path("store_password_file"));
        if stated.is_none() && password_file.is_some() {
            self.faults.push("store_password_file is for a store in a database: state store too".to_owned());
        }
        let first = stated.and_then(|address| {
            if PostgresOptions::is_address(&address) {
                return Some(database(self, &address, password_file));
            }
            self.faults.push(
                "store must be postgres://USER@HOST/DATABASE, or empty for the folder that data names".to_owned(),
            );
            None
        });
        let (stated, password_file) = (self.stated("second_store"), self.path("second_store_password_file"));
        let second = stated.and_then(|address| {
            if PostgresOptions::is_address(&address) {
                return Some(Second::Database(database(self, &address, password_file.clone())));
            }
            if address.contains("://") || !address.contains('/') {
                self.faults.push(
                    "second_store must be postgres://USER@HOST/DATABASE, or a folder, which has a slash in it"
                        .to_owned(),
                );
                return None;
            }
            Some(Second::Folder(PathBuf::from(address)))
        });
        if password_file.is_some() && !matches!(second, Some(Second::Database(_))) {
            self.faults.push(
                "second_store_password_file is for a second store in a database: state second_store too".to_owned(),
            );
        }
        Store { database: first, second }
    }
}

impl Database {
    fn location(&self) -> Result<StoreLocation, ConfigError> {
        let mut options = self.options.clone();
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path).map(Zeroizing::new).ok();
            let password = text.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
            let password = password.filter(|password| !password.is_empty());
            let password = password.ok_or_else(|| ConfigError::NoPassword(path.clone()))?;
            options.password = Some(Zeroizing::new(password.to_owned()));
        }
        Ok(StoreLocation::Postgres(options))
    }
}

impl Config {
    /// Returns where the galleries are kept.
    ///
    /// *Errors*: [`ConfigError::NoPassword`] where the file that is to have one has none.
    pub fn store(&self) -> Result<StoreLocation, ConfigError> {
        match &self.store.database {
            Some(database) => database.location(),
            None => Ok(StoreLocation::Folder(self.data.clone())),
        }
    }

    /// Returns the other place where galleries are kept.
    ///
    /// *Errors*: as [`Config::store`].
    pub fn second_store(&self) -> Result<Option<StoreLocation>, ConfigError> {
        match &self.store.second {
            Some(Second::Database(database)) => database.location().map(Some),
            Some(Second::Folder(folder)) => Ok(Some(StoreLocation::Folder(folder.clone()))),
            None => Ok(None),
        }
    }

    /// Tells whether the galleries are in a database.
    pub fn has_database(&self) -> bool {
        self.store.database.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use crate::gallery::StoreLocation;

    #[test]
    fn store_is_the_data_folder_or_a_database() {
        let config = load(&[], &[], "").expect("a config");
        assert!(matches!(config.store(), Ok(StoreLocation::Folder(_))));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "se cret\n").expect("write");
        let flags = [("store", "postgres://ann@db/faces"), ("store_password_file", file.to_str().expect("a path"))];
        let config = load(&flags, &[], "").expect("a config");
        let Ok(StoreLocation::Postgres(options)) = config.store() else { panic!("no database") };
        assert_eq!(options.password.expect("a password").as_str(), "se cret");
        assert!(matches!(config.second_store(), Ok(None)));
        let second = [("second_store", "postgres://ann@db/other"), ("second_store_password_file", flags[1].1)];
        let second = load(&second, &[], "").expect("a config");
        assert!(matches!(second.store(), Ok(StoreLocation::Folder(_))));
        let Ok(Some(StoreLocation::Postgres(options))) = second.second_store() else { panic!("no database") };
        assert_eq!(options.password.expect("a password").as_str(), "se cret");
        let second = load(&[("second_store", "./other")], &[], "").expect("a config");
        assert!(matches!(second.second_store(), Ok(Some(StoreLocation::Folder(_)))));
        std::fs::write(&file, "\n").expect("write");
        assert!(config.store().is_err());
        for (flags, word) in [
            (vec![("store", "mysql://x")], "store must be postgres://"),
            (vec![("store", "postgres://ann@db/faces?sslmode=prefer")], "sslmode"),
            (vec![("store", "postgres://ann@db/faces?password=secret")], "password"),
            (vec![("store_password_file", "f")], "state store too"),
            (vec![("second_store", "data2")], "second_store must be"),
            (vec![("second_store", "mysql://x/y")], "second_store must be"),
            (vec![("second_store", "./d"), ("second_store_password_file", "f")], "state second_store too"),
        ] {
            let fault = load(&flags, &[], "").expect_err("a fault").to_string();
            assert!(fault.contains(word) && !fault.contains("secret"), "{fault}");
        }
    }
}
