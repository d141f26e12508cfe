"""A run: its settings, its folder, its checkpoint, the record of where it ran."""
