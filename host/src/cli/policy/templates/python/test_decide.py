import unittest

import decide


class Reason(unittest.TestCase):
    def test_only_node_may_make_files_in_memory(self):
        self.assertTrue(decide.reason("File in memory", "node"))
        self.assertFalse(decide.reason("File in memory", "sh"))
        self.assertFalse(decide.reason("Read credentials", "node"))


if __name__ == "__main__":
    unittest.main()
