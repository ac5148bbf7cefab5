"""Wiring: builds each process from the rooms, one file a process. It knows everything and decides nothing."""
