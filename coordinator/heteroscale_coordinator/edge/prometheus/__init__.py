"""Signals by PromQL from a Prometheus that scrapes the engines already: nothing is installed on nodes.

``spec`` is what a user writes · ``promql`` makes the queries · ``client`` asks · ``answers`` reads ·
``identify`` tells instances, engines and roles by labels. All but the client are pure.
"""
