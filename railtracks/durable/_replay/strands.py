"""Which call is this: the position of a call among the calls of its strand, in a form that a later run finds again.

The journal asks here for every call, fan-out, broadcast and start. Calls made one after another by one task inside one
call form a strand, and are known by their numbers. A fan-out takes one number in its strand, and each of its calls has
a slot. Tasks of a plain nursery have no order: the first call of each is known by its node and its arguments.

The keys are hashes of all that. They are in the stores of users: what goes into a key, and in which order, stays as it
is (test_durable_golden.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from attrs import define
from trio.lowlevel import Task, current_task

from railtracks._calls.durable_values import CallStrand
from railtracks._calls.frames import Frame
from railtracks.durable._replay.rows import RecordParent
from railtracks.durable._replay.task_order import comes_after
from railtracks.durable._store.schema import FLOW, ROOT, WAIT
from railtracks.exceptions import ContextError


def key_of(*parts: str | int) -> str:
    """Return the key that is made of some parts in their order."""
    # A node that is not recorded may have any name.
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def block_label(body: str, name: str) -> str:
    """Return what session blocks of a name are counted by in the tasks of a body that have made no call yet."""
    return _unnamed(body, "session", name)


def _unnamed(body: str, *what: str) -> str:
    return key_of(body, "unnamed", *what)


# The key of the call of a flow's entry point.
ENTRY: Final = key_of(ROOT, "call", 0)


@define(frozen=True)
class Position:
    """Which call one is: its strand, and its number there. All attempts of the call have one position.

    Attributes:
        key: The key of the call's first attempt, which stands for all of them. The column `key` has the key of the
            attempt instead, see `attempt_key`.
        strand: The key of the strand. In the column `strand`.
        number: The number of the call in its strand. In the column `position`.
        place: The number of the call in the fan-out that has this number; 0 for a call in the background, -1 for any
            other. In the column of this name.
        label: What the call was matched by, if that was its node and its arguments. In no column.
    """

    key: str
    strand: str
    number: int
    place: int = -1
    label: str | None = None

    def attempt_key(self, attempt: int) -> str:
        """Return the key of one attempt: that of the call, or for a further attempt one that is made of it."""
        return self.key if attempt == 1 else key_of(self.key, "attempt", attempt)


class CallBody:
    """The inside of a call, or of the session: what the strands in it have in common.

    Attributes:
        key: The key of the call.
        parent: The parent record of what is recorded in it: the call itself, or the nearest recorded one around it.
        identity: The key that all attempts of the call have in common, of which its idempotency key is made.
    """

    __slots__ = ("_counts", "_open", "_openers", "identity", "key", "parent")

    def __init__(self, key: str, parent: RecordParent, identity: str) -> None:
        self.key = key
        self.parent = parent
        self.identity = identity
        self._counts: dict[str, int] = {}
        self._open: set[str] = set()
        # By label, the last task that has opened a session block before its first call.
        self._openers: dict[str, Task] = {}

    def claim(self, label: str, node: str) -> int:
        """Return how many calls with a label were made before in this body.

        Raises:
            ContextError: If one of them is still open. In a resume nothing could tell which of the two is which.
        """
        if label in self._open:
            advice = "Give each a name: node.with_options(key=...)"
            if node.startswith(WAIT):
                advice = "Wait for another signal in each task, or in one place"
            elif node.startswith(FLOW):
                advice = "Invoke the flow in a node of each task, and give that a name: node.with_options(key=...)"
            raise ContextError(
                f"two calls of {node!r} with equal arguments are open at once in tasks of a nursery, which have no"
                f" order: a resume could not tell them apart. {advice}"
            )
        self._open.add(label)
        return self.count(label)

    def claim_block(self, label: str, name: str) -> int:
        """Return how many session blocks with a label were opened before by tasks of this body.

        Raises:
            ContextError: If one of them was opened by another task, and the two tasks have no order. In a resume each
                block could get the record of the other.
        """
        task = current_task()
        last = self._openers.get(label, task)
        if last is not task and not comes_after(task, last):
            named = f"two session blocks named {name!r}" if name else "two session blocks without a name"
            raise ContextError(
                f"{named} are opened in tasks of a nursery, which have no order: a resume could not tell them apart."
                " Give each a name of its own, rt.Session(name=...), or open each in a node that rt.call_batch or"
                " rt.open_group() calls"
            )
        # Who comes after this one comes after all before it.
        self._openers[label] = task
        return self.count(label)

    def count(self, label: str) -> int:
        """Count one more thing with a label; return how many there were before."""
        number = self.counted(label)
        self._counts[label] = number + 1
        return number

    def counted(self, label: str) -> int:
        """Return how many things with a label there were."""
        return self._counts.get(label, 0)

    def release(self, position: Position) -> None:
        """Note that a call made in this body is over: another one may have its label."""
        if position.label is not None:
            self._open.discard(position.label)


@define(eq=False)
class Strand(CallStrand):
    """Calls made one after another by one task inside one call.

    Attributes:
        body: The inside of the call that they are made in.
        key: The key of the strand; `None` for a nursery task that has made no recorded call yet, and beside `only`.
        only: The one position that there is, in the strand of a single call of a fan-out.
    """

    body: CallBody
    key: str | None
    only: Position | None = None
    # The number of the next call, and of the next random number.
    _number: int = 0
    _draws: int = 0
    # The call that was made last, and which attempt of it.
    _last: Position | None = None
    _attempt: int = 1
    # While a stream is read: why no recorded call is made here, and the strand that counts what is not recorded.
    _refusal: str | None = None
    _aside: Strand | None = None

    @property
    def is_known(self) -> bool:
        """Whether the calls of this strand are known by their numbers or places, without a look at what they are."""
        return self.key is not None or self.only is not None

    def take(self, attempt: int, node: str, fingerprint: str, own_key: str | None) -> Position:
        """Return the position of the next call, or for a further attempt that of the last one.

        Args:
            attempt: Which attempt of the call it is, from 1.
            node: The name of the node.
            fingerprint: The fingerprint of the arguments.
            own_key: The option `key` of the node.

        Raises:
            ContextError: If the call has the same node and arguments as another one that is open in a nursery task.
        """
        if self._refusal is not None:
            raise ContextError(self._refusal)
        position = self._last if attempt > 1 else None
        if position is None:
            position = self._last = self._next(node, fingerprint, own_key)
        # A retry makes its attempts one after another, and its task makes no other call in the strand between them.
        self._attempt = attempt
        return position

    def _next(self, node: str, fingerprint: str, own_key: str | None) -> Position:
        if self.only is not None:
            return self.only
        if self.key is None:
            # The first call of a task: from here on the strand is known by this call. Trio starts the tasks of a
            # nursery in any order, so a number would be that of another call in the next run.
            label = self._label(node, fingerprint, own_key)
            self.key = key_of(label, self.body.claim(label, node))
            self._number = 1
            return Position(key_of(self.key, "call", 0), self.key, 0, label=label)
        number, self._number = self._number, self._number + 1
        return Position(key_of(self.key, "call", number), self.key, number)

    def _label(self, node: str, fingerprint: str, own_key: str | None) -> str:
        return key_of(self.body.key, "task", node, fingerprint, own_key or "")

    def first_key(self, node: str, fingerprint: str, own_key: str | None) -> str:
        """Return the key that the next call would have as the first one of a task."""
        label = self._label(node, fingerprint, own_key)
        return key_of(key_of(label, self.body.counted(label)), "call", 0)

    def skip(self, *what: str) -> tuple[str, int]:
        """Take a number for something that is no call; return the key of the strand, and the number.

        In a task that has made no call yet, the number counts equal things. Equal things may change places: each does
        the same. Session blocks do not, so two of them need an order.

        Args:
            *what: What the thing is, as parts of a key.

        Raises:
            ContextError: If calls are refused, and the thing is no broadcast; for session blocks also as from
                `CallBody.claim_block`.
        """
        if self._refusal is not None and what[0] != "broadcast":
            raise ContextError(self._refusal)
        if self._aside is not None:
            return self._aside.skip(*what)
        if self.key is None:
            label = _unnamed(self.body.key, *what)
            return label, self.body.claim_block(label, what[1]) if what[0] == "session" else self.body.count(label)
        number, self._number = self._number, self._number + 1
        return self.key, number

    @property
    def unrecorded(self) -> Strand:
        """The strand that counts calls which are not recorded: this one, or while calls are refused one beside it."""
        return self if self._aside is None else self._aside

    def refuse_calls(self, reason: str | None) -> None:
        """Refuse recorded calls with a reason, until there is none.

        A resume may come to fewer or more steps meanwhile. So what is done in them takes no numbers of this strand.
        """
        self._refusal = reason
        self._aside = None if reason is None else Strand(self.body, key_of(self.key or "", "aside", self._number))

    def inside(self, body: CallBody, key: str) -> Strand:
        """Return the strand of the calls that an unrecorded call of this strand makes: they are refused as well."""
        made = Strand(body, key)
        made.refuse_calls(self._refusal)
        return made

    def count_draw(self) -> int:
        """Count one more random number; return its number, from 1."""
        self._draws += 1
        return self._draws

    @property
    def next_attempt_key(self) -> str | None:
        """The key that the next attempt of the last call will have; `None` if no call was made."""
        return None if self._last is None else self._last.attempt_key(self._attempt + 1)


class Strands:
    """Finds the strand that the calls made in a frame belong to, for one session.

    Attributes:
        root: The strand of the session's own block.
    """

    def __init__(self) -> None:
        self.root = Strand(CallBody(ROOT, RecordParent(ROOT), ROOT), ROOT)

    def of(self, frame: Frame) -> Strand:
        """Return the strand of the calls that are made in a frame.

        The frame of a task that was started in a nursery has none yet, and gets one. Its body is that of the call that
        encloses the nursery.
        """
        if isinstance(frame.strand, Strand):
            return frame.strand
        enclosing = frame.outer
        while enclosing is not None and enclosing.strand is None:
            enclosing = enclosing.outer
        # A session that is not durable may be between this frame and the next strand.
        outer = self.root if enclosing is None or not isinstance(enclosing.strand, Strand) else enclosing.strand
        strand = Strand(outer.body, None)
        frame.enter_strand(strand)
        return strand

    def of_one_call(self, position: Position) -> Strand:
        """Return a strand of the session itself with a single call, which has this position."""
        return Strand(self.root.body, None, only=position)

    def unordered(self) -> Strand:
        """Return a strand of the session itself for a task outside of it, which has no order among its tasks."""
        return Strand(self.root.body, None)


class FanOut:
    """Numbers the calls of one fan-out: each gets a place and a strand of its own.

    Args:
        strand: The strand that the fan-out is made in.
        check_end: Called at the end with the strand's key, the number of the fan-out there, and how many calls it had.
        when_begun: Does what `call_when_begun` says for the call with a key.
    """

    def __init__(
        self,
        strand: Strand,
        check_end: Callable[[str, int, int], None],
        when_begun: Callable[[str, Callable[[], object]], bool],
    ) -> None:
        self._body = strand.body
        # In a task that has made no call yet the fan-out itself has no number. Each of its calls is known by its node
        # and its arguments, like the first call of a task.
        self._number = None if strand.key is None else strand.skip("fan-out")
        self._check_end = check_end
        self._when_begun = when_begun
        self._count = 0

    def next(self) -> Strand:
        """Take the next place; return a strand in which the call of that place is the only one."""
        place, self._count = self._count, self._count + 1
        if self._number is None:
            return Strand(self._body, None)
        key, number = self._number
        return Strand(self._body, None, only=Position(key_of(key, "fan", number, place), key, number, place))

    def call_when_begun(self, wake: Callable[[], object]) -> bool:
        """Have a function called once the next call had begun at this moment of the recorded run.

        Returns:
            Whether it may be called: not if the call is not in the record, or the replay is over.
        """
        if self._number is None:
            return False
        key, number = self._number
        return self._when_begun(key_of(key, "fan", number, self._count), wake)

    def close(self) -> None:
        """Mark the fan-out as complete.

        Raises:
            ReplayMismatchError: If more calls of it are recorded.
        """
        # A fan-out without a number cannot be found in the record.
        if self._number is not None:
            self._check_end(*self._number, self._count)
