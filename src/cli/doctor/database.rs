//! The database that keeps the galleries: whether it lets the server in, and can keep them. Nothing is written to it.

use super::Finding;
use crate::gallery::PostgresOptions;

const NAME: &str = "database";

pub(super) fn examine(options: &PostgresOptions) -> Finding {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Finding::fail(NAME, error.to_string(), "give the process a higher limit of open files"),
    };
    match runtime.block_on(options.examine()) {
        Ok(found) => Finding::ok(NAME, found),
        Err(error) => {
            // What the database itself says is the cause.
            let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
            let said: Vec<String> = causes.map(ToString::to_string).collect();
            let found = [&[error.to_string()], &said[..]].concat().join(": ");
            let mend = "docs/scaling.md says what it takes: PostgreSQL 16 with pgvector 0.8, a role that may make tables, and a way to it";
            Finding::fail(NAME, found, mend)
        }
    }
}
