//! Network outputs → face candidates. Which head a network has is told from its outputs.

use crate::biometrics::face::{Face, Landmarks, Point, Rectangle};
use crate::error::Error;

use super::{scrfd, yunet};

/// Strides of the three feature maps, in input pixels, in the order of the outputs.
pub(super) const STRIDES_PX: [usize; 3] = [8, 16, 32];

/// Name and last axis of a network output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// As the network has it.
    pub name: String,
    /// Size of the last axis, where it is fixed.
    pub last_axis: Option<usize>,
}

/// The kinds of detector heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// Sample and Computation Redistribution Face Detector (arXiv 2105.04714) with landmarks.
    Scrfd,
    /// YuNet (Machine Intelligence Research 2023), as OpenCV ships it.
    Yunet,
}

impl HeadKind {
    /// Returns the name used in manifests.
    pub fn name(self) -> &'static str {
        match self {
            HeadKind::Scrfd => "scrfd",
            HeadKind::Yunet => "yunet",
        }
    }
}

/// Positions of a head's outputs: for each kind of map one position a stride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(super) kind: HeadKind,
    /// SCRFD: score, box, points. YuNet: class, object, box, points.
    pub(super) maps: Vec<[usize; 3]>,
}

/// Where a map's values lie in the input: its size and what the photo was scaled by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Width of the input, in pixels.
    pub width_px: usize,
    /// Height of the input, in pixels.
    pub height_px: usize,
    /// Input pixels for one pixel of the photo, across.
    pub x_scale: f32,
    /// Input pixels for one pixel of the photo, down.
    pub y_scale: f32,
}

impl Head {
    /// Tells the head from a network's outputs: those of SCRFD by their last axes (1, 4, 10, three of each, in the
    /// order of the strides), YuNet's by their names. `None` where they are of neither.
    pub fn from_outputs(outputs: &[Output]) -> Option<Self> {
        if let Some(maps) = maps_by_name(outputs, &["cls", "obj", "bbox", "kps"]) {
            return Some(Self { kind: HeadKind::Yunet, maps });
        }
        let with_axis = |axis: usize| -> Option<[usize; 3]> {
            let positions = outputs.iter().enumerate().filter(|(_, output)| output.last_axis == Some(axis));
            positions.map(|(position, _)| position).collect::<Vec<_>>().try_into().ok()
        };
        let maps = maps_by_name(outputs, &["score", "bbox", "kps"])
            .or_else(|| Some(vec![with_axis(1)?, with_axis(4)?, with_axis(10)?]))?;
        Some(Self { kind: HeadKind::Scrfd, maps })
    }

    /// Returns the kind.
    pub fn kind(&self) -> HeadKind {
        self.kind
    }

    /// Decodes one run of the network into candidates in pixels of the photo, unsorted and unsuppressed.
    ///
    /// *Errors*: [`Error::Internal`] where an output has another length than its feature map.
    pub fn decode(&self, outputs: &[&[f32]], geometry: Geometry, score_min: f32) -> Result<Vec<Face>, Error> {
        let mut faces = Vec::new();
        for (level, stride) in STRIDES_PX.into_iter().enumerate() {
            let maps = self.maps.iter().filter_map(|positions| outputs.get(*positions.get(level)?).copied());
            let maps: Vec<&[f32]> = maps.collect();
            let (columns, rows) = (geometry.width_px / stride, geometry.height_px / stride);
            let grid = Grid { columns, rows, stride: stride as f32 };
            let found = match self.kind {
                HeadKind::Scrfd => scrfd::decode(&maps, grid, score_min),
                HeadKind::Yunet => yunet::decode(&maps, grid, score_min),
            };
            faces.extend(found.ok_or_else(|| Error::internal("detector output has an unexpected length"))?);
        }
        for face in &mut faces {
            scale_back(face, geometry);
        }
        // Scaled to a photo larger than the input, the largest numbers are none any more.
        faces.retain(is_finite);
        Ok(faces)
    }
}

