"""Metrics as users have them: put and asked for in one place, and kept in a table across restarts."""
