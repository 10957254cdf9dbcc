"""Things to try HeteroScale with: a simulated engine, a load generator, the demo."""
