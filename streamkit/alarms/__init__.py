"""Threshold alarms over metrics, with the semantics of CloudWatch."""
