"""A draft whose log can't be written: what it may show then, and what not."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triplane.domain.errors import StoreUnavailable
from triplane.domain.events import Delta, LogEntry
from triplane.orchestration.draft import FLUSH_S, SURE_S, Draft, _until_next_moment
from triplane.orchestration.ports import Renewal


class Owner:
    """An owner without a log, whose clock stands still unless it is set."""

    def __init__(self, renewal: Renewal) -> None:
        self.now = 0.0
        self.shown: list[LogEntry] = []
        self.interrupted = asyncio.Event()
        self._renewal = renewal
        self.draft = Draft(
            append=self._append,
            show=self.shown.extend,
            renew=self._renew,
            interrupt=lambda _: self.interrupted.set(),
            clock=lambda: self.now,
        )

    async def _append(self, entries: list[LogEntry]) -> bool:
        raise StoreUnavailable("away")

    async def _renew(self, text: str, position: int) -> Renewal:
        return self._renewal


async def test_without_a_log_an_owner_shows_what_it_has_while_its_lease_is_sure() -> None:
    owner = Owner("lost")
    async with owner.draft as draft:
        draft.add(Delta(text="a"))
        await draft.settle()
    assert [entry.event for entry in owner.shown] == [Delta(text="a")]


@pytest.mark.parametrize(("renewal", "is_shown"), [("held", True), ("lost", False)])
async def test_an_owner_that_may_have_slept_shows_nothing_before_it_has_asked(
    renewal: Renewal, is_shown: bool
) -> None:
    owner = Owner(renewal)
    async with owner.draft as draft:
        owner.now = SURE_S
        draft.add(Delta(text="a"))
        await draft.settle()
    assert bool(owner.shown) == is_shown
    assert draft.is_lost == owner.interrupted.is_set() == (not is_shown)


@given(now=st.floats(min_value=0, max_value=1e6))
def test_drafts_that_wait_wake_at_moments_that_all_share(now: float) -> None:
    wait_s = _until_next_moment(now)
    moments = (now + wait_s) / FLUSH_S
    assert abs(moments - round(moments)) < 1e-3
    assert 0 < wait_s <= FLUSH_S + 0.0021
