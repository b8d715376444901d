"""The identifiers of sessions: in the order of their beginning, and never twice."""

from __future__ import annotations

import itertools
import time

import pytest

import railtracks as rt
from railtracks._records.identifiers import new_identifier


def test_identifiers_are_in_the_order_in_which_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count(1_700_000_000_000_000_000, 10_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    made = [new_identifier() for _ in range(100)]
    assert made == sorted(made)
    assert made[0].startswith(f"{1_700_000_000_000:012x}")
    assert {len(each) for each in made} == {32}


def test_identifiers_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert len({new_identifier() for _ in range(10_000)}) == 10_000


async def test_sessions_have_them() -> None:
    before = new_identifier()
    async with rt.Session(save_state=False) as session:
        assert before[:12] <= session.identifier[:12] <= new_identifier()[:12]
