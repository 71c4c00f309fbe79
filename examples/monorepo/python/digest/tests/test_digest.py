import json
import unittest

from digest import digest


class Digest(unittest.TestCase):
    def test_articles_stand_below_their_week(self):
        articles = [("2024-01-09", "later"), ("2024-01-02", "x" * 300), ("2024-01-08", "late")]
        lines = [json.dumps({"day": day, "text": text}) for day, text in articles]
        expected = ["2024-W01", "  " + "x" * 280, "2024-W02", "  later", "  late"]
        self.assertEqual(list(digest(lines)), expected)
