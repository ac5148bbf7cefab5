"""One request as the scheduler sees it: tokens to compute, blocks that hold them, and what was counted."""

from dataclasses import dataclass, field

from triplane.inference.simulated_engine.roofline import BLOCK_TOKENS

NOT_YET = -1.0


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """`answer` is what it will generate, token by token. Times are simulated seconds.

    `keep_for_decode`: a prefill whose blocks stay, when it ends, until a decode engine has fetched them.
    `from_prefill`: its prompt's KV cache is fetched from a prefill engine. `slow_factor` stretches every
    step that it is part of. With `only_reads` its answer is a vector: one place in `answer`, and no token.
    """

    number: int
    prompt: list[str]
    answer: list[str]
    arrived: float = 0.0
    priority: int = 0
    cache_salt: str = ""
    keep_for_decode: bool = False
    from_prefill: bool = False
    slow_factor: float = 1.0
    only_reads: bool = False

    computed: int = 0
    """Tokens whose keys and values are in `blocks`."""
    generated: int = 0
    blocks: list[int] = field(default_factory=list)
    published: int = 0
    is_aborted: bool = False

    cached_tokens: int = 0
    """Prompt tokens that the prefix cache had at the first admission."""
    transferred_tokens: int = 0
    prompt_computed: int = 0
    """Prompt tokens computed here, each counted once."""
    recomputed: int = 0
    """Tokens computed again after a preemption."""
    reached: int = 0
    """The furthest that `computed` has been: less than that is computed again."""
    preemptions: int = 0
    first_admitted: float = NOT_YET
    first_token: float = NOT_YET
    last_token: float = NOT_YET

    hashes: list[int] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, int]:
        """Who comes first: the lower priority number, then the earlier arrival."""
        return (self.priority, self.number)

    @property
    def length(self) -> int:
        return len(self.prompt) + self.generated

    @property
    def missing(self) -> int:
        """Tokens to compute before the next one can be generated; 1 while decoding."""
        return self.length - self.computed

    @property
    def is_finished(self) -> bool:
        return self.generated == len(self.answer)

    @property
    def most_tokens(self) -> int:
        """The tokens that its blocks must hold in the end: all but the last one generated."""
        return len(self.prompt) + len(self.answer) - 1

    def hashes_up_to(self, blocks: int) -> list[int]:
        """The hashes of its first full blocks; each covers the salt and all tokens before."""
        hashes = self.hashes
        prompt = len(self.prompt)
        for index in range(len(hashes), blocks):
            start, end = index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS
            tokens = self.prompt[start:end]
            if end > prompt:
                tokens += self.answer[max(0, start - prompt) : end - prompt]
            before = hashes[-1] if hashes else self.cache_salt
            hashes.append(hash((before, *tokens)))
        return hashes[:blocks]

    def count_computed(self, tokens: int) -> None:
        """These tokens have been computed here: book each of them as new or as done again."""
        start, end = self.computed, self.computed + tokens
        self.recomputed += max(0, min(end, self.reached) - start)
        new_prompt = min(end, len(self.prompt)) - max(start, self.reached)
        self.prompt_computed += max(0, new_prompt)
        self.computed = end
        self.reached = max(self.reached, end)


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
