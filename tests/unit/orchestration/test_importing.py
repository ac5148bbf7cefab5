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
