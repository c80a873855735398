"""Run one network in every runtime at hand and compare every spike of every population, a few samples at a time."""

from .compare import verify
from .counts import Disagreement, LayerCheck
from .result import Note, Verification, Votes, json_text, merged, read_json, write_json

__all__ = [
    "Disagreement",
    "LayerCheck",
    "Note",
    "Verification",
    "Votes",
    "json_text",
    "merged",
    "read_json",
    "verify",
    "write_json",
]
