import datetime
import unittest

from dates import week


class Week(unittest.TestCase):
    def test_the_first_days_of_january_may_be_of_the_old_year(self):
        self.assertEqual(week(datetime.date(2023, 1, 1)), "2022-W52")
        self.assertEqual(week(datetime.date(2024, 1, 1)), "2024-W01")
