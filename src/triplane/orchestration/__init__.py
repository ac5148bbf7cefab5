"""The orchestration plane: who you are, what you said, what applies. Start reading at `turn.py`."""
