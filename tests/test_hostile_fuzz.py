"""A fuzz over errors and names whose classes raise: the session ends in time, whole, and with the error itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence

import attrs
import pytest
import trio
from error_ways import WAYS, WITHOUT_A_CALL, Way, a_batch, outcome
from hostile import ATTACKS, OF_TEXTS, RAISED, deep_group, hostile_error, hostile_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proof_rounds import rounds

import railtracks as rt
from railtracks import testing

BASES = (Exception, ValueError, KeyError, OSError, rt.FatalError, rt.ContextError, BaseException, SystemExit)
CLEANUP_TIMEOUT = 5


@attrs.frozen
class Plan:
    """What an error is made of. Hypothesis shows this, and need not ask the error for its text."""

    base: type[BaseException]
    attacks: frozenset[str]
    raised: type[BaseException]
    notes: tuple[object, ...] = ()
    # Of a group.
    members: Sequence[Plan] = ()
    depth: int = 0

    def make(self) -> BaseException:
        members = [each.make() for each in self.members]
        is_plain = all(issubclass(type(each), Exception) for each in members)
        base = self.base if not members else ExceptionGroup if is_plain else BaseExceptionGroup
        error = hostile_error(base, self.attacks, self.raised, members)
        if self.notes:
            BaseException.__dict__["__dict__"].__get__(error)["__notes__"] = list(self.notes)
        return deep_group(error, self.depth)


class HostileNote:
    def __repr__(self) -> str:
        return "HostileNote()"

    def __str__(self) -> str:
        raise SystemExit

    def __format__(self, spec: str) -> str:
        raise KeyError(spec)


attacks = st.frozensets(st.sampled_from(ATTACKS), max_size=6)
notes = st.lists(st.sampled_from(["a note", HostileNote(), 5]), max_size=2).map(tuple)
leaves = st.builds(Plan, st.sampled_from(BASES), attacks, st.sampled_from(RAISED), notes)
# Python asks an error that is no `Exception` for its class, to see of what kind a group of it is.
askable = leaves.filter(lambda plan: issubclass(plan.base, Exception) or "__class__" not in plan.attacks)
inner = st.recursive(
    askable.filter(lambda plan: issubclass(plan.base, Exception) or "__getattribute__" not in plan.attacks),
    lambda members: st.builds(
        Plan,
        st.just(ExceptionGroup),
        # As above, for groups in groups.
        attacks.map(lambda names: names - {"__class__", "__getattribute__"}),
        st.sampled_from(RAISED),
        notes,
        st.lists(members, min_size=1, max_size=3).map(tuple),
        st.sampled_from([0, 0, 0, 1_500]),
    ),
    max_leaves=6,
)
texts = st.builds(
    hostile_text,
    st.text(max_size=60),
    st.frozensets(st.sampled_from(OF_TEXTS), max_size=5).map(lambda names: names - {"__repr__"}),
    st.sampled_from(RAISED),
)
names = texts.filter(lambda text: bool(str.strip(text)))


def check(plan: Plan, way: Way, name: str, flow_name: str, others: Sequence[str], *, end_on_error: bool) -> None:
    error = plan.make()
    came_out: list[object] = []
    session = rt.Session(
        {others[0]: 1},
        name=name,
        flow_name=flow_name,
        end_on_error=end_on_error,
        cleanup_timeout=CLEANUP_TIMEOUT,
    )

    async def main() -> None:
        async def named(session: rt.Session, error: BaseException) -> object:
            async def node(**values: object) -> int:
                return len(values)

            made = rt.function_node(node, name=others[1], key=others[1])
            assert await rt.call(made, **{others[2]: 1}) == 1
            return await way(session, error)

        came_out.append(await outcome(session, named, error))

    # Of this process, because a disk that syncs for others may hold the save up for longer than that.
    began = time.process_time()
    trio.run(main)
    assert time.process_time() - began < CLEANUP_TIMEOUT
    assert came_out[0] is error
    testing.assert_quiescent(session)
    assert session.state_path is not None
    state = rt.load_state(session.state_path)
    assert session.name == state.session_name or "\\" in (state.session_name or "")
    statuses = [call.status for call in state.calls]
    assert rt.Status.RUNNING not in statuses
    assert statuses[0] == rt.Status.COMPLETED
    if way is not a_batch:
        assert session.status == state.status == rt.Status.FAILED
        assert state.error is not None
    if way not in WITHOUT_A_CALL:
        assert rt.Status.FAILED in statuses


@pytest.mark.proof
@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
def test_whatever_errors_and_names_do_the_session_ends_whole_and_the_error_comes_out() -> None:
    @settings(max_examples=rounds(full=5_000, handful=30), suppress_health_check=list(HealthCheck))
    @given(
        plan=leaves | inner,
        way=st.sampled_from(WAYS),
        name=names,
        flow_name=names,
        others=st.tuples(texts, names, texts),
        end_on_error=st.booleans(),
    )
    def hold(plan: Plan, way: Way, name: str, flow_name: str, others: tuple[str, ...], *, end_on_error: bool) -> None:
        check(plan, way, name, flow_name, others, end_on_error=end_on_error)

    with tempfile.TemporaryDirectory() as folder:
        kept = os.environ["RAILTRACKS_HOME"]
        os.environ["RAILTRACKS_HOME"] = folder
        try:
            hold()
        finally:
            os.environ["RAILTRACKS_HOME"] = kept
