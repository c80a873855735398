"""A verification as a page to look at: one HTML file that needs nothing else, and its pictures beside it as PNG."""

from .page import prepare_folder, write_report

__all__ = ["prepare_folder", "write_report"]
