"""The logic without WebAssembly: `python3 -m unittest`."""

import json
import unittest

import dedupe


class Read(unittest.TestCase):
    def test_settings_are_read(self):
        self.assertEqual(dedupe.read('{"scans": 3, "never": "error"}'), (3, 3))

    def test_settings_that_cannot_be_used_are_refused_by_name(self):
        priorities = ", ".join(dedupe.PRIORITIES)
        for settings, sentence in [
            ("no", "the settings are not JSON"),
            ("[" * 100_000, "the settings are not JSON"),
            ("[]", "the settings are no object"),
            ('{"scans": 1, "never": "error", "x": 1}', "the settings have the unknown key x"),
            ('{"never": "error"}', "scans: give a whole number from 1 to 1000"),
            ('{"scans": 0, "never": "error"}', "scans: give a whole number from 1 to 1000"),
            ('{"scans": true, "never": "error"}', "scans: give a whole number from 1 to 1000"),
            ('{"scans": 1.5, "never": "error"}', "scans: give a whole number from 1 to 1000"),
            ('{"scans": 1}', f"never: give one of {priorities}"),
            ('{"scans": 1, "never": ["error"]}', f"never: give one of {priorities}"),
        ]:
            with self.subTest(settings=settings[:40]), self.assertRaises(ValueError) as caught:
                dedupe.read(settings)
            self.assertEqual(str(caught.exception), sentence)

    def test_the_schema_is_json(self):
        self.assertEqual(json.loads(json.dumps(dedupe.SCHEMA))["required"], ["scans", "never"])


class Reason(unittest.TestCase):
    def test_what_was_seen_often_enough_is_suppressed_with_the_number(self):
        expected = "seen in 4 earlier scans of this project; 3 are enough"
        self.assertEqual(dedupe.reason(rank=4, seen_before=4, scans=3, never=3), expected)

    def test_what_is_new_is_kept(self):
        self.assertIsNone(dedupe.reason(rank=4, seen_before=2, scans=3, never=3))

    def test_what_is_urgent_is_kept_however_often_it_was_seen(self):
        for rank in range(4):
            self.assertIsNone(dedupe.reason(rank=rank, seen_before=1000, scans=1, never=3))


if __name__ == "__main__":
    unittest.main()
