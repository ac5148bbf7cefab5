"""The history that a turn's prompt begins with, and the summary that is made before it outgrows the prompt.

A window that fits is used as it is. One that doesn't is cut, to where the newest summary of its messages
ends, if there is one. Summaries are made ahead by a job, while there is still room, so that a turn never
waits for one; what is cut before its summary is ready is told again from the next cut on.
"""

import msgspec

from triplane.domain.conversation import NewMessage, OpenedTurn, Principal, StoredMessage
from triplane.orchestration.history_ports import HistoryStore, HotWindow, Window
from triplane.orchestration.ports import Job, TurnObserver
from triplane.orchestration.prompt import Budget, cut_window, fits, newest_within, window_tokens
from triplane.orchestration.summaries import SUMMARISE, SummaryJob


async def read_window(
    who: Principal, opened: OpenedTurn, hot: HotWindow, store: HistoryStore, observer: TurnObserver
) -> Window:
    """What stands before this turn, from the hot window; on a miss from the store."""
    if opened.parent_id is None:
        return Window(leaf_id="", messages=[])
    window = await hot.get(who.tenant_id, opened.conversation.id)
    hit = window is not None and window.leaf_id == opened.parent_id
    observer.hot_window_read(hit=hit)
    if window and hit:
        return window
    return await store.window(who, opened.conversation.id, opened.parent_id)


async def fit_window(
    who: Principal,
    conversation_id: str,
    window: Window,
    new: list[NewMessage],
    budget: Budget,
    store: HistoryStore,
) -> Window:
    """The window as it is, if it fits; else cut, with the newest summary there is."""
    if fits(window, new, budget):
        return window
    newer = await store.newest_summary(who, conversation_id, [row.id for row in window.messages])
    return cut_window(window, newer, new, budget)


def summary_due(before: Window, after: Window, budget: Budget, *, was_cut: bool) -> str | None:
    """The message right before which a summary should now end, if one should be made.

    That is when the window grows over three quarters of the room: by the time it has to be cut, the quarter
    that this leaves has grown to about half. And it is when something was cut that no summary tells of.
    """
    room = budget.for_messages
    is_filling = window_tokens(after, budget) > room * 3 // 4
    was_filling = window_tokens(before, budget) > room * 3 // 4
    if is_filling and (was_cut or not was_filling):
        kept = newest_within(after.messages[1:], room // 4, budget) or _last_question(after)
        if kept:
            return kept[0].id
    told_upto = after.summary.from_message_id if after.summary else None
    first = next((row.id for row in after.messages), None)
    return first if was_cut and first != told_upto else None


def _last_question(window: Window) -> list[StoredMessage]:
    return [row for row in window.messages[1:] if row.role == "user"][-1:]


def summary_job(who: Principal, conversation_id: str, model: str, before_id: str) -> Job:
    job = SummaryJob(
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        conversation_id=conversation_id,
        before_id=before_id,
        model=model,
    )
    return Job(
        entrypoint=SUMMARISE,
        payload=msgspec.json.encode(job),
        dedupe_key=f"{SUMMARISE}:{conversation_id}:{before_id}",
    )
