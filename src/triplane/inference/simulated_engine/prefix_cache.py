"""The KV cache's blocks: who holds them, and which can be shared because they begin with the same tokens.

A block that nobody holds keeps its content until it is needed for something else, the least recently used
first. As in vLLM, a block's hash covers all tokens up to its end, so equal hashes mean equal prefixes.
"""

from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """`size` blocks. A block is free (maybe with content that can be found again) or held, once or more."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("A KV cache needs one block at least.")
        self.size = size
        self._holders = [0] * size
        self._hash_of: list[int | None] = [None] * size
        self._block_of: dict[int, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(size))

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.size - len(self._free)

    def find(self, hashes: Sequence[int]) -> list[int]:
        """The blocks of the longest prefix that is here. Nobody holds them yet: `take` them at once."""
        found = []
        for value in hashes:
            block = self._block_of.get(value)
            if block is None:
                break
            found.append(block)
        return found

    def take(self, found: Sequence[int], new: int) -> list[int] | None:
        """Hold these found blocks and `new` empty ones; None, and nothing changes, if there are too few."""
        idle = sum(1 for block in found if self._holders[block] == 0)
        if len(self._free) - idle < new:
            return None
        for block in found:
            if self._holders[block] == 0:
                del self._free[block]
            self._holders[block] += 1
        return [*found, *(self._take_oldest() for _ in range(new))]

    def publish(self, block: int, value: int) -> None:
        """A held block is full: others may find it. If another has the same content, that one stays found."""
        if self._hash_of[block] is None and value not in self._block_of:
            self._hash_of[block] = value
            self._block_of[value] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Give blocks back. The last ones are the first to be used anew: they are the least shareable."""
        for block in reversed(blocks):
            assert self._holders[block] > 0
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free[block] = None

    def forget(self) -> None:
        """Forget all content: nothing is found any more."""
        self._block_of.clear()
        self._hash_of = [None] * self.size

    def _take_oldest(self) -> int:
        block, _ = self._free.popitem(last=False)
        value = self._hash_of[block]
        if value is not None:
            del self._block_of[value]
            self._hash_of[block] = None
        self._holders[block] = 1
        return block
