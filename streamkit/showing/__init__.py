"""How things look: words for amounts, HTML for notebooks, plots, tables of rows, progress. Knows of no service."""
