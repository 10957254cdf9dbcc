"""What a run leaves behind: JSON, a page to look at, and tables to recompute it from."""
