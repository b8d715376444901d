"""Users' values as bytes that a database keeps, and back: by annotation, checked at once, secrets only encrypted.

Called by the journal, which keeps arguments and results, and by signals, contexts and views.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Final, TypeGuard
from weakref import ref

from trio.lowlevel import enable_ki_protection

from railtracks._calls.durable_values import Args, Kwargs
from railtracks._checks import is_ctrl_c, unstorable
from railtracks._nodes.node import Node
from railtracks._nodes.signature import ANYTHING, Kind, Signature
from railtracks._records.error_parts import line_of
from railtracks._records.scrubbing import Scrubber
from railtracks._records.secrets import Secret, is_secret
from railtracks._records.value_texts import class_name
from railtracks.durable._values.aside import Aside
from railtracks.durable._values.converter import CONVERTER
from railtracks.durable._values.plain import (
    SCALARS,
    SEALED,
    Json,
    Plain,
    Scalar,
    Sealed,
    ValueMismatchError,
    is_dict,
    is_list,
    name_of,
    parts_of,
)
from railtracks.durable._values.prints import NEWEST, bound, print_of, without_details
from railtracks.durable._values.scalar_texts import call_texts, scalar_text, text_of_scalars
from railtracks.durable._values.sealing import (
    Sealer,
    as_read,
    encoded,
    fingerprint_of,
    has_secrets,
    laid_open,
    sealed,
    secret_path,
    without_secrets,
)
from railtracks.durable._values.shapes import keyword_kind, positional_kinds, result_kind_of, shape_of
from railtracks.durable._values.sizes import fits, is_large
from railtracks.durable._values.slices import encoded_in_slices
from railtracks.durable._values.storable import problem_of
from railtracks.durable._values.stored import parsed, unreadable
from railtracks.exceptions import DurableValueError, StoreError

# Bytes. A row is no place for a film: it belongs into a file or an object store, and its name into the result.
LARGEST: Final = 16 * 2**20
# Two surrogates that stand side by side are read as one character by JSON.
_HALVES: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_raw: Final = json.JSONEncoder(ensure_ascii=False).encode
_encode_large: Final = partial(encoded_in_slices, encode=encoded)


class Values:
    """Turns values into bytes and back, for one store."""

    def __init__(self, sealer: Sealer, largest: int = LARGEST) -> None:
        self.sealer = sealer
        self._largest = largest
        self._aside = Aside()
        # The signatures of the nodes whose results can be stored, each of one node, by their ids: a `WeakSet` takes
        # several times as long to look into.
        self._storable: dict[int, ref[Signature]] = {}
        self._converter = CONVERTER

    # Values are asked for their parts, and whatever their code raises is theirs, a `KeyboardInterrupt` included. So the
    # user's Ctrl-C has to wait for the next checkpoint, here and in the three methods like this one.
    @enable_ki_protection
    def dump(self, value: object, kind: Kind, what: str, name: str | None = None) -> tuple[bytes, str]:
        """Return a value as bytes, and its fingerprint.

        Args:
            value: The value.
            kind: Its annotation.
            what: What errors call it.
            name: The name it is kept under, which may be one of a secret.

        Raises:
            DurableValueError: If it cannot be stored, or would not come back equal; names the path to the part.
        """
        return self._dump(value, kind, what, name, is_large=is_large(value))

    @enable_ki_protection
    async def dump_aside(self, value: object, kind: Kind, what: str) -> bytes:
        """Return the bytes of `dump`; a large value is written in a worker thread, so that only this task waits for it.

        Nothing may change the value meanwhile. Shielded from cancellation and Ctrl-C, and no checkpoint.

        Raises:
            DurableValueError: As from `dump`.
        """
        text = scalar_text(value, kind)
        if text is not None and len(text) <= self._largest:
            # Quick, for most results.
            return text.encode()
        if is_large(value):
            return (await self._aside.run(partial(self._dump, value, kind, what, None, is_large=True)))[0]
        plain = self.plain(value, kind, what, None, is_large=False)
        return self._stored(plain, what, hides=has_secrets(plain), is_large=False)

    def _dump(self, value: object, kind: Kind, what: str, name: str | None, *, is_large: bool) -> tuple[bytes, str]:
        return self._written(self.plain(value, kind, what, name, is_large=is_large), what, is_large=is_large)

    def load(self, data: bytes, kind: Kind) -> object:
        """Return the value that was dumped with the same annotation.

        Raises:
            DurableValueError: If the annotation has changed since, or the key.
        """
        plain = self._opened(parsed(data))
        try:
            return self._converter.read(plain, kind)
        except Exception as error:
            raise unreadable("a stored value", f"it is no {name_of(kind)} any more: {_problem_of(error)}") from error

    @enable_ki_protection
    def load_as(self, data: bytes, kind: Kind, what: str) -> object:
        """Return a value that was dumped as JSON, read by an annotation that its sender did not know.

        Args:
            data: The value.
            kind: The annotation.
            what: What errors call the value.

        Raises:
            DurableValueError: If the value is not what the annotation says.
            StoreError: If the value cannot be opened with the key of this store, whatever the annotation.
        """
        try:
            plain = self._opened(parsed(data))
        except DurableValueError as error:
            raise StoreError(f"{what} cannot be read: {error.problem}") from error
        try:
            return self._converter.read(plain, kind)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - users' code that does not await
            # In a task, where no code that is protected is struck by Ctrl-C: whatever this is, it came from the value.
            action = f"read as {name_of(kind)}"
            raise DurableValueError(what, _problem_of(error), action) from None  # noqa: ASYNC104 - the same

    def check_result(self, node: Node[..., object]) -> None:
        """Refuse a node whose results cannot be stored, before it runs.

        Raises:
            DurableValueError: If its annotation says so. Without an annotation only a value tells.
        """
        signature = shape_of(node)
        known = self._storable.get(id(signature))
        if known is not None and known() is signature:
            return
        kind = result_kind_of(node)
        problem = signature.lost_result if kind is ANYTHING else problem_of(kind, self._converter)
        if problem is not None:
            raise DurableValueError(
                f"the result of {node.name!r}",
                f"{problem}. Annotate it with a class that can be, add that one with rt.register_durable_value(), or"
                " make the node with durable=False",
            )
        forget = partial(self._storable.pop, id(signature))
        self._storable[id(signature)] = ref(signature, lambda _: forget(None))

    @enable_ki_protection
    def dump_arguments(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, prints: int | None = NEWEST
    ) -> tuple[bytes, str]:
        """Return the arguments of a call as bytes, and their fingerprint.

        Args:
            node: The node that is called.
            args: The arguments by position.
            kwargs: The arguments by name.
            prints: The way of the fingerprint, as in the column of this name.

        Raises:
            DurableValueError: As from `dump`.
        """
        return self._dump_arguments(node, args, kwargs, prints, is_large=_is_any_large(args, kwargs))

    @enable_ki_protection
    async def dump_arguments_aside(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, prints: int | None = NEWEST
    ) -> tuple[bytes, str]:
        """Return what `dump_arguments` returns, in the way of `dump_aside`.

        Raises:
            DurableValueError: As from `dump`.
        """
        if not _is_any_large(args, kwargs):
            return self._dump_arguments(node, args, kwargs, prints, is_large=False)
        return await self._aside.run(partial(self._dump_arguments, node, args, kwargs, prints, is_large=True))

    def _dump_arguments(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, prints: int | None, *, is_large: bool
    ) -> tuple[bytes, str]:
        what = f"the arguments of {node.name!r}"
        texts = None if kwargs or is_large or prints is None else call_texts(shape_of(node), args)
        if texts is not None and unstorable(node.name) is None:
            # Quick, for most calls.
            data = texts[0].encode()
            self._check_size(data, what)
            return data, fingerprint_of(texts[1].encode())
        plain, named = self.plain_arguments(node, args, kwargs, is_large=is_large)
        # A tuple is no pair of a name and a value: two arguments are two values.
        whole: Plain = [tuple(plain), named] if named else [tuple(plain)]
        if prints is None:
            # Of the bytes that the release had stored.
            before = self._written(without_details(whole), what, is_large=is_large)[1]
            return self._stored(whole, what, hides=has_secrets(whole), is_large=is_large), before
        # The two parts are no pair of a name and a value.
        hides = has_secrets(tuple(plain)) or (bool(named) and has_secrets(named))
        data = self._stored(whole, what, hides=hides, is_large=is_large)
        return data, print_of(bound(shape_of(node), plain, named), self.sealer, hides=hides, is_large=is_large)

    def plain_arguments(
        self, node: Node[..., object], args: Args, kwargs: Kwargs, *, is_large: bool
    ) -> tuple[list[Plain], dict[str, Plain]]:
        """Return the plain forms of the arguments of a call, by position and by name.

        Raises:
            DurableValueError: As from `dump`.
        """
        problem = unstorable(node.name)
        if problem is not None:
            raise DurableValueError(f"the name of node {node.name!r}", problem)
        signature = shape_of(node)
        plain: list[Plain] = []
        for place, (value, (name, kind)) in enumerate(zip(args, positional_kinds(signature, len(args)), strict=True)):
            what = f"argument {place + 1 if name is None else name!r} of {node.name!r}"
            plain.append(self.plain(value, kind, what, name, is_large=is_large))
        named: dict[str, Plain] = {}
        for name in sorted(kwargs):
            what = f"argument {name!r} of {node.name!r}"
            named[name] = self.plain(
                kwargs[name], keyword_kind(signature, name), what, signature.keyword_name(name), is_large=is_large
            )
        return plain, named

    def load_arguments(self, node: Node[..., object], data: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments that were dumped for a node of the same signature.

        Raises:
            DurableValueError: If the annotations have changed since, or the key.
        """
        signature = shape_of(node)
        read = self._converter.read
        try:
            positional, *named = parts_of(self._opened(parsed(data)))
            parts = parts_of(positional)
            kinds = positional_kinds(signature, len(parts))
            args = tuple(read(plain, kind) for plain, (_, kind) in zip(parts, kinds, strict=True))
            kwargs = {
                str(name): read(plain, keyword_kind(signature, str(name)))
                for each in named
                if is_dict(each)
                for name, plain in each.items()
            }
        except DurableValueError:
            raise
        except Exception as error:
            raise unreadable(f"the stored arguments of {node.name!r}", _problem_of(error)) from error
        return args, kwargs

    def load_call(self, node: Node[..., object], data: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments that were dumped for a node, if its function takes them.

        Raises:
            DurableValueError: As from `load_arguments`, or if the function has other parameters by now.
        """
        args, kwargs = self.load_arguments(node, data)
        try:
            shape_of(node).check(args, kwargs)
        except TypeError as error:
            raise unreadable(f"the stored arguments of {node.name!r}", str(error)) from error
        return args, kwargs

    def redacted(self, data: bytes | None, scrubber: Scrubber | None = None) -> object:
        """Return stored bytes as plain data for a view, without what is encrypted or known to be secret."""
        return None if data is None else without_secrets(parsed(data), scrubber or Scrubber())

    def redacted_arguments(
        self, data: bytes | None, scrubber: Scrubber
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return stored arguments as plain data for a view, without what is encrypted or known to be secret."""
        positional, *named = parts_of(parsed(data or b"[[]]"))
        args = tuple(without_secrets(item, scrubber) for item in parts_of(positional))
        items = [item for each in named if is_dict(each) for item in each.items()]
        return args, {str(name): without_secrets(item, scrubber, str(name)) for name, item in items}

    def opened_secrets(self, stored: object) -> Iterator[tuple[str | None, object]]:
        """Return the secrets that stored JSON has encrypted in it; those that the key does not open are left out."""
        if is_dict(stored) and len(stored) == 1 and SEALED in stored:
            with suppress(DurableValueError):
                opened = parsed(self.sealer.open(str(stored[SEALED])))
                # A failure is encrypted as a whole, whether a secret is in it or not.
                if is_dict(opened) and "plain" in opened:
                    yield from self.opened_secrets(opened["plain"])
                    yield ("secret", opened["plain"]) if not opened["secret"] else (None, Secret(opened["plain"]))
            return
        parts: Iterable[object] = stored.values() if is_dict(stored) else stored if is_list(stored) else ()
        for part in parts:
            yield from self.opened_secrets(part)

    def plain(self, value: object, kind: Kind, what: str, name: str | None, *, is_large: bool) -> Plain:
        """Return the plain form of a value, checked by reading it back."""
        if isinstance(kind, type) and type(value) is kind and _is_plain_scalar(value) and not is_secret(name, value):
            return value
        if kind is None:
            kind = type(None)
        # Before it is written: that would have no end where one object stands in a value again and again.
        if is_large and not fits(value, self._largest):
            raise DurableValueError(what, f"its bytes are {self._too_much}")
        try:
            plain = self._checked(value, kind, _encode_large if is_large else encoded)
        except ValueMismatchError as mismatch:
            raise DurableValueError(what + mismatch.path, mismatch.problem) from None
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            problem = f"a {class_name(value)} cannot be kept as {name_of(kind)}: {line_of(error)}"
            raise DurableValueError(what, problem) from error  # noqa: ASYNC104 - the same
        if is_secret(name, value) and not isinstance(value, Secret):
            plain = Sealed(plain, is_secret=False)
        return plain

    def _checked(self, value: object, kind: Kind, encode: Callable[[Json], str]) -> Plain:
        """Return the plain form of a value, if the value that is read from it has the same plain form again."""
        plain = self._converter.write(value, kind)
        text = encode(laid_open(plain))
        # The comparison below would not see it: JSON writes two halves and their character by the same escapes.
        if "\\ud" in text and _HALVES.search(encoded_in_slices(laid_open(plain), _raw)):
            raise ValueMismatchError(
                value,
                "it has two halves of a character side by side in a text, and would come back with the whole character",
            )
        again = self._converter.read(as_read(plain), kind)
        if encode(laid_open(self._converter.write(again, kind))) != text:
            raise ValueMismatchError(
                value, "it would come back as another value: its class must make the same value of the same fields"
            )
        return plain

    def _written(self, plain: Plain, what: str, *, is_large: bool) -> tuple[bytes, str]:
        """Return plain data as bytes, and their fingerprint."""
        hides = has_secrets(plain)
        stored = self._stored(plain, what, hides=hides, is_large=is_large)
        if not hides:
            return stored, fingerprint_of(stored)
        # Encrypting gives other bytes each time: the fingerprint is made of the secrets' own fingerprints.
        encode = _encode_large if is_large else encoded
        with_fingerprints = encode(sealed(plain, lambda data: {SEALED: self.sealer.fingerprint(data)})).encode()
        return stored, fingerprint_of(with_fingerprints)

    def _stored(self, plain: Plain, what: str, *, hides: bool, is_large: bool) -> bytes:
        """Return plain data as bytes."""
        encode = _encode_large if is_large else encoded
        if not hides:
            try:
                # Without secrets it is JSON as it is.
                text = None if is_large else text_of_scalars(plain)
                data = (encode(laid_open(plain)) if text is None else text).encode()
            except (ValueError, RecursionError) as error:
                raise DurableValueError(what, str(error)) from None
            self._check_size(data, what)
            return data
        if not self.sealer.has_key:
            where = what + secret_path(plain)
            raise DurableValueError(
                where, "a secret is stored only encrypted: give the store a key (DurableStore(key=...))"
            )
        stored = encode(sealed(plain, lambda data: {SEALED: self.sealer.seal(data)})).encode()
        self._check_size(stored, what)
        return stored

    def _check_size(self, data: bytes, what: str) -> None:
        if len(data) > self._largest:
            raise DurableValueError(what, f"{len(data):,} bytes are {self._too_much}")

    @property
    def _too_much(self) -> str:
        return f"more than the {self._largest:,} that a row may have: keep it in a file, and the name of the file here"

    def _opened(self, stored: object) -> object:
        """Return stored JSON with everything decrypted, and each `Secret` around its value again."""
        if is_list(stored):
            return [self._opened(item) for item in stored]
        if not is_dict(stored):
            return stored
        if len(stored) == 1 and SEALED in stored:
            sealed_value = parsed(self.sealer.open(str(stored[SEALED])))
            if not is_dict(sealed_value):
                raise unreadable("a stored secret", "something else was encrypted there")
            value = self._opened(sealed_value["plain"])
            return Secret(value) if sealed_value["secret"] else value
        return {key: self._opened(item) for key, item in stored.items()}


def _is_any_large(args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    return any(map(is_large, args)) or (bool(kwargs) and any(map(is_large, kwargs.values())))


def _is_plain_scalar(value: object) -> TypeGuard[Scalar]:
    """Return whether a value is a scalar of JSON, and surely without surrogates."""
    return type(value) in SCALARS and (type(value) is not str or value.isascii())


def _problem_of(error: BaseException) -> str:
    """Return why a value cannot be read."""
    return error.problem if isinstance(error, ValueMismatchError) else line_of(error)


def as_store_error(session_id: str) -> AbstractContextManager[None]:
    """Turn the error of a stored value that cannot be read into one that leaves its session as it is recorded.

    With other code, or with the key, the value may be readable again.

    Raises:
        StoreError: If a stored value cannot be read in the block.
    """
    return _Reading(session_id, leaves_session=True)


def as_own_error(session_id: str) -> AbstractContextManager[None]:
    """Name the session in the error of a stored value that cannot be read, whatever the row has there.

    Raises:
        DurableValueError: If the value does not fit this code, or the key.
        StoreError: If it cannot be read for another reason.
    """
    return _Reading(session_id, leaves_session=False)


class _Reading(AbstractContextManager[None]):
    """Tells of a stored value that cannot be read in its block. A generator would take a tenth of a replay's time."""

    __slots__ = ("_leaves_session", "_session_id")

    def __init__(self, session_id: str, *, leaves_session: bool) -> None:
        self._session_id = session_id
        self._leaves_session = leaves_session

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        told = None if error is None else _named(error, self._session_id)
        try:
            if told is None:
                return
            if self._leaves_session and isinstance(told, DurableValueError):
                told.__cause__ = error
                raise StoreError(f"{told.place} cannot be read with this code: {told.problem}") from told
            raise told from error
        finally:
            # Their tracebacks hold this stack frame: without the `del` they and it would be reference cycles.
            del told, error


def _named(error: BaseException, session_id: str) -> Exception | None:
    """Return the error of a value in the record of a session, which names the session; `None` for any other error."""
    if isinstance(error, DurableValueError):
        return DurableValueError(f"{error.place} of session {session_id}", error.problem, error.action)
    if isinstance(error, StoreError):
        return StoreError(f"session {session_id}: {error.problem}")
    if isinstance(error, (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)):
        # JSON that lacks one of its parts, or has another one there.
        return StoreError(f"the record of session {session_id} is damaged: {error!r}")
    if isinstance(error, ValueMismatchError):
        return StoreError(f"the record of session {session_id} is damaged: {error.problem}")
    return None
