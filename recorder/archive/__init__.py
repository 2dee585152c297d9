"""What is on disk: journal, Parquet parts, and what makes one of the other."""
