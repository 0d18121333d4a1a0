//! YuNet's head: centre offset and log size, offsets to five points, one anchor a cell.
//!
//! *Source*: Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20 (2023);
//! the decoding is that of OpenCV's `FaceDetectorYN`: score = sqrt(class · object).

use crate::biometrics::face::{Face, Rectangle};

use super::head::{Grid, landmarks_at};

/// Decodes one stride's maps: class `[n, 1]`, object `[n, 1]`, box `[n, 4]`, points `[n, 10]`. `None` where a length is
/// wrong.
pub(super) fn decode(maps: &[&[f32]], grid: Grid, score_min: f32) -> Option<Vec<Face>> {
    let &[classes, objects, boxes, points] = maps else { return None };
    let rows = grid.cells();
    if classes.len() != rows || objects.len() != rows || boxes.len() != rows * 4 || points.len() != rows * 10 {
        return None;
    }
    let scores =
        classes.iter().zip(objects).map(|(class, object)| (class.clamp(0.0, 1.0) * object.clamp(0.0, 1.0)).sqrt());
    let rows = scores.zip(boxes.as_chunks::<4>().0).zip(points.as_chunks::<10>().0);
    let faces = rows.enumerate().filter(|(_, ((score, _), _))| *score >= score_min).map(
        |(row, ((score, [dx, dy, log_width, log_height]), points))| {
            let (column, line) = grid.cell(row);
            let stride = grid.stride;
            let (x, y) = ((column + dx) * stride, (line + dy) * stride);
            let (half_width, half_height) = (log_width.exp() * stride / 2.0, log_height.exp() * stride / 2.0);
            Face {
                rectangle: Rectangle {
                    x_min_px: x - half_width,
                    y_min_px: y - half_height,
                    x_max_px: x + half_width,
                    y_max_px: y + half_height,
                },
                detection_score: score,
                landmarks: landmarks_at(points, column * stride, line * stride, stride),
                quality: None,
            }
        },
    );
    Some(faces.collect())
}
