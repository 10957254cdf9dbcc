"""Signals of running services from a Prometheus, asked every few seconds.

``look`` asks once · ``rising`` makes counters that only grow · ``gather`` turns a look into samples ·
``roll`` tells which engine is which instance, and which came and went · ``watcher`` does it for one
service, again and again · ``room`` has a watcher for each service that wants one · ``told`` says how it
goes. Whatever happens to one of them, the turn goes on, and so do the others.
"""
