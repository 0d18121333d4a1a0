//! The best identities of a search, while rows stream by.

use std::cmp::Ordering;

use crate::biometrics::ids::{IdentityId, TemplateId};
use crate::biometrics::score::Score;

/// A candidate.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Who.
    pub identity: IdentityId,
    /// The template that scored; where the gallery's fusion makes one of all, an id without a text.
    pub template: TemplateId,
    /// Its score: the identity's best.
    pub score: Score,
}

impl Ranked {
    /// Tells whether this one is ranked before another identity: by score, ties by id.
    pub(super) fn precedes(&self, other: &Ranked) -> bool {
        other.score.total_cmp(&self.score).then_with(|| self.identity.cmp(&other.identity)) == Ordering::Less
    }
}

/// Keeps the best `capacity` distinct identities of the rows it is shown; an identity scores by its best template.
///
/// The result does not depend on the order of the rows: scores only rise, so an identity pushed out by better ones
/// returns when its better template comes by, and ties are broken by id.
pub struct Ranking {
    best_first: Vec<Ranked>,
    capacity: usize,
}

impl Ranking {
    pub(super) fn new(capacity: usize) -> Self {
        Self { best_first: Vec::with_capacity(capacity.saturating_add(1)), capacity }
    }

    /// Returns the score below which a row cannot change the ranking: most rows end at this one comparison.
    pub(super) fn floor(&self) -> f32 {
        match self.best_first.last() {
            Some(last) if self.best_first.len() >= self.capacity => last.score.cosine(),
            _ => f32::NEG_INFINITY,
        }
    }

    pub(super) fn show(&mut self, identity: &IdentityId, template: &TemplateId, score: Score) {
        if let Some(at) = self.best_first.iter().position(|ranked| ranked.identity == *identity) {
            let known = self.best_first.get(at);
            // Of equal templates of one identity the smaller id is named, so that the answer is always the same.
            let better = known.is_some_and(|known| {
                score.total_cmp(&known.score).then_with(|| known.template.cmp(template)) == Ordering::Greater
            });
            if !better {
                return;
            }
            self.best_first.remove(at);
        }
        let ranked = Ranked { identity: identity.clone(), template: template.clone(), score };
        let at = self.best_first.partition_point(|other| other.precedes(&ranked));
        self.best_first.insert(at, ranked);
        self.best_first.truncate(self.capacity);
    }

    /// Returns how many identities are ranked.
    pub(super) fn len(&self) -> usize {
        self.best_first.len()
    }

    /// Takes in what a ranking of other rows found.
    pub(super) fn absorb(&mut self, other: Ranking) {
        other.best_first.iter().for_each(|ranked| self.show(&ranked.identity, &ranked.template, ranked.score));
    }

    /// Returns the identities, best first.
    pub fn into_best_first(self) -> Vec<Ranked> {
        self.best_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(ranking: &mut Ranking, identity: &str, template: &str, cosine: f32) {
        let identity = IdentityId::parse(identity).expect("an id");
        let template = TemplateId::parse(template).expect("an id");
        ranking.show(&identity, &template, Score::from_cosine(cosine));
    }

    fn names(ranking: Ranking) -> Vec<(String, String)> {
        let ranked = ranking.into_best_first().into_iter();
        ranked.map(|r| (r.identity.as_str().to_owned(), r.template.as_str().to_owned())).collect()
    }

    #[test]
    fn ranking_is_of_distinct_identities_whatever_the_order() {
        let rows = [("ann", "1", 0.3), ("bob", "1", 0.5), ("ann", "2", 0.9), ("cid", "1", 0.5), ("dan", "1", 0.1)];
        let mut orders = vec![rows.to_vec()];
        orders.push(rows.iter().rev().copied().collect());
        orders.push(vec![rows[4], rows[0], rows[3], rows[1], rows[2]]);
        for order in orders {
            let mut ranking = Ranking::new(2);
            order.iter().for_each(|(identity, template, cosine)| show(&mut ranking, identity, template, *cosine));
            let expected = [("ann", "2"), ("bob", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(names(ranking), expected);
        }
    }

    #[test]
    fn ranking_breaks_ties_by_id() {
        let mut ranking = Ranking::new(1);
        show(&mut ranking, "zoe", "1", 0.5);
        show(&mut ranking, "ann", "2", 0.5);
        show(&mut ranking, "ann", "1", 0.5);
        assert_eq!(names(ranking), [("ann".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn ranking_floor_is_the_last_score_once_full() {
        let mut ranking = Ranking::new(2);
        show(&mut ranking, "a", "1", 0.5);
        assert_eq!(ranking.floor(), f32::NEG_INFINITY);
        show(&mut ranking, "b", "1", 0.4);
        assert_eq!(ranking.floor(), 0.4);
    }
}
