"""CSV and TSV files: reading them, and writing them back with new columns."""
