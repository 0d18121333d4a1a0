"""Checks a calibration's report against scikit-learn on the same scores: rates at every threshold of its curve, the area, the
equal error rate."""

import csv
import json
import sys
from pathlib import Path

import numpy
from sklearn.metrics import roc_auc_score, roc_curve

folder = Path(sys.argv[1])
report = json.loads((folder / "report.json").read_text())
with open(folder / "scores.csv", newline="") as file:
    rows = list(csv.DictReader(file))
# Scores are f32: the same numbers, not their shortest decimals.
scores, labels, seen = [], [], set()
for row in rows:
    pair = frozenset((row["image1"], row["image2"]))
    if row["score"] and pair not in seen:
        scores.append(numpy.float32(row["score"]))
        labels.append(int(row["label"]))
    seen.add(pair)
scores, labels = numpy.array(scores, dtype=numpy.float32), numpy.array(labels)
fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)


def rates(threshold):
    """Of the ROC's last point whose threshold is not below: scores at or above it match."""
    at = numpy.searchsorted(-thresholds, -numpy.float32(threshold), side="right") - 1
    return fpr[at], 1 - tpr[at]


checked = 0
results = report["results"]
for point in [*results["named_thresholds"], *(at for at in results["at_fmr"] if "threshold" in at)]:
    fmr, fnmr = rates(point["threshold"])
    assert abs(point["fmr"]["rate"] - fmr) < 1e-12, point
    assert abs(point["fnmr"]["rate"] - fnmr) < 1e-12, point
    checked += 1
for name, label in (("mated", 1), ("non_mated", 0)):
    for cosine, count in report["curve"][name]["at_least"]:
        expected = numpy.count_nonzero(scores[labels == label] >= numpy.float32(cosine))
        assert count == expected, (name, cosine, count, expected)
        fmr, fnmr = rates(cosine)
        rate = fmr if label == 0 else 1 - fnmr
        assert abs(count / report["curve"][name]["total"] - rate) < 1e-12, (name, cosine)
        checked += 1
area = roc_auc_score(labels, scores)
assert abs(results["area_under_roc"] - area) < 1e-9, (results["area_under_roc"], area)
# Where the lines between the ROC's points meet FMR = FNMR.
gap = fpr - (1 - tpr)
after = int(numpy.argmax(gap >= 0))
share = -gap[after - 1] / (gap[after] - gap[after - 1])
equal = fpr[after - 1] + share * (fpr[after] - fpr[after - 1])
assert abs(results["equal_error"]["rate"] - equal) < 1e-9, (results["equal_error"], equal)
# The least threshold in four decimals: one ten-thousandth lower breaks the rate.
for at in results["at_fmr"]:
    if "threshold" in at:
        assert rates(at["threshold"])[0] <= at["target_fmr"] < rates(at["threshold"] - 1.01e-4)[0] + 1e-12, at
print(f"{len(scores)} scores, {checked} points as scikit-learn has them, area {area:.6f}, equal error rate {equal:.6f}")
