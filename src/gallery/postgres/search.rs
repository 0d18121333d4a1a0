//! Searches: the database proposes rows by their half-precision features, the engine scores them by the templates themselves.
//!
//! How it is complete: the product that the database computes differs from the score by less than [`slack`]. So once the best
//! `capacity` identities of what was proposed are known, whoever else could be among them has a product of at least the last
//! one's score less that; and all such rows are fetched. An index only proposes, and how many mates it misses is measured.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use pgvector::HalfVector;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connect::Fault;
use super::galleries::{Found, GraphState};
use super::records;
use super::schema::Tables;
use super::scope::{Parameters, condition};
use crate::biometrics::fusion::Fusion;
use crate::biometrics::ids::{IdentityId, TemplateId};
use crate::biometrics::score::Score;
use crate::biometrics::template::{Template, dot};
use crate::error::Error;
use crate::gallery::ranking::{Ranked, Ranking};
use crate::gallery::types::{Search, SearchOutcome, SearchPath};

/// Rows that are fetched at first, besides those that are asked for.
const ROWS_MORE: usize = 24;

/// Runs a statement that is prepared once a connection.
async fn rows(transaction: &Transaction<'_>, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.query(&statement, parameters).await?)
}

/// By how much a product of two unit vectors in half precision may differ from the score of them.
///
/// Rounding to 11 bits moves each value by a share of 2⁻¹¹ at most, and those below the smallest normal number by 2⁻²⁵: a unit
/// vector of length d by 2⁻¹¹ + √d 2⁻²⁵, by the triangle inequality. Both vectors are moved, and by Cauchy and Schwarz the product
/// by no more than the sum, a little more for the moved one's own length. Adding up d products in single precision, there and
/// here, costs at most d 2⁻²⁴ each.
pub(super) fn slack(dimension: usize) -> f32 {
    let dimension = dimension as f32;
    let moved = 2f32.powi(-11) + dimension.sqrt() * 2f32.powi(-25);
    2.002 * moved + 2.0 * dimension * 2f32.powi(-24)
}

/// Answers a search of a gallery. `path` is how rows are proposed.
pub(super) async fn search(
    transaction: &Transaction<'_>,
    found: &Found,
    search: &Search,
    path: SearchPath,
) -> Result<SearchOutcome, Fault> {
    let Found { tables, gallery, .. } = found;
    search.probe.check_fits(&gallery.pack_id, gallery.dimension)?;
    let identities = found.counts.identities;
    let searched = if search.scope.is_everyone() { identities } else { count(transaction, *tables, search).await? };
    let mut proposing =
        Proposing { found, search, path, ranking: Ranking::new(search.capacity), scored: BTreeSet::new() };
    proposing.run(transaction).await?;
    Ok(SearchOutcome { ranked: proposing.ranking.into_best_first(), identities, searched, path })
}

/// How rows of a search are proposed now.
pub(super) fn path(found: &Found, search: &Search) -> SearchPath {
    let is_exact = search.exact || !search.scope.is_everyone();
    match found.graph {
        Some(GraphState::Ready { .. }) if !is_exact => SearchPath::Graph,
        _ => SearchPath::Exact,
    }
}

/// Returns how many identities a scope leaves.
async fn count(transaction: &Transaction<'_>, tables: Tables, search: &Search) -> Result<u64, Fault> {
    let mut parameters = Parameters::default();
    let condition = condition(&search.scope, "i", &mut parameters).unwrap_or_else(|| "true".to_owned());
    let sql = format!("select count(*) from {} i where {condition}", tables.identity());
    let rows = rows(transaction, &sql, &parameters.all()).await?;
    let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(count.cast_unsigned())
}

/// Which rows are wanted.
enum Want {
    /// The nearest ones. A power of two, as the statement's text has it.
    Nearest(usize),
    /// All whose product is at least this.
    AtLeast(f64),
}

struct Proposing<'a> {
    found: &'a Found,
    search: &'a Search,
    path: SearchPath,
    ranking: Ranking,
    /// Rows that were scored: they are fetched again with others.
    scored: BTreeSet<(String, String)>,
}

