"""Builder of the default input, a snapshot of Debian. The package does not import it."""
