"""From load to pods: real coordinator, router and engines, on the API server of the tests."""