impl Proposing<'_> {
    async fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let mut wanted = (self.search.capacity * 2 + ROWS_MORE).next_power_of_two();
        loop {
            let (fetched, last) = self.fetch(transaction, &Want::Nearest(wanted)).await?;
            if fetched < wanted {
                return Ok(());
            }
            let is_full = self.ranking.len() >= self.search.capacity;
            let bound = self.ranking.floor() - slack(self.found.gallery.dimension);
            if is_full && (self.path == SearchPath::Graph || last < bound) {
                return Ok(());
            }
            if is_full {
                // Many are nearly as good as the last one.
                self.fetch(transaction, &Want::AtLeast(f64::from(bound))).await?;
                return Ok(());
            }
            // Many rows are of few identities.
            wanted = wanted.saturating_mul(8);
        }
    }

    /// Scores the rows that are wanted. Returns how many came, and the least product of them.
    async fn fetch(&mut self, transaction: &Transaction<'_>, want: &Want) -> Result<(usize, f32), Fault> {
        let Found { tables, .. } = self.found;
        let (row, identity) = (tables.row(), tables.identity());
        let mut parameters = Parameters::default();
        let probe = parameters.add(HalfVector::from_f32_slice(self.search.probe.values()));
        let scope = condition(&self.search.scope, "s", &mut parameters);
        let scope = scope.map_or_else(String::new, |condition| {
            format!("where r.identity_id in (select s.id from {identity} s where {condition})")
        });
        // An index is for the bare operator: a sum is computed of every row.
        let (order, limit) = match (want, self.path) {
            (Want::Nearest(rows), SearchPath::Graph) => ("r.features <#> $1", Some(*rows)),
            (Want::Nearest(rows), SearchPath::Exact) => ("(r.features <#> $1) + 0", Some(*rows)),
            (Want::AtLeast(_), _) => ("(r.features <#> $1) + 0", None),
        };
        let bounded = match want {
            Want::AtLeast(least) => {
                let word = if scope.is_empty() { "where" } else { "and" };
                format!("{word} (r.features <#> $1) <= -({}::float8)", parameters.add(*least))
            }
            Want::Nearest(_) => String::new(),
        };
        let ends = limit.map_or_else(String::new, |rows| format!("order by {order} limit {rows}"));
        debug_assert_eq!(probe, "$1");
        let sql = format!(
            "select n.identity_id, n.template_id, -n.distance, i.record from (
                 select r.identity_id, r.template_id, {order} as distance from {row} r {scope} {bounded} {ends}
             ) n join {identity} i on i.id = n.identity_id"
        );
        let rows = rows(transaction, &sql, &parameters.all()).await?;
        let fetched = rows.len();
        let mut least = f32::INFINITY;
        let mut compared = Compared::new(self.found);
        for row in rows {
            let (identity, template): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let product: f64 = row.try_get(2)?;
            least = least.min(product as f32);
            if !self.scored.insert((identity.clone(), template.clone())) {
                continue;
            }
            match compared.score(&self.search.probe, identity, &template, row.try_get(3)?) {
                Ok(ranked) => self.ranking.show(&ranked.identity, &ranked.template, ranked.score),
                // The others are found all the same.
                Err(Error::DataLoss(what)) => {
                    tracing::error!(what, "an identity's record is damaged, and it is not searched")
                }
                Err(error) => return Err(Fault::Error(error)),
            }
        }
        Ok((fetched, least))
    }
}

/// The templates that identities are compared by, each record read once.
pub(super) struct Compared<'a> {
    found: &'a Found,
    known: HashMap<String, Vec<(TemplateId, Template)>>,
}

impl<'a> Compared<'a> {
    pub(super) fn new(found: &'a Found) -> Self {
        Self { found, known: HashMap::new() }
    }

    /// Scores a row by the record of its identity.
    ///
    /// *Errors*: [`Error::DataLoss`] where the record is damaged, or has no such template.
    fn score(&mut self, probe: &Template, identity: String, template: &str, record: &[u8]) -> Result<Ranked, Error> {
        let gallery = &self.found.gallery;
        let id = records::identity_id(&identity)?;
        let templates = match self.known.entry(identity) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let identity = records::identity(self.found.tables, id.clone(), record, gallery.dimension)?;
                place.insert(identity.compared_by(gallery.settings.fusion))
            }
        };
        let of_row = templates.iter().find(|(id, _)| id.as_str() == template);
        let (template, values) = of_row.ok_or(records::NO_TEMPLATE)?;
        let score = Score::from_cosine(dot(probe.values(), values.values()));
        Ok(Ranked { identity: id, template: template.clone(), score })
    }
}

/// Returns for each probe the best identity but `own`, ties by id, always searched exactly.
pub(super) async fn best_others(
    transaction: &Transaction<'_>,
    found: &Found,
    own: &IdentityId,
    probes: &[&Template],
) -> Result<Vec<Option<Ranked>>, Fault> {
    let mut best = Vec::with_capacity(probes.len());
    for probe in probes {
        let wanted = Search { probe: (*probe).clone(), capacity: 2, exact: true, scope: Default::default() };
        let outcome = search(transaction, found, &wanted, SearchPath::Exact).await?;
        best.push(outcome.ranked.into_iter().find(|ranked| ranked.identity != *own));
    }
    Ok(best)
}

/// The rows by which an identity is found, under a fusion rule: ids of templates, and their features.
pub(super) fn rows_of(identity: &crate::gallery::Identity, fusion: Fusion) -> Vec<(String, HalfVector)> {
    let compared = identity.compared_by(fusion).into_iter();
    compared.map(|(id, template)| (id.as_str().to_owned(), HalfVector::from_f32_slice(template.values()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::Synthetic;

    /// What the database computes, in single precision.
    fn product(a: &HalfVector, b: &HalfVector) -> f32 {
        a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a.to_f32() * b.to_f32()).sum()
    }

    #[test]
    fn product_in_half_precision_is_within_the_slack() {
        for dimension in [8, 128, 512, 2_048] {
            let (people, slack) = (Synthetic::new(5, dimension), slack(dimension));
            let mut worst = 0f32;
            for number in 0..200 {
                let (a, b) = (people.template(number, 0), people.template(number / 2, 1));
                let halves = [&a, &b].map(|values| HalfVector::from_f32_slice(values));
                worst = worst.max((product(&halves[0], &halves[1]) - dot(&a, &b)).abs());
            }
            assert!(worst < slack && slack < 2e-3, "{dimension}: {worst} of {slack}");
        }
        // The worst there is: all values rounded by half of the last bit, the same way.
        let value = 1.0 + 2f32.powi(-11) * 0.999;
        let values: Vec<f32> = vec![value / 16.0; 256];
        let length = dot(&values, &values).sqrt();
        let unit: Vec<f32> = values.iter().map(|value| value / length).collect();
        let half = HalfVector::from_f32_slice(&unit);
        assert!((product(&half, &half) - dot(&unit, &unit)).abs() < slack(256));
    }
}
