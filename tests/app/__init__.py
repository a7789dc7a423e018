"""Tests of the modules directly in `app`."""
