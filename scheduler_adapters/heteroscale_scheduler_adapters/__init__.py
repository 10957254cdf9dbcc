"""How sub-clusters are driven: one adapter per cluster scheduler, behind one port.

Bare metal needs none: agents launch and stop engines themselves, and say what stands on their hosts.
"""
