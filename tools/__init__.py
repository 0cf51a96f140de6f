"""How files that travel with the project were made."""
