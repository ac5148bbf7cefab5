"""The crash suite: real processes that are killed at random instants, and a checker over what clients saw."""
