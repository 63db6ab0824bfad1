"""weir beside its peers: direct, HAProxy, nginx, Envoy and plain TCP forwarding, in one run, in turn.

matrix.py says what is measured, peers.py with what; load.py makes one measurement, session.py all of
them; report.py (pure) turns samples into rows, ratios, tables and verdicts.
"""
