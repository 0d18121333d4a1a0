//! How a head is turned, from five points.

use super::face::{Landmarks, Point};

/// The angles of a head, in degrees, from −180 to 180; 0 looks into the camera.
///
/// They are an estimate from five points and a mean face: noses differ, and a smile, which lifts the corners of the mouth,
/// reads as looking down. Photos of LFW, most of them nearly frontal, have yaws of −18 to 16 and pitches of −14 to 20 (10th
/// to 90th percentile).
///
/// *Source* of the signs: ISO/IEC 19794-5. The head first nods, then turns, then tilts in the plane of the photo, so that
/// tilting the camera changes the roll alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    /// Positive looks to the person's own left: the right of the photo.
    pub yaw_degrees: f32,
    /// Positive looks down.
    pub pitch_degrees: f32,
    /// Positive tilts towards the person's own right shoulder: the left of the photo.
    pub roll_degrees: f32,
}

/// A mean face: five points to the right, down and towards the camera, in eye distances from the middle of the eyes.
///
/// *Source*: across and down `arcface_dst` of InsightFace (see `embed/align.rs`), made symmetric, so that the mean face of
/// a detector's landmarks looks into the camera; depths from MediaPipe's `canonical_face_model.obj`: the tip of the nose
/// (vertex 1) and the corner of the mouth (61) before the mean of an eye's corners and lids (33, 133, 145, 159).
const MEAN_FACE: [[f64; 3]; 5] =
    [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5714, 0.605], [-0.4140, 1.1545, 0.101], [0.4140, 1.1545, 0.101]];

impl Pose {
    /// Estimates the pose of a face. `None` where its points coincide, or are not finite.
    ///
    /// The camera is far away (weak perspective): the affine map of the mean face onto the points with the least sum of
    /// squared distances, and of that the nearest rotation and scale.
    pub fn of(landmarks: &Landmarks) -> Option<Self> {
        let [right, down] = rotation(&affine(landmarks))?;
        let roll = (-down[0]).atan2(right[0]);
        // Where the nose points, with the roll undone.
        let [towards_x, towards_y] = [right[2], down[2]];
        let towards_camera = right[0] * down[1] - right[1] * down[0];
        let (sin, cos) = roll.sin_cos();
        let (x, y) = (towards_x * cos - towards_y * sin, towards_x * sin + towards_y * cos);
        let degrees = |radians: f64| radians.to_degrees() as f32;
        let pose = Self {
            yaw_degrees: degrees(x.atan2(towards_camera)),
            pitch_degrees: degrees(y.clamp(-1.0, 1.0).asin()),
            roll_degrees: degrees(roll),
        };
        let is_finite = [pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees].iter().all(|angle| angle.is_finite());
        is_finite.then_some(pose)
    }
}

/// The least-squares map of the mean face onto the points, about their means: the row that gives x, and that of y.
fn affine(landmarks: &Landmarks) -> [[f64; 3]; 2] {
    let mean = |values: [f64; 5]| values.iter().sum::<f64>() / 5.0;
    let centred = |values: [f64; 5]| values.map(|value| value - mean(values));
    let across = MEAN_FACE.map(|point| point[0]);
    let (down, depth) = (centred(MEAN_FACE.map(|point| point[1])), centred(MEAN_FACE.map(|point| point[2])));
    let dot = |a: &[f64; 5], b: &[f64; 5]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // The mean face is symmetric, so what is across stands apart from what is down and deep.
    let (across_across, down_down, depth_depth) = (dot(&across, &across), dot(&down, &down), dot(&depth, &depth));
    let down_depth = dot(&down, &depth);
    let determinant = down_down * depth_depth - down_depth * down_depth;
    let row = |positions: [f64; 5]| {
        let positions = centred(positions);
        let (by_down, by_depth) = (dot(&down, &positions), dot(&depth, &positions));
        [
            dot(&across, &positions) / across_across,
            (depth_depth * by_down - down_depth * by_depth) / determinant,
            (down_down * by_depth - down_depth * by_down) / determinant,
        ]
    };
    [row(landmarks.map(|Point { x_px, .. }| f64::from(x_px))), row(landmarks.map(|Point { y_px, .. }| f64::from(y_px)))]
}

