"""An HTTP API server that answers as a real one does in all that the product asks of it.

What it cannot do it refuses loudly (404, 415, 501), so that no test passes on a silent difference.
"""
