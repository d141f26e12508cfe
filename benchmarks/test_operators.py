"""One test an operator, one row a case of testing/cases.py that is marked bench=True."""

from __future__ import annotations

import pytest

from pcdarts_fast.ops import partial_mix, resolve
from pcdarts_fast.testing.cases import CASES, Case, leaves
from pcdarts_fast.testing.naive import naive_partial_mix


def bench_cases(op: str) -> pytest.MarkDecorator:
    cases = [case for case in CASES[op] if case.bench]
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


@bench_cases("partial_mix")
def test_partial_mix(case: Case, compare) -> None:
    arguments = case.make(requires_grad=True)
    backend = resolve("auto", "partial_mix", "cpu")
    naive_arguments = {**arguments, "tables": None}  # the cases shuffle: written as usual
    compare(
        f"partial_mix {case.id}",
        fused=lambda: partial_mix(**arguments, backend=backend),
        naive=lambda: naive_partial_mix(**naive_arguments),
        inputs=leaves(arguments),
        kept=[arguments["weights"]],
    )
