"""One row of facts per dataset; nothing here is heavier than a `DatasetSpec`."""
