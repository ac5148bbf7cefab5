"""Side-by-side measurements: all planes against the bare engine, in one run. `python -m bench`."""
