"""Tests of the HTTP interface, over real connections."""
