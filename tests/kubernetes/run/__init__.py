"""From load to pods: a real coordinator, a real router and real engines, on the API server of the tests."""
