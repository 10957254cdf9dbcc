"""What deploy/kubernetes ships: resolved as kustomize does, applied to the tests' API server, and run."""
