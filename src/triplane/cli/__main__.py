"""`python -m triplane.cli`: how the supervisor starts its own program's other processes."""

from triplane.cli import run

run()
