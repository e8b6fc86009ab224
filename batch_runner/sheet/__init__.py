"""Spreadsheets: reading, cell text, writing. Knows nothing of tasks."""
