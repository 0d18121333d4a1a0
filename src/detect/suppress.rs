//! Non-maximum suppression over the candidates of all scales at once.

use crate::biometrics::face::Face;

/// Candidates beyond this many, by score, are not looked at: suppression costs candidates × faces, and a photo made to
/// light up every anchor must not hang a worker. 1,000 faces in one photo is the field's extreme (WIDER FACE: 1,968
/// tiny ones in its worst); each has a handful of candidates.
const CANDIDATES_MAX: usize = 5_000;

/// Keeps the best of each group of overlapping candidates.
///
/// Greedy by falling score (equal scores: the earlier stays), like InsightFace's; the result is in that order.
pub fn suppress(mut candidates: Vec<Face>, iou_max: f32) -> Vec<Face> {
    candidates.sort_by(|a, b| b.detection_score.total_cmp(&a.detection_score));
    candidates.truncate(CANDIDATES_MAX);
    let mut kept: Vec<Face> = Vec::new();
    for candidate in candidates {
        if kept.iter().all(|face| face.rectangle.iou(&candidate.rectangle) <= iou_max) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::face::{Landmarks, Rectangle};

    fn face(x: f32, detection_score: f32) -> Face {
        let rectangle = Rectangle { x_min_px: x, y_min_px: 0.0, x_max_px: x + 10.0, y_max_px: 10.0 };
        Face { rectangle, detection_score, landmarks: Landmarks::default(), quality: None }
    }

    #[test]
    fn suppress_keeps_the_best_of_each_group_in_order_of_score() {
        let kept = suppress(vec![face(1.0, 0.6), face(0.0, 0.9), face(50.0, 0.7), face(2.0, 0.8)], 0.4);
        assert_eq!(kept.iter().map(|f| f.detection_score).collect::<Vec<_>>(), [0.9, 0.7]);
    }

    #[test]
    fn suppress_of_every_anchor_lit_is_bounded() {
        let lit = (0..20_000).map(|i| face(i as f32 * 20.0, 0.9)).collect();
        assert_eq!(suppress(lit, 0.4).len(), CANDIDATES_MAX);
    }
}
