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
    database: Option<PostgresOptions>,
    password_file: Option<PathBuf>,
}

impl Values {
    pub(super) fn store(&mut self) -> Store {
        let stated = self.stated("store");
        let connections_max = self.number("store_connections_max", 2, CONNECTIONS_LIMIT);
        let statement_time_max =
            std::time::Duration::from_millis(self.number("call_time_max_ms", 1, super::TIME_LIMIT_MS));
        let (authority, password_file) = (self.path("store_tls_ca"), self.path("store_password_file"));
        let database = stated.and_then(|address| {
            if !PostgresOptions::is_address(&address) {
                self.faults.push(
                    "store must be postgres://USER@HOST/DATABASE, or empty for the folder that data names".to_owned(),
                );
                return None;
            }
            let mut options = PostgresOptions::new(&address);
            (options.authority, options.connections_max) = (authority, connections_max);
            options.statement_time_max = statement_time_max;
            if let Err(error) = options.check() {
                self.faults.push(error.to_string());
            }
            Some(options)
        });
        if database.is_none() && password_file.is_some() {
            self.faults.push("store_password_file is for a store in a database: state store too".to_owned());
        }
        Store { database, password_file }
    }
}

impl Config {
    /// Returns where the galleries are kept.
    ///
    /// *Errors*: [`ConfigError::NoPassword`] where the file that is to have one has none.
    pub fn store(&self) -> Result<StoreLocation, ConfigError> {
        let Some(options) = &self.store.database else { return Ok(StoreLocation::Folder(self.data.clone())) };
        let mut options = options.clone();
        if let Some(path) = &self.store.password_file {
            let text = std::fs::read_to_string(path).map(Zeroizing::new).ok();
            let password = text.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
            let password = password.filter(|password| !password.is_empty());
            let password = password.ok_or_else(|| ConfigError::NoPassword(path.clone()))?;
            options.password = Some(Zeroizing::new(password.to_owned()));
        }
        Ok(StoreLocation::Postgres(options))
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
        std::fs::write(&file, "\n").expect("write");
        assert!(config.store().is_err());
        for (flags, word) in [
            (vec![("store", "mysql://x")], "store must be postgres://"),
            (vec![("store", "postgres://ann@db/faces?sslmode=prefer")], "sslmode"),
            (vec![("store", "postgres://ann@db/faces?password=secret")], "password"),
            (vec![("store_password_file", "f")], "state store too"),
        ] {
            let fault = load(&flags, &[], "").expect_err("a fault").to_string();
            assert!(fault.contains(word) && !fault.contains("secret"), "{fault}");
        }
    }
}
