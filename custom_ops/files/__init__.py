"""Files: those of strangers, read with care, and one's own, written whole."""
