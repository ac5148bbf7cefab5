"""The HTTP face: routes that parse, call and present. Imported by `main` alone."""
