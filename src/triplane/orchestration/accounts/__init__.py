"""Who asks: sign-in links, sessions, API keys. As little as is safe."""