/// One feature map.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub columns: usize,
    pub rows: usize,
    pub stride: f32,
}

impl Grid {
    /// Position of a cell: column and row.
    pub fn cell(self, index: usize) -> (f32, f32) {
        ((index % self.columns) as f32, (index / self.columns) as f32)
    }

    pub fn cells(self) -> usize {
        self.columns * self.rows
    }
}

/// Finds outputs named `KIND_STRIDE` for every kind and stride.
fn maps_by_name(outputs: &[Output], kinds: &[&str]) -> Option<Vec<[usize; 3]>> {
    let position =
        |kind: &str, stride: usize| outputs.iter().position(|output| output.name == format!("{kind}_{stride}"));
    kinds
        .iter()
        .map(|kind| {
            let positions: Option<Vec<usize>> = STRIDES_PX.iter().map(|stride| position(kind, *stride)).collect();
            positions?.try_into().ok()
        })
        .collect()
}

/// A network fed with nonsense may answer with it; no such face goes further.
fn is_finite(face: &Face) -> bool {
    let Rectangle { x_min_px, y_min_px, x_max_px, y_max_px } = face.rectangle;
    [x_min_px, y_min_px, x_max_px, y_max_px].iter().all(|v| v.is_finite())
        && face.landmarks.iter().all(|point| point.x_px.is_finite() && point.y_px.is_finite())
}

fn scale_back(face: &mut Face, Geometry { x_scale, y_scale, .. }: Geometry) {
    let Rectangle { x_min_px, y_min_px, x_max_px, y_max_px } = &mut face.rectangle;
    for (x, y) in [(x_min_px, y_min_px), (x_max_px, y_max_px)] {
        *x /= x_scale;
        *y /= y_scale;
    }
    for Point { x_px, y_px } in &mut face.landmarks {
        *x_px /= x_scale;
        *y_px /= y_scale;
    }
}

