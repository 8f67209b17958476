"""Data sets in four disjoint parts, where they come from, and batches of them on a device."""
