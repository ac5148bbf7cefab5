"""Counts of texts that come again with every turn (the policy, the tools), asked for once."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b

MAX_COUNTS = 512


class TokenCounts:
    """The last counts of one engine's tokenizer, by the texts' digests: no text is kept."""

    def __init__(self) -> None:
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    async def of(self, text: str, ask: Callable[[str], Awaitable[int]]) -> int:
        """The tokens of the text, asked for if they aren't known."""
        if not text:
            return 0
        digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        known = self._counts.get(digest)
        if known is None:
            known = self._counts[digest] = await ask(text)
            if len(self._counts) > MAX_COUNTS:
                self._counts.popitem(last=False)
        self._counts.move_to_end(digest)
        return known
