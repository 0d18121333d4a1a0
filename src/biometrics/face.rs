//! Faces as a detector reports them, and the rule that picks one of several.

use std::cmp::Ordering;

use super::quality::FaceQuality;

/// A point in the upright photo, in pixels; the origin is the top left corner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Grows to the right.
    pub x_px: f32,
    /// Grows downwards.
    pub y_px: f32,
}

impl Point {
    /// Returns the distance to another point, in pixels.
    pub fn distance_px(self, other: Point) -> f32 {
        (self.x_px - other.x_px).hypot(self.y_px - other.y_px)
    }
}

/// A rectangle in the upright photo, in pixels. It may reach beyond the border.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rectangle {
    /// Left edge.
    pub x_min_px: f32,
    /// Top edge.
    pub y_min_px: f32,
    /// Right edge.
    pub x_max_px: f32,
    /// Bottom edge.
    pub y_max_px: f32,
}

impl Rectangle {
    /// Returns width and height, in pixels, of the part that lies within a photo; 0 where none does.
    pub fn visible_sides_px(&self, width_px: u32, height_px: u32) -> (f32, f32) {
        let side = |min: f32, max: f32, limit: u32| (max.min(limit as f32) - min.max(0.0)).max(0.0);
        (side(self.x_min_px, self.x_max_px, width_px), side(self.y_min_px, self.y_max_px, height_px))
    }

    /// Returns the area, in square pixels, of the part that lies within a photo; 0 where none does.
    pub fn visible_area_px(&self, width_px: u32, height_px: u32) -> f32 {
        let (width, height) = self.visible_sides_px(width_px, height_px);
        width * height
    }

    /// Returns the centre.
    pub fn center(&self) -> Point {
        Point { x_px: (self.x_min_px + self.x_max_px) / 2.0, y_px: (self.y_min_px + self.y_max_px) / 2.0 }
    }

    /// Returns intersection over union, from 0 to 1, with InsightFace's convention that an edge pixel belongs to the
    /// box (sides are `max − min + 1`), so that suppression decides as InsightFace's does.
    pub fn iou(&self, other: &Rectangle) -> f32 {
        let side = |min: f32, max: f32| (max - min + 1.0).max(0.0);
        let area = |r: &Rectangle| side(r.x_min_px, r.x_max_px) * side(r.y_min_px, r.y_max_px);
        let intersection = side(self.x_min_px.max(other.x_min_px), self.x_max_px.min(other.x_max_px))
            * side(self.y_min_px.max(other.y_min_px), self.y_max_px.min(other.y_max_px));
        intersection / (area(self) + area(other) - intersection)
    }
}

/// Five points: the eye further left in the photo, the eye further right, the tip of the nose, the corner of the mouth
/// further left, the corner further right.
pub type Landmarks = [Point; 5];

/// A face found in a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Face {
    /// Where the face is.
    pub rectangle: Rectangle,
    /// The detector's score, from 0 to 1; nothing about identity.
    pub detection_score: f32,
    /// The five points.
    pub landmarks: Landmarks,
    /// What was measured of it in its photo. `None` before that, of a face whose landmarks coincide, and of faces that were
    /// stored before there were measures.
    pub quality: Option<FaceQuality>,
}

impl Face {
    /// Returns the distance between the eye points, in pixels of the photo.
    pub fn eye_distance_px(&self) -> f32 {
        let [left, right, ..] = self.landmarks;
        left.distance_px(right)
    }
}

/// Which of several faces in a photo is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaceSelection {
    /// The face with the largest box, as far as it lies within the photo; of equals the one with the higher detection
    /// score.
    ///
    /// Detectors guess the whole box of a face that the border cuts off. Taken at its guessed size such a bystander won
    /// over the person in the middle in 10 of 500 mated pairs of LFW; at its visible size, in one.
    #[default]
    Largest,
    /// The face whose centre is nearest to the photo's.
    Center,
    /// The only face; several are a refusal.
    ExactlyOne,
    /// Every face.
    All,
}

/// Why no face of a photo could be chosen: a failure to acquire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChosen {
    /// The detector found nothing.
    #[error("no face was found in the photo")]
    NoFace,
    /// Exactly one face was required.
    #[error("{found} faces were found where exactly one is required")]
    SeveralFaces {
        /// How many there are.
        found: usize,
    },
}

impl NotChosen {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            NotChosen::NoFace => "NO_FACE",
            NotChosen::SeveralFaces { .. } => "SEVERAL_FACES",
        }
    }
}

