"""What stops a command: one plain sentence that says what to do."""


class CommandFailed(Exception):
    """The command can't do what was asked."""
