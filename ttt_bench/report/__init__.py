"""How results look: tables for the terminal and for Markdown."""
