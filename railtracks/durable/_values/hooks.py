"""The typed face of cattrs, which finds by annotation how a value is written and read.

The modules that know kinds of values add their functions here; `converter` puts them all together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, EnumType
from typing import TypeAlias, TypeGuard, TypeVar, get_origin

from cattrs import Converter
from cattrs.errors import ClassValidationError, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from railtracks._nodes.signature import Kind
from railtracks.durable._values.plain import Plain, ValueMismatchError, name_of

K = TypeVar("K")

# Writes a value as plain data, or raises if it is not what the annotation says.
Write: TypeAlias = Callable[[object], Plain]
# Reads plain data, which came from a store and may be anything, as a value of an annotation.
Read: TypeAlias = Callable[[object, Kind], object]

# Writes a member of an enum as plain data, or raises if it is none.
WriteMember: TypeAlias = Callable[[type[Enum], object], Plain]

# cattrs declares that these take a class; they take every annotation, as Box[int], that stands for one.
_fields_writer: Callable[..., Write] = make_dict_unstructure_fn
_fields_reader: Callable[..., Callable[..., object]] = make_dict_structure_fn


def is_kind_of(*origins: Kind) -> Callable[[Kind], TypeGuard[Kind]]:
    """Return a check whether an annotation is one of these classes, or one of them with parameters."""

    def check(kind: Kind) -> TypeGuard[Kind]:
        return kind in origins or get_origin(kind) in origins

    return check


def _without_kind(read: Callable[[object], object]) -> Read:
    return lambda plain, _: read(plain)


def _bare(read: Read) -> Read:
    """Return the function with its first error in place of a group of them."""

    def first(plain: object, kind: Kind) -> object:
        try:
            return read(plain, kind)
        except ClassValidationError as group:
            raise group.exceptions[0] from None

    return first


def _refused_writer(kind: Kind) -> Write:
    def write(value: object) -> Plain:
        raise ValueMismatchError(value, f"{name_of(kind)} is no class that can be stored")

    return write


def _refused_reader(kind: type[object]) -> Read:
    raise StructureHandlerNotFoundError(f"{name_of(kind)} is no class that can be stored", kind)


class UnknownClassError(Exception):
    """Values of a class cannot be stored.

    Attributes:
        name: The name of the class.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


class _Finder(Converter):
    """Finds the functions for an annotation: those for an enum by the enum.

    cattrs would find one whose members are texts or numbers, too, by that class alone.
    """

    def __init__(self) -> None:
        super().__init__(detailed_validation=False, forbid_extra_keys=False)
        self._registered: set[object] = set()

    def add_class(self, kind: type[object], write: Write, read: Read) -> None:
        """Add how values of a class and its subclasses are written and read."""
        self._registered.add(kind)
        self.register_unstructure_hook(kind, write)
        self.register_structure_hook(kind, read)

    def add_enums(self, write: WriteMember, read: Read) -> None:
        """Add how members of all enums are written and read that are not added by themselves."""
        self._write_member = write
        self._read_member = read

    def get_unstructure_hook(self, type: Kind, cache_result: bool = True) -> Write:  # noqa: A002, FBT001, FBT002 - as in cattrs
        if self._is_enum(type):
            return functools.partial(self._write_member, type)
        return super().get_unstructure_hook(type, cache_result)

    def get_structure_hook(self, type: Kind, cache_result: bool = True) -> Read:  # noqa: A002, FBT001, FBT002 - the same
        return self._read_member if self._is_enum(type) else super().get_structure_hook(type, cache_result)

    def _is_enum(self, kind: Kind) -> TypeGuard[type[Enum]]:
        return isinstance(kind, EnumType) and kind not in self._registered


