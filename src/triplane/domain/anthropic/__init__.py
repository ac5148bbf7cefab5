"""Anthropic's Messages API (docs.anthropic.com/en/api/messages) as words: pure, for both directions.

`requests.parse_messages_request` and `answers.MessagesEncoder` are for a client that speaks it to us; the
engine that speaks it to a vendor (`inference/engines/anthropic_http.py`) uses the same shapes.
"""
