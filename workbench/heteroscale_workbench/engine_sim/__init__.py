"""A simulated inference engine: real HTTP, real queues, real signals; only the GPU is imagined.

``settings`` what it is told · ``job`` one request's life · ``engine`` queues and the one loop that
spends the GPU's time · ``kv`` the handover of KV from prefill to decode over TCP · ``frames`` the
bytes of answers · ``server`` the HTTP face · ``stats``/``exposition`` what /metrics says ·
``faults`` how it can misbehave.
"""
