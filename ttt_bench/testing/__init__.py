"""The conformance kit: the checks of every method, for `ttt-bench check METHOD` and for pytest.

    import pytest
    from ttt_bench.testing import adapter_checks

    @pytest.mark.parametrize("check", adapter_checks("my-method"), ids=str)
    def test_conforms(check):
        check()

docs/checks.md explains every check: what it does, why, and how to mend what it finds.
"""

from ttt_bench.testing.outcome import CheckFailed, Finding
from ttt_bench.testing.suite import CATALOGUE, Check, adapter_checks

__all__ = ["CATALOGUE", "Check", "CheckFailed", "Finding", "adapter_checks"]
