"""The gateway as a service of its own: an OpenAI-compatible proxy that needs no database."""
