"""The service and the fleet that the benchmark simulates."""

SERVICE = """
apiVersion: heteroscale/v1
kind: Service
metadata: {{name: bench}}
spec:
  model: {{name: Llama-3.1-8B, weights: bfloat16}}
  roles:
    prefill: {{template: p, gpuTypes: [H100], min: 1, max: {most}, target: 26000}}
    decode: {{template: d, gpuTypes: [H100], min: 1, max: {most}, target: 7000}}
  ratio: {{min: 0.1, max: 4}}
  slo: {{ttft: 1s, tbt: 50ms}}
  policy:
    guard: {{startup: 90s}}
"""

FLEET = """
apiVersion: heteroscale/v1
kind: Fleet
metadata: {{name: bench}}
spec:
  pools:
    - name: h100
      nodes: {nodes}
      gpuType: H100
      gpusPerNode: 8
      pricePerGpuHour: 2.8
      topology: {{name: east, nodesPerS1: 4, s1PerS2: 4}}
  startup: {{median: 60s, p90: 90s}}
  warmUp: {{duration: 20s, speed: 0.7}}
  speedJitter: 0.02
  gate: {{opening: 2s, closing: 1s}}
  telemetry: {{delay: 1s, noise: 0.02, missing: 0.005}}
"""
