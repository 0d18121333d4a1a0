//! SCRFD's head: distances from an anchor to the four sides, offsets to five points, two anchors a cell.
//!
//! *Source*: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", arXiv 2105.04714; the
//! decoding is that of InsightFace's `scrfd.py`.

use crate::biometrics::face::{Face, Rectangle};

use super::head::{Grid, landmarks_at};

/// Anchors a cell, all at the cell's top left corner.
const ANCHORS: usize = 2;

/// Decodes one stride's maps: score `[n, 1]`, box `[n, 4]`, points `[n, 10]`. `None` where a length is wrong.
pub(super) fn decode(maps: &[&[f32]], grid: Grid, score_min: f32) -> Option<Vec<Face>> {
    let &[scores, boxes, points] = maps else { return None };
    let rows = grid.cells() * ANCHORS;
    if scores.len() != rows || boxes.len() != rows * 4 || points.len() != rows * 10 {
        return None;
    }
    let rows = scores.iter().zip(boxes.as_chunks::<4>().0).zip(points.as_chunks::<10>().0);
    let faces = rows.enumerate().filter(|(_, ((score, _), _))| **score >= score_min).map(
        |(row, ((score, [left, top, right, bottom]), points))| {
            let (column, line) = grid.cell(row / ANCHORS);
            let (x, y, stride) = (column * grid.stride, line * grid.stride, grid.stride);
            Face {
                rectangle: Rectangle {
                    x_min_px: x - left * stride,
                    y_min_px: y - top * stride,
                    x_max_px: x + right * stride,
                    y_max_px: y + bottom * stride,
                },
                detection_score: score.min(1.0),
                landmarks: landmarks_at(points, x, y, stride),
                quality: None,
            }
        },
    );
    Some(faces.collect())
}
