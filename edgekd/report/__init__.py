"""The matrix as a self-contained HTML page and as Markdown."""
