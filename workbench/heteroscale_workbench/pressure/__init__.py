"""The pressure test: the best P:D ratio of a service, and the targets that just hold its SLO.

The paper's ``PressureTest(service, workload)`` (Algorithm 1): a deployment is driven through P:D counts
and loads. ``heteroscale profile`` does it on a real deployment, or on the simulator's plant.
"""
