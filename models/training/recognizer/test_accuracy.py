"""The threshold and the count of right pairs, on pairs small enough to judge by hand."""

import math
import unittest

from accuracy import best_threshold, interval, right_pairs


class AccuracyTest(unittest.TestCase):
    def test_best_threshold_parts_mated_from_others(self):
        self.assertEqual(best_threshold([(0.1, False), (0.2, False), (0.6, True), (0.7, True)]), 0.6)

    def test_equal_scores_are_judged_alike(self):
        # At 0.5 one mated pair is won and two others lost: refusing all is better.
        self.assertEqual(best_threshold([(0.5, True), (0.5, False), (0.5, False)]), math.inf)

    def test_pairs_that_scores_part_are_right_but_where_the_threshold_was_the_last_one(self):
        pairs = [(0.5 + place / 100, True) for place in range(20)] + [(place / 100, False) for place in range(20)]
        self.assertGreaterEqual(right_pairs(pairs), 39)

    def test_pairs_whose_scores_are_reversed_are_not_right(self):
        pairs = [(place / 100, True) for place in range(20)] + [(0.5 + place / 100, False) for place in range(20)]
        self.assertLess(right_pairs(pairs), 22)

    def test_interval_is_wilsons(self):
        low, high = interval(95, 100)
        self.assertAlmostEqual(low, 0.8882, places=4)
        self.assertAlmostEqual(high, 0.9785, places=4)


if __name__ == "__main__":
    unittest.main()
