"""How requests to models are tried again: `rt.llm.retries`."""

import pytest
import trio

import railtracks as rt
from railtracks.llm.retries import ExponentialRetry, FixedRetry, LinearRetry

NUMBERS = range(1, 6)


def pauses(retry: rt.Retry, error: Exception | None = None) -> list[float]:
    return [retry.pause_after(number, error or rt.LLMError("no")) for number in NUMBERS]


def test_pauses_grow_by_a_factor_or_a_step_or_not_at_all_45_seconds_at_most() -> None:
    assert pauses(ExponentialRetry(jitter=False)) == pytest.approx([1, 2, 4, 8, 16])
    assert pauses(ExponentialRetry(base=10, jitter=False)) == pytest.approx([1, 10, 45, 45, 45])
    assert pauses(ExponentialRetry(base=0, jitter=False)) == [1, 0, 0, 0, 0]
    assert pauses(LinearRetry(step=10, jitter=False)) == [10, 20, 30, 40, 45]
    assert pauses(FixedRetry(delay=3)) == [3] * 5
    assert ExponentialRetry(jitter=False).pause_after(1_000_000, rt.LLMError()) == pytest.approx(45)


@pytest.mark.parametrize("retry", [ExponentialRetry(base=3), LinearRetry(step=9)])
def test_a_random_pause_is_no_longer_than_it_would_be(retry: rt.Retry) -> None:
    most = [1, 3, 9, 27, 45] if isinstance(retry, ExponentialRetry) else [9, 18, 27, 36, 45]
    drawn = [pauses(retry) for _ in range(50)]
    assert all(0 <= pause <= limit + 1e-9 for row in drawn for pause, limit in zip(row, most, strict=True))
    assert len({row[4] for row in drawn}) > 1


@pytest.mark.parametrize("retry", [ExponentialRetry(jitter=False), LinearRetry(), FixedRetry(), rt.Retry(3, jitter=0)])
def test_a_provider_is_left_alone_as_long_as_it_wants_60_seconds_at_most(retry: rt.Retry) -> None:
    model = rt.llm.OpenAILLM("gpt-test", retry_approach=retry)
    assert model.retry.pause_after(1, rt.ModelRateLimitError("no", 7.5)) == 7.5
    assert model.retry.pause_after(1, rt.ModelRateLimitError("no", 3600)) == 60
    assert model.retry.pause_after(1, rt.ModelRateLimitError("no", 0)) <= 1


def test_the_longer_of_the_two_pauses_counts() -> None:
    assert FixedRetry(delay=9).pause_after(1, rt.ModelRateLimitError("no", 2)) == 9


@pytest.mark.parametrize("given", [None, FixedRetry(), rt.Retry(3), rt.Retry(3, on=(rt.LLMError, OSError))])
async def test_only_what_may_succeed_later_is_tried_again(given: rt.Retry | None) -> None:
    retry = rt.llm.AnthropicLLM("claude-test", retry_approach=given).retry
    assert retry.attempts == 3
    assert retry.is_worth(rt.ModelRateLimitError("no"))
    assert retry.is_worth(rt.LLMError("no", is_retryable=True))
    assert not retry.is_worth(rt.LLMError("no"))
    assert not retry.is_worth(rt.ModelAuthError("no"))
    handed_out = rt.ModelRateLimitError("no")
    handed_out.is_retryable = False
    assert not retry.is_worth(handed_out)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert not retry.is_worth(rt.ModelRateLimitError("no"))
        await trio.lowlevel.checkpoint()


async def test_the_own_classes_of_a_retry_are_kept() -> None:
    retry = rt.llm.OpenAILLM("gpt-test", retry_approach=rt.Retry(5, on=OSError)).retry
    assert (retry.attempts, retry.on) == (5, OSError)
    assert retry.is_worth(OSError())
    assert not retry.is_worth(rt.ModelRateLimitError("no"))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ExponentialRetry(0), ValueError),
        (lambda: ExponentialRetry(base=-1), ValueError),
        (lambda: LinearRetry(jitter="yes"), TypeError),  # type: ignore[arg-type]
        (lambda: FixedRetry(3, "long"), TypeError),  # type: ignore[arg-type]
        (lambda: rt.llm.OpenAILLM("gpt-test", retry_approach=3), TypeError),  # type: ignore[arg-type]
    ],
)
def test_impossible_retries_are_refused_where_they_are_given(make: object, error: type[Exception]) -> None:
    assert callable(make)
    with pytest.raises(error):
        make()
