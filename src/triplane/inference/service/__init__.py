"""The gateway as a service of its own: over gRPC to our API processes, over HTTP to any OpenAI client."""
