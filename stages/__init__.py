"""DVC stages: one module, one command; each reads, calls the library and writes."""
