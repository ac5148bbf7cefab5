"""The product's words, without I/O. Every room may import these; these import no room."""
