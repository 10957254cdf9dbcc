"""A simulated inference engine: real HTTP, real queues, real signals; only the GPU is imagined.

``settings`` what it is told · ``job`` one request's life · ``engine`` queues and the one loop ·
``gpu`` the time it spends · ``kv`` the handover of KV from prefill to decode over TCP · ``asked`` and
``frames`` requests understood and answers made · ``server`` the HTTP face · ``process`` start and
end · ``stats`` and ``exposition`` what /metrics says · ``faults`` how it can misbehave.
"""