/// The first two rows of the rotation nearest to an affine map: its polar decomposition, (A·Aᵀ)^-½ · A, with the root of
/// a 2x2 matrix by Cayley and Hamilton. `None` where the map is nothing.
fn rotation([a, b]: &[[f64; 3]; 2]) -> Option<[[f64; 3]; 2]> {
    let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (aa, ab, bb) = (dot(a, a), dot(a, b), dot(b, b));
    let trace = aa + bb;
    if !trace.is_finite() || trace < 1e-12 {
        return None;
    }
    // Points in a line have no determinant; a little of one keeps their angles finite.
    let root = (aa * bb - ab * ab).max(0.0).sqrt().max(1e-6 * trace);
    let (s00, s01, s11) = (aa + root, ab, bb + root);
    let scale = (trace + 2.0 * root).sqrt() / (s00 * s11 - s01 * s01);
    let row = |p: f64, q: f64| std::array::from_fn(|at| scale * (p * pick(a, at) + q * pick(b, at)));
    Some([row(s11, -s01), row(-s01, s00)])
}

fn pick(row: &[f64; 3], at: usize) -> f64 {
    row.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Projects the mean face as a head of this pose, by rotations written out one after the other.
    fn projected(yaw: f64, pitch: f64, roll: f64) -> Landmarks {
        let turn = |(a, b): (f64, f64), degrees: f64| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            (a * cos + b * sin, b * cos - a * sin)
        };
        MEAN_FACE.map(|[x, y, z]| {
            let (y, z) = turn((y, z), pitch);
            let (x, z) = turn((x, z), yaw);
            let _ = z;
            let (x, y) = turn((x, y), roll);
            Point { x_px: (320.0 + 40.0 * x) as f32, y_px: (200.0 + 40.0 * y) as f32 }
        })
    }

    #[test]
    fn pose_of_points_that_coincide_is_none() {
        assert_eq!(Pose::of(&[Point { x_px: 5.0, y_px: 5.0 }; 5]), None);
        let mut broken = projected(0.0, 0.0, 0.0);
        broken[2].x_px = f32::NAN;
        assert_eq!(Pose::of(&broken), None);
    }

    #[test]
    fn pose_of_points_in_a_line_is_finite() {
        for slope in [0.0, 1.0, -3.0] {
            let line = [0.0f32, 20.0, 9.0, 4.0, 16.0].map(|x| Point { x_px: x, y_px: 50.0 + slope * x });
            let pose = Pose::of(&line).expect("a pose");
            assert!(pose.yaw_degrees.abs() <= 180.0 && pose.pitch_degrees.abs() <= 90.0, "{pose:?}");
            // Whatever the face's size.
            let larger = line.map(|Point { x_px, y_px }| Point { x_px: 32.0 * x_px, y_px: 32.0 * y_px });
            let larger = Pose::of(&larger).expect("a pose");
            assert!((larger.pitch_degrees - pose.pitch_degrees).abs() < 0.1, "{larger:?} {pose:?}");
        }
    }

    #[test]
    fn pose_of_a_projection_is_its_angles() {
        for yaw in [-75.0, -40.0, -10.0, 0.0, 25.0, 60.0] {
            for pitch in [-50.0, -20.0, 0.0, 15.0, 45.0] {
                for roll in [-170.0, -90.0, -30.0, 0.0, 20.0, 120.0] {
                    let pose = Pose::of(&projected(yaw, pitch, roll)).expect("a pose");
                    // Positions of 300 px in f32 carry 3e-5 px of 40: a few thousandths of a degree.
                    for (found, expected) in
                        [(pose.yaw_degrees, yaw), (pose.pitch_degrees, pitch), (pose.roll_degrees, roll)]
                    {
                        assert!((f64::from(found) - expected).abs() < 0.02, "{pose:?} of {yaw} {pitch} {roll}");
                    }
                }
            }
        }
    }

    #[test]
    fn pose_has_the_signs_of_the_standard() {
        let frontal = projected(0.0, 0.0, 0.0);
        let nose_moved = |x: f32, y: f32| {
            let mut moved = frontal;
            moved[2] = Point { x_px: moved[2].x_px + x, y_px: moved[2].y_px + y };
            Pose::of(&moved).expect("a pose")
        };
        assert!(nose_moved(6.0, 0.0).yaw_degrees > 5.0, "to the right of the photo: the person's left");
        assert!(nose_moved(0.0, 6.0).pitch_degrees > 5.0, "down");
        let mut tilted = frontal;
        tilted[0].y_px += 8.0;
        assert!(Pose::of(&tilted).expect("a pose").roll_degrees > 3.0, "the eye further left lies lower");
    }
}
