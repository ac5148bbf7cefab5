"""Reading files of conversations, without a store."""

import json
import threading
from typing import Any

import pytest

from triplane.domain.conversation import Principal
from triplane.orchestration import importing
from triplane.orchestration.foreign_chats import nearest_shown, read_chatgpt
from triplane.orchestration.importing import Imported, Opened, import_conversations, open_file
from triplane.orchestration.transfer import MOST_MESSAGES, ConversationRefused, TransferredConversation

WHO = Principal(tenant_id="tenant_1", user_id="user_1")


class Written:
    """A `TransferStore` that keeps what is added."""

    def __init__(self) -> None:
        self.conversations: list[TransferredConversation] = []

    async def add(self, who: Principal, source: str, conversation: TransferredConversation) -> bool:
        self.conversations.append(conversation)
        return True


async def imported(file: Any) -> tuple[Imported, list[TransferredConversation]]:
    store = Written()
    told = await import_conversations(WHO, open_file(json.dumps(file).encode()), store)  # type: ignore[arg-type]
    return told, store.conversations


class Counting(dict[str, str | None]):
    """Parents, and how often one was looked up."""

    looked_up = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(name, default)


def test_a_long_chain_of_hidden_nodes_is_climbed_once() -> None:
    chain = Counting({str(place): str(place - 1) for place in range(1, 1000)})

    found = {nearest_shown(str(place), chain, {"0"}) for place in range(1000)}

    assert found == {"0"}
    assert chain.looked_up < 3000


def test_a_conversation_with_too_many_messages_is_refused() -> None:
    def message(text: str) -> dict[str, Any]:
        return {"author": {"role": "user"}, "content": {"parts": [text]}}

    mapping = {str(place): {"message": message("x")} for place in range(MOST_MESSAGES + 1)}
    with pytest.raises(ConversationRefused, match="more than 20,000 messages"):
        read_chatgpt(json.dumps({"mapping": mapping}).encode())


async def test_conversations_are_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def broken(raw: object) -> TransferredConversation:
        readers.append(threading.current_thread())
        raise ConversationRefused("It is broken.")

    monkeypatch.setattr(importing, "read_chatgpt", broken)
    opened = Opened("chatgpt", open_file(b'[{"mapping": {}, "title": "Boats"}]').conversations)

    told = await import_conversations(WHO, opened, Written())  # type: ignore[arg-type]

    assert [(each.title, each.reason) for each in told.skipped] == [("Boats", "It is broken.")]
    assert readers[0] is not threading.main_thread()


MESSAGE = {"id": "m", "role": "user", "content": "Hi", "created_at": "2026-01-02T03:04:05Z"}
OURS = {
    "id": "c",
    "title": "Boats",
    "created_at": "2026-01-02T03:04:05Z",
    "updated_at": "2026-01-02T03:04:05Z",
    "messages": [MESSAGE],
}


def ours(**changes: Any) -> dict[str, Any]:
    return {"object": "triplane.export", "version": 1, "conversations": [OURS | changes]}


async def test_a_file_of_ours_is_imported_as_it_is() -> None:
    settings = {"temperature": 2, "max_tokens": 5, "model": "small"}
    told, (written,) = await imported(ours(settings=settings, metadata={"a": "b"}))
    assert (told.skipped, written.settings.max_tokens, written.metadata) == ([], 5, {"a": "b"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"messages": [MESSAGE | {"status": "streaming"}]}, "streaming"),
        ({"settings": {"temperature": 9}}, "settings.temperature"),
        ({"settings": {"top_p": -1}}, "settings.top_p"),
        ({"settings": {"max_tokens": 0}}, "settings.max_tokens"),
        ({"settings": {"model": "x" * 201}}, "settings.model"),
        ({"settings": {"instructions": "x" * 8001}}, "settings.instructions"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"updated_at": "2300-01-01T00:00:00Z"}, "still to come"),
        ({"created_at": "1969-12-31T23:59:59Z"}, "before 1970"),
        ({"messages": [MESSAGE | {"created_at": "9999-01-01T00:00:00Z"}]}, "still to come"),
        ({"created_at": "2026-01-02T03:04:05"}, "no time zone"),
    ],
)
async def test_a_file_of_ours_may_have_been_changed_and_is_held_to_what_the_api_allows(
    changes: dict[str, Any], reason: str
) -> None:
    told, written = await imported(ours(**changes))
    assert written == []
    assert reason in told.skipped[0].reason


async def test_a_foreign_time_that_is_still_to_come_counts_as_none() -> None:
    message = {"author": {"role": "user"}, "content": {"parts": ["Hi"]}, "create_time": 5e9}
    _, (written,) = await imported([{"mapping": {"a": {"message": message}}, "create_time": 1.7e9}])
    assert written.messages[0].created_at == written.created_at
