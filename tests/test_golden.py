"""Shares of every ratio, mode and policy as they were when the file was written."""
import numpy as np
from golden import FILE, golden_shares


def test_shares_are_as_they_were():
    found, expected = golden_shares(), np.load(FILE)
    assert list(found) == expected.files and len(found) > 600
    for name, shares in found.items():
        np.testing.assert_allclose(shares, expected[name], rtol=0, atol=1e-6, err_msg=name)