/// Reads five points relative to an anchor.
pub(super) fn landmarks_at(values: &[f32], x: f32, y: f32, stride: f32) -> Landmarks {
    let mut points = Landmarks::default();
    let (pairs, _) = values.as_chunks::<2>();
    for (point, [dx, dy]) in points.iter_mut().zip(pairs) {
        *point = Point { x_px: x + dx * stride, y_px: y + dy * stride };
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(names: &[(&str, usize)]) -> Vec<Output> {
        names.iter().map(|(name, axis)| Output { name: (*name).to_owned(), last_axis: Some(*axis) }).collect()
    }

    #[test]
    fn head_is_told_from_names_or_axes() {
        let plain = [1, 1, 1, 4, 4, 4, 10, 10, 10].map(|axis| ("out", axis));
        let head = Head::from_outputs(&outputs(&plain)).expect("scrfd");
        assert_eq!((head.kind, head.maps), (HeadKind::Scrfd, vec![[0, 1, 2], [3, 4, 5], [6, 7, 8]]));

        let shuffled = [
            ("kps_8", 10),
            ("kps_16", 10),
            ("kps_32", 10),
            ("score_32", 1),
            ("score_16", 1),
            ("score_8", 1),
            ("bbox_8", 4),
            ("bbox_16", 4),
            ("bbox_32", 4),
        ];
        let head = Head::from_outputs(&outputs(&shuffled)).expect("scrfd");
        assert_eq!(head.maps, vec![[5, 4, 3], [6, 7, 8], [0, 1, 2]]);
    }

    #[test]
    fn head_without_landmarks_is_none() {
        let six = [1, 1, 1, 4, 4, 4].map(|axis| ("out", axis));
        assert!(Head::from_outputs(&outputs(&six)).is_none());
        assert!(Head::from_outputs(&outputs(&[("embedding", 512)])).is_none());
    }

    fn scrfd_maps(width: usize, height: usize) -> Vec<Vec<f32>> {
        let cells = |stride: usize| (width / stride) * (height / stride);
        let sizes = [1, 4, 10].into_iter().flat_map(|axis| STRIDES_PX.map(|stride| cells(stride) * 2 * axis));
        sizes.map(|size| vec![0.0; size]).collect()
    }

    fn views(maps: &[Vec<f32>]) -> Vec<&[f32]> {
        maps.iter().map(Vec::as_slice).collect()
    }

    fn scrfd() -> Head {
        Head::from_outputs(&outputs(&[1, 1, 1, 4, 4, 4, 10, 10, 10].map(|axis| ("o", axis)))).expect("scrfd")
    }

    #[test]
    fn scrfd_candidate_is_decoded_at_its_anchor() -> Result<(), Error> {
        // Wider than high, higher than wide, and square.
        for (width_px, height_px) in [(64, 64), (96, 64), (64, 96)] {
            let mut maps = scrfd_maps(width_px, height_px);
            // Stride 16, two anchors a cell; cell (2, 1), second anchor.
            let row = (width_px / 16 + 2) * 2 + 1;
            maps[1][row] = 0.9;
            maps[4][row * 4..][..4].copy_from_slice(&[1.0, 0.5, 1.0, 1.5]);
            maps[7][row * 10..][..2].copy_from_slice(&[-0.5, 0.25]);
            let geometry = Geometry { width_px, height_px, x_scale: 2.0, y_scale: 4.0 };
            let faces = scrfd().decode(&views(&maps), geometry, 0.5)?;
            assert_eq!(faces.len(), 1);
            let Rectangle { x_min_px, y_min_px, x_max_px, y_max_px } = faces[0].rectangle;
            assert_eq!([x_min_px, y_min_px, x_max_px, y_max_px], [8.0, 2.0, 24.0, 10.0]);
            assert_eq!(faces[0].landmarks[0], Point { x_px: 12.0, y_px: 5.0 });
        }
        Ok(())
    }

    #[test]
    fn yunet_candidate_is_decoded_at_its_cell() -> Result<(), Error> {
        let names = ["cls", "obj", "bbox", "kps"].map(|kind| STRIDES_PX.map(|stride| format!("{kind}_{stride}")));
        let names: Vec<(&str, usize)> = names.iter().flatten().map(|name| (name.as_str(), 1)).collect();
        let head = Head::from_outputs(&outputs(&names)).expect("yunet");
        let (width_px, height_px) = (96, 64);
        let cells = STRIDES_PX.map(|stride| (width_px / stride) * (height_px / stride));
        let mut maps: Vec<Vec<f32>> =
            [1, 1, 4, 10].iter().flat_map(|axis| cells.map(|cells| vec![0.0; cells * axis])).collect();
        // Stride 32: the cell (1, 1) of 3 x 2.
        (maps[2][4], maps[5][4]) = (1.0, 1.0);
        let faces = head.decode(&views(&maps), Geometry { width_px, height_px, x_scale: 1.0, y_scale: 1.0 }, 0.5)?;
        assert_eq!(faces.len(), 1);
        let Rectangle { x_min_px, y_min_px, x_max_px, y_max_px } = faces[0].rectangle;
        assert_eq!([x_min_px, y_min_px, x_max_px, y_max_px], [16.0, 16.0, 48.0, 48.0]);
        Ok(())
    }

    #[test]
    fn decode_of_wrong_lengths_or_nonsense_never_yields_a_face() {
        let head = scrfd();
        let geometry = Geometry { width_px: 64, height_px: 32, x_scale: 1.0, y_scale: 1.0 };
        let mut maps = scrfd_maps(64, 32);
        for nonsense in [f32::NAN, f32::INFINITY] {
            maps.iter_mut().for_each(|map| map.fill(nonsense));
            assert_eq!(head.decode(&views(&maps), geometry, 0.5).expect("no candidate").len(), 0);
        }
        maps[3].pop();
        assert!(head.decode(&views(&maps), geometry, 0.5).is_err());
        assert!(head.decode(&[], geometry, 0.5).is_err());
    }
}
