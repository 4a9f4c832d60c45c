"""Tools for authors of methods: checkpoints, training folders, atomic writes, seeded draws."""
