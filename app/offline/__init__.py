"""Predictions and explanations in this process, with no service: what the command line is made of."""