impl FaceSelection {
    /// Returns the positions of the chosen faces.
    ///
    /// *Errors*: [`NotChosen`] where the rule finds none, or several where it wants one.
    pub fn choose(self, faces: &[Face], width_px: u32, height_px: u32) -> Result<Vec<usize>, NotChosen> {
        if faces.is_empty() {
            return Err(NotChosen::NoFace);
        }
        let photo_center = Point { x_px: width_px as f32 / 2.0, y_px: height_px as f32 / 2.0 };
        let best = |better: &dyn Fn(&Face, &Face) -> Ordering| {
            let mut indexed: Vec<(usize, &Face)> = faces.iter().enumerate().collect();
            // Stable, and faces come by falling detection score: of equals the higher score wins.
            indexed.sort_by(|(_, a), (_, b)| better(a, b));
            indexed.first().map(|(index, _)| vec![*index]).ok_or(NotChosen::NoFace)
        };
        match self {
            FaceSelection::Largest => best(&|a, b| {
                let area = |face: &Face| face.rectangle.visible_area_px(width_px, height_px);
                area(b).total_cmp(&area(a))
            }),
            FaceSelection::Center => best(&|a, b| {
                let distance = |face: &Face| face.rectangle.center().distance_px(photo_center);
                distance(a).total_cmp(&distance(b))
            }),
            FaceSelection::ExactlyOne if faces.len() > 1 => Err(NotChosen::SeveralFaces { found: faces.len() }),
            FaceSelection::ExactlyOne | FaceSelection::All => Ok((0..faces.len()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, side: f32, detection_score: f32) -> Face {
        let rectangle = Rectangle { x_min_px: x, y_min_px: 0.0, x_max_px: x + side, y_max_px: side };
        Face { rectangle, detection_score, landmarks: Landmarks::default(), quality: None }
    }

    #[test]
    fn choose_without_a_face_is_no_face() {
        for rule in [FaceSelection::Largest, FaceSelection::Center, FaceSelection::ExactlyOne, FaceSelection::All] {
            assert_eq!(rule.choose(&[], 10, 10), Err(NotChosen::NoFace));
        }
    }

    #[test]
    fn choose_follows_the_rule() {
        let faces = [face(0.0, 10.0, 0.9), face(40.0, 20.0, 0.8), face(80.0, 20.0, 0.7)];
        assert_eq!(FaceSelection::Largest.choose(&faces, 100, 20), Ok(vec![1]));
        assert_eq!(FaceSelection::Center.choose(&faces, 100, 20), Ok(vec![1]));
        assert_eq!(FaceSelection::Center.choose(&faces, 200, 20), Ok(vec![2]));
        assert_eq!(FaceSelection::All.choose(&faces, 100, 20), Ok(vec![0, 1, 2]));
        assert_eq!(FaceSelection::ExactlyOne.choose(&faces, 100, 20), Err(NotChosen::SeveralFaces { found: 3 }));
        assert_eq!(FaceSelection::ExactlyOne.choose(&faces[..1], 100, 20), Ok(vec![0]));
    }

    #[test]
    fn center_lies_between_the_sides() {
        let rectangle = Rectangle { x_min_px: 10.0, y_min_px: -4.0, x_max_px: 16.0, y_max_px: 20.0 };
        assert_eq!(rectangle.center(), Point { x_px: 13.0, y_px: 8.0 });
    }

    #[test]
    fn choose_largest_counts_only_what_the_photo_shows() {
        // Cut off on the left: 60 px wide as guessed, 25 px wide as seen.
        let (cut_off, whole) = (face(-35.0, 60.0, 0.9), face(40.0, 50.0, 0.8));
        assert_eq!(FaceSelection::Largest.choose(&[cut_off, whole], 100, 60), Ok(vec![1]));
        let outside = Rectangle { x_min_px: -9.0, y_min_px: 0.0, x_max_px: -1.0, y_max_px: 5.0 };
        assert_eq!(outside.visible_area_px(100, 60), 0.0);
    }

    #[test]
    fn iou_counts_edge_pixels() {
        let square = |x: f32| Rectangle { x_min_px: x, y_min_px: 0.0, x_max_px: x + 9.0, y_max_px: 9.0 };
        assert_eq!(square(0.0).iou(&square(0.0)), 1.0);
        assert_eq!(square(0.0).iou(&square(20.0)), 0.0);
        // Ten columns each, five shared: 50 of 150 pixels.
        assert!((square(0.0).iou(&square(5.0)) - 1.0 / 3.0).abs() < 1e-6);
    }
}
