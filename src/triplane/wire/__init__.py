"""OpenAI's wire: requests as they arrive, answers and errors as they leave. Pure; both HTTP faces use it."""
