"""Getting datasets: fetching their archives and unpacking them."""
