"""KV caches on their way from a prefill engine to a decode engine, on either side.

On the prefill side the blocks of a finished prompt are held until they are fetched, or too long. On the
decode side a sequence gets its blocks, waits for the link, and joins with its prompt computed but for the
last token (the first answer token needs that one's computation), as in vLLM.
"""

from dataclasses import dataclass

from triplane.inference.simulated_engine.prefix_cache import BlockPool
from triplane.inference.simulated_engine.roofline import Roofline
from triplane.inference.simulated_engine.sequence import Sequence


@dataclass
class Held:
    """Blocks that wait for a decode engine until `free_at`. `is_fetched`: they are being read."""

    blocks: list[int]
    tokens: int
    free_at: float
    is_fetched: bool = False


class Transfers:
    def __init__(self, pool: BlockPool, roofline: Roofline) -> None:
        self._pool = pool
        self._roofline = roofline
        self._held: dict[int, Held] = {}
        self._arriving: list[tuple[float, Sequence]] = []
        self._link_free_at = 0.0

    @property
    def held(self) -> int:
        """Finished prompts whose blocks are held for a decode engine."""
        return len(self._held)

    @property
    def arriving(self) -> int:
        """Sequences whose KV cache is being fetched."""
        return len(self._arriving)

    def hold(self, sequence: Sequence, until: float) -> None:
        self._held[sequence.number] = Held(sequence.blocks, sequence.computed, until)
        sequence.blocks = []

    def blocks_of(self, number: int) -> list[int]:
        """The blocks that are held for this sequence."""
        return list(self._held[number].blocks)

    def read(self, number: int, now: float) -> Held | None:
        """A decode engine fetches this sequence's blocks: they are free once the transfer is over.

        None if they aren't held, or are fetched already.
        """
        held = self._held.get(number)
        if held is None or held.is_fetched:
            return None
        held.is_fetched = True
        held.free_at = now + self._roofline.transfer_seconds(held.tokens)
        return held

    def expire(self, now: float) -> int:
        """Free what has been fetched or has waited too long; how many were never fetched."""
        over = [number for number, held in self._held.items() if held.free_at <= now]
        unfetched = 0
        for number in over:
            held = self._held.pop(number)
            self._pool.release(held.blocks)
            unfetched += not held.is_fetched
        return unfetched

    def fetch(self, sequence: Sequence, now: float) -> None:
        """Begin to fetch the KV cache of its prompt. One transfer at a time has the link."""
        sequence.transferred_tokens = max(0, len(sequence.prompt) - 1 - sequence.computed)
        begun = max(now, self._link_free_at)
        self._link_free_at = begun + self._roofline.transfer_seconds(sequence.transferred_tokens)
        self._arriving.append((self._link_free_at, sequence))

    def arrived(self, now: float) -> list[Sequence]:
        """Those whose KV cache is here by now."""
        here = [sequence for at, sequence in self._arriving if at <= now]
        if here:
            self._arriving = [entry for entry in self._arriving if entry[0] > now]
            for sequence in here:
                sequence.computed += sequence.transferred_tokens
                sequence.reached = sequence.computed
        return here

    def forget(self, sequence: Sequence) -> bool:
        """Stop fetching; whether it was being fetched."""
        left = [entry for entry in self._arriving if entry[1] is not sequence]
        was_there = len(left) < len(self._arriving)
        self._arriving = left
        return was_there

    def next_event(self) -> float | None:
        """When the next transfer ends or the next hold expires."""
        times = [at for at, _ in self._arriving]
        times += [held.free_at for held in self._held.values()]
        return min(times, default=None)
