"""Timings of mvcore against a hand-written loop and against multivae, all with the same networks."""
