"""The reference network, its data and its trainer."""
