"""Metrics: one catalogue, used by the worker, the dashboards and the tests."""
