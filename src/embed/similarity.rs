//! The similarity transform between two sets of five points.

use crate::biometrics::face::{Landmarks, Point};

/// Rotation, uniform scale and shift: `(x, y) ↦ (a·x − b·y + tx, b·x + a·y + ty)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    a: f64,
    b: f64,
    tx: f64,
    ty: f64,
}

impl Similarity {
    /// Fits the transform that carries `from` onto `to` with the least sum of squared distances. `None` where the
    /// points of either side coincide, or are not finite.
    ///
    /// *Source*: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", IEEE TPAMI
    /// 13 (1991), eqs. 40-42. In the plane, with points as complex numbers about their means, its singular value
    /// decomposition comes down to one complex quotient: Σ conj(from)·to / Σ |from|². A reflection is never fitted.
    pub fn fit(from: &Landmarks, to: &Landmarks) -> Option<Self> {
        let (from_mean, to_mean) = (mean(from), mean(to));
        let (mut real, mut imaginary, mut spread) = (0.0, 0.0, 0.0);
        for (p, q) in from.iter().zip(to) {
            let (px, py) = (f64::from(p.x_px) - from_mean.0, f64::from(p.y_px) - from_mean.1);
            let (qx, qy) = (f64::from(q.x_px) - to_mean.0, f64::from(q.y_px) - to_mean.1);
            real += px * qx + py * qy;
            imaginary += px * qy - py * qx;
            spread += px * px + py * py;
        }
        let (a, b) = (real / spread, imaginary / spread);
        let fitted = Self {
            a,
            b,
            tx: to_mean.0 - (a * from_mean.0 - b * from_mean.1),
            ty: to_mean.1 - (b * from_mean.0 + a * from_mean.1),
        };
        // A spread or a scale of zero, or points that are not finite, end here.
        let usable = a.hypot(b) > 1e-9 && fitted.tx.is_finite() && fitted.ty.is_finite();
        usable.then_some(fitted)
    }

    /// Returns the opposite transform.
    pub fn inverse(&self) -> Self {
        let scale_squared = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / scale_squared, -self.b / scale_squared);
        Self { a, b, tx: -(a * self.tx - b * self.ty), ty: -(b * self.tx + a * self.ty) }
    }

    /// Carries a point over.
    pub fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        (self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty)
    }
}

fn mean(points: &[Point; 5]) -> (f64, f64) {
    let sum = points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + f64::from(p.x_px), sum.1 + f64::from(p.y_px)));
    (sum.0 / 5.0, sum.1 / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: [(f32, f32); 5]) -> Landmarks {
        values.map(|(x_px, y_px)| Point { x_px, y_px })
    }

    const FACE: [(f32, f32); 5] = [(30.0, 50.0), (70.0, 52.0), (51.0, 70.0), (35.0, 90.0), (66.0, 91.0)];

    #[test]
    fn fit_finds_rotation_scale_and_shift_again() {
        let (sin, cos) = (0.6f64.sin() * 2.5, 0.6f64.cos() * 2.5);
        let moved = FACE.map(|(x, y)| {
            let (x, y) = (f64::from(x), f64::from(y));
            ((cos * x - sin * y + 7.0) as f32, (sin * x + cos * y - 3.0) as f32)
        });
        let fitted = Similarity::fit(&points(FACE), &points(moved)).expect("a fit");
        // f32 coordinates of about 200 px carry 1e-5 px.
        for (found, expected) in [(fitted.a, cos), (fitted.b, sin), (fitted.tx, 7.0), (fitted.ty, -3.0)] {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        let there = fitted.apply(10.0, 20.0);
        let back = fitted.inverse().apply(there.0, there.1);
        assert!((back.0 - 10.0).abs() < 1e-9 && (back.1 - 20.0).abs() < 1e-9);
    }

    #[test]
    fn fit_is_the_least_squares_optimum() {
        let noisy = points([(31.0, 48.0), (74.0, 50.0), (50.0, 75.0), (33.0, 92.0), (69.0, 88.0)]);
        let fitted = Similarity::fit(&points(FACE), &noisy).expect("a fit");
        let error = |t: &Similarity| -> f64 {
            points(FACE).iter().zip(&noisy).fold(0.0, |sum, (p, q)| {
                let (x, y) = t.apply(f64::from(p.x_px), f64::from(p.y_px));
                sum + (x - f64::from(q.x_px)).powi(2) + (y - f64::from(q.y_px)).powi(2)
            })
        };
        let least = error(&fitted);
        for step in [-1e-3, 1e-3] {
            for moved in [
                Similarity { a: fitted.a + step, ..fitted },
                Similarity { b: fitted.b + step, ..fitted },
                Similarity { tx: fitted.tx + step, ..fitted },
                Similarity { ty: fitted.ty + step, ..fitted },
            ] {
                assert!(error(&moved) > least);
            }
        }
    }

    #[test]
    fn fit_of_coinciding_or_non_finite_points_is_none() {
        assert!(Similarity::fit(&points([(5.0, 5.0); 5]), &points(FACE)).is_none());
        assert!(Similarity::fit(&points(FACE), &points([(5.0, 5.0); 5])).is_none());
        for bad in [f32::NAN, f32::INFINITY] {
            let mut broken = points(FACE);
            broken[2].x_px = bad;
            assert!(Similarity::fit(&broken, &points(FACE)).is_none());
        }
    }
}
