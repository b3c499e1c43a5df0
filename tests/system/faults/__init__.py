"""Faults in a running cluster, under load: what becomes of the requests and what an operator sees."""
