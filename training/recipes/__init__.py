"""How the bundled weights were made: one file for each."""
