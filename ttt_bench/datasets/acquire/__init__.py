"""Getting datasets: their state on disk, downloading, unpacking."""
