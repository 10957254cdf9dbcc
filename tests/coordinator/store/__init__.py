"""One contract for every store, and what only files suffer."""
