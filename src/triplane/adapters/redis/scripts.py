"""A script that Redis runs, by the name that Redis itself gives it."""

from hashlib import sha1


class Script:
    """`sha` is what EVALSHA wants."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
