"""What a model costs: as its settings say, or as the table of genai-prices says (extra `prices`), which is offline.

Called by the run of an agent, and where an agent with a budget is made.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import trio
from attrs import frozen

from railtracks.exceptions import PriceUnknownError
from railtracks.llm import Model, Usage, settings_of

_TABLE: Final = "genai_prices"
_MILLION: Final = Decimal(1_000_000)
# Providers that nobody pays.
_UNPAID: Final = frozenset({"scripted"})


@frozen
class Price:
    """The price of a model.

    Attributes:
        asked: Dollars for a million tokens in.
        answered: Dollars for a million tokens out.
        listed: The model and the provider in the table, if the price is from there: it knows cheaper tokens, too.
    """

    asked: Decimal
    answered: Decimal
    listed: tuple[str, str] | None = None

    def of(self, usage: Usage) -> Decimal:
        """Return what an answer has cost, in dollars."""
        if self.listed is not None:
            return _listed(
                *self.listed,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cached_tokens,
                cache_write_tokens=usage.cache_write_tokens,
            )
        return (self.asked * usage.input_tokens + self.answered * usage.output_tokens) / _MILLION


async def price_of(model: Model) -> Price | None:
    """Return the price of a model, `None` if nobody knows it. The first use of the table imports it, in a thread."""
    given = settings_of(model).price
    if given is None and _needs_import(model):
        await trio.to_thread.run_sync(partial(import_module, _TABLE))
    return price_now(model)


def price_now(model: Model) -> Price | None:
    """Return the price of a model, `None` if nobody knows it. Imports the table here."""
    given = settings_of(model).price
    if given is not None:
        return Price(*given)
    if model.provider in _UNPAID or find_spec(_TABLE) is None:
        return None
    return _in_table(model.name, model.provider)


@cache
def _in_table(name: str, provider: str) -> Price | None:
    try:
        asked, answered = (_listed(name, provider, **{kind: 1_000_000}) for kind in ("input_tokens", "output_tokens"))
    except LookupError:
        return None
    return Price(asked, answered, (name, provider))


def total_cost(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Return the sum of two costs, `None` if one of them is not known."""
    return None if one is None or other is None else one + other


def unknown_price(model: Model) -> PriceUnknownError:
    """Return the error that a budget has a limit on cost, and nobody knows the price of a model."""
    how = (
        ""
        if find_spec(_TABLE) is not None
        else ", or install the table of prices:  pip install 'railtracks-trio[prices]'"
    )
    return PriceUnknownError(
        f"a budget has a limit on cost, and the price of model {model.name!r} is not known: give the model"
        f" price=(of a million tokens in, of a million tokens out), 0 for a local one{how}"
    )


def _needs_import(model: Model) -> bool:
    return model.provider not in _UNPAID and _TABLE not in sys.modules and find_spec(_TABLE) is not None


def _listed(name: str, provider: str, **tokens: int) -> Decimal:
    """Return the price of some tokens by the table.

    Raises:
        LookupError: If the model is not in it.
    """
    # Untyped: it is not there without the extra.
    table: Any = import_module(_TABLE)
    price: Decimal = table.calc_price(table.Usage(**tokens), model_ref=name, provider_id=provider).total_price
    return price
