"""Metrics: what every service reports, kept in windows and shown to Prometheus."""