class Hooks:
    """Writes and reads values by annotation, with the functions that were added for it."""

    def __init__(self) -> None:
        self._cattrs = _Finder()
        self._classes: tuple[type[object], ...] = ()
        self._whole: tuple[type[object], ...] = ()

    def is_derived(self, kind: type[object]) -> bool:
        """Return whether a class is a subclass of one that was added with `add_class`, and none of these itself."""
        return issubclass(kind, self._classes) and kind not in self._classes

    def write(self, value: object, kind: Kind) -> Plain:
        """Return a value as plain data, written by its annotation."""
        return self._cattrs.get_unstructure_hook(kind)(value)

    def read(self, plain: object, kind: Kind) -> object:
        """Return the value that plain data is read as, by its annotation."""
        # What Converter.structure does, which is declared for classes only.
        return self._cattrs.get_structure_hook(kind)(plain, kind)

    def writer(self, kind: Kind) -> Write:
        """Return a function that writes values of an annotation.

        The annotation is looked up at each value, not here: a class may contain itself.
        """
        return lambda value: self.write(value, kind)

    def reader(self, kind: Kind) -> Callable[[object], object]:
        """Return a function from plain data to a value of an annotation.

        The annotation is looked up at each value, as in `writer`.
        """
        find = self._cattrs.get_structure_hook
        return lambda plain: find(kind)(plain, kind)

    def fields_writer(self, kind: Kind, kinds: Mapping[str, Kind]) -> Write:
        """Return a function that writes the fields of an attrs class or a dataclass, as a dict.

        Args:
            kind: The class.
            kinds: The annotations of fields that have others than the class says.
        """
        overrides = {name: override(unstruct_hook=self.writer(each)) for name, each in kinds.items()}
        return _fields_writer(kind, self._cattrs, _cattrs_include_init_false=True, **overrides)

    def fields_reader(
        self, kind: Kind, kinds: Mapping[str, Kind], left_out: Iterable[str], *, has_keyword_first: bool
    ) -> Read:
        """Return a function that makes an instance from a dict of fields.

        Args:
            kind: The class.
            kinds: The annotations of fields that have others than the class says.
            left_out: The names of fields that are not read.
            has_keyword_first: Whether a field that is given by keyword stands before one that is given by position.
        """
        overrides = {name: override(struct_hook=_without_kind(self.reader(each))) for name, each in kinds.items()}
        overrides |= {name: override(omit=True) for name in left_out}
        # Without detailed validation cattrs gives such fields in that order, which is no Python.
        options = {"_cattrs_include_init_false": True, "_cattrs_detailed_validation": has_keyword_first}
        read = _fields_reader(kind, self._cattrs, **options, **overrides)
        return _bare(read) if has_keyword_first else read

    def find(self, kind: Kind) -> None:
        """Find how values of an annotation are read; whatever an annotation in quotes raises is raised here.

        Raises:
            UnknownClassError: If there is no way for the annotation, or for a part of it.
        """
        try:
            self._cattrs.get_structure_hook(kind)
        except StructureHandlerNotFoundError as error:
            raise UnknownClassError(name_of(error.type_)) from None

    def add_class(self, kind: type[object], write: Write, read: Read) -> None:
        """Add how values of a class and its subclasses are written and read; comes before all that `add` adds."""
        self._classes += (kind,)
        self._cattrs.add_class(kind, write, read)

    def add_enums(self, write: WriteMember, read: Read) -> None:
        """Add how members of all enums are written and read, whatever other bases these have."""
        self._cattrs.add_enums(write, read)

    def add_exactly(self, kind: type[object], write: Write, read: Read) -> None:
        """Add how values of one class are written and read, not those of its subclasses; nothing else looks at it."""
        self._whole += (kind,)
        if self.is_derived(kind):
            # What `add_class` has added comes before all that `add` adds.
            self.add_class(kind, write, read)
        else:
            self.add(is_kind_of(kind), lambda _: write, lambda _: read)

    def is_whole(self, kind: Kind) -> bool:
        """Return whether an annotation was added with `add_whole` or `add_exactly`, whatever parameters it has."""
        return is_kind_of(*self._whole)(kind)

    def add_whole(self, kind: type[object], write: Write, read: Read) -> None:
        """Add how values of one class are written and read whatever its parameters are, which nothing else looks at."""
        self._whole += (kind,)
        self.add(is_kind_of(kind), lambda _: write, lambda _: read)

    def refuse(self, fits: Callable[[Kind], bool]) -> None:
        """Keep no values of the annotations that fit, whatever cattrs would make of them."""
        self._cattrs.register_unstructure_hook_factory(fits, _refused_writer)
        self._cattrs.register_structure_hook_factory(fits, _refused_reader)

    def add(
        self,
        fits: Callable[[Kind], TypeGuard[K]],
        make_write: Callable[[K], Write],
        make_read: Callable[[K], Read],
    ) -> None:
        """Add how values of all annotations that fit are written and read; what is added later comes first."""
        self._cattrs.register_unstructure_hook_factory(fits, make_write)
        self._cattrs.register_structure_hook_factory(fits, make_read)
