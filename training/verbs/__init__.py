"""The verbs of ``python -m training``, one file each: what it asks for, and what it does."""
