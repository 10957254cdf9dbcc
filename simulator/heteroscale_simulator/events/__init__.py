"""The plant request by request: slow and plain, so that the flow can be held against it."""
